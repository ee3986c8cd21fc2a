"""The messages of ``tests/vectors/pairing.txt``, as objects, by name."""

from __future__ import annotations

from tunnelkit.errors import Code
from tunnelkit.wire.pairing import INSIDE, JOINER, Accept, Confirm, Message, Offer, Pake, Refuse

SUITE = "CPACE-X25519-SHA512"
NONCE = bytes(range(16))
PIN = "sha256:" + "0f" * 32
OTHER_PIN = "sha256:" + "a5" * 32

MESSAGES: dict[str, Message] = {
    "pake-greeting": Pake(SUITE, NONCE, "office", INSIDE, PIN),
    "pake-share": Pake(SUITE, NONCE[::-1], "laptop", JOINER, OTHER_PIN, bytes(range(32))),
    "confirm": Confirm(bytes(range(64))),
    "offer-joiner": Offer("laptop", b"0\x03\x02\x01\x05"),
    "offer-inside": Offer(
        "office", b"0\x03\x02\x01\x05", bytes(32), "work", ("wiki",), ("tcp:10.1.2.3:22",)
    ),
    "offer-issued": Offer(
        "office",
        b"0\x03\x02\x01\x05",
        bytes(32),
        "work",
        issued=b"0\x03\x02\x01\x06",
        authority=b"0\x03\x02\x01\x07",
    ),
    "accept": Accept(),
    "refuse": Refuse(Code.WRONG_CODE, "the code did not match"),
}
