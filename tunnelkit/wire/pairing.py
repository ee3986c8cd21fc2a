"""Pairing on the wire: LSTP's 12-byte header on channel 0, and 5 messages of JSON (row Q2).

Spoken inside one TLS connection with throw-away certificates, ALPN ``tunnelkit-pair/1``; see
``docs/spec/pairing.md``.
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import IntEnum
from typing import ClassVar

import attrs

from tunnelkit.errors import Code
from tunnelkit.wire.json_body import Fields, load
from tunnelkit.wire.message_fields import body_if_any, body_of, read_code, read_reason, short
from tunnelkit.wire.message_set import MessageSet

ALPN = b"tunnelkit-pair/1"
VERSION = 1
INSIDE = "inside"
JOINER = "joiner"
MAX_CERTIFICATE = 4096
"""Bytes of a certificate in DER."""
MAX_WORDS = 64
"""Rules, and services, that an offer may name."""
MAX_WORD = 300

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_NAME_WORDS = "1 to 64 letters, digits, '.', '_' and '-', a letter or digit at both ends"
_PIN = re.compile(r"sha256:[0-9a-f]{64}")


class MessageType(IntEnum):
    """The type byte of the header."""

    PAKE = 1
    CONFIRM = 2
    OFFER = 3
    ACCEPT = 4
    REFUSE = 5


def _hex(fields: Fields, name: str, size: int) -> bytes:
    pattern = re.compile(f"[0-9a-f]{{{2 * size}}}")
    return bytes.fromhex(fields.matching(name, pattern, f"{2 * size} lower-case hex digits"))


def write_der(data: bytes) -> str:
    """A certificate in DER as a field has it."""
    return base64.b64encode(data).decode("ascii")


def read_der(fields: Fields, name: str) -> bytes:
    """The certificate, DER, in the field ``name``; raises `RemoteProtocolError`."""
    text = fields.text(name, (MAX_CERTIFICATE + 2) // 3 * 4, 4)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise fields.wrong(name, "a certificate in DER, as base64") from None


@attrs.frozen
class Pake:
    """Who one is and half of the key exchange; the first of the inside has no share yet."""

    type: ClassVar[MessageType] = MessageType.PAKE

    suite: str
    """Of the key exchange: ``CPACE-X25519-SHA512``."""
    nonce: bytes
    """16 random bytes."""
    name: str
    """What its certificate will say."""
    role: str
    """``inside`` or ``joiner``."""
    pin: str
    """``sha256:`` and 64 hex digits of the key that it will offer."""
    share: bytes | None = None
    """32 bytes."""
    version: int = VERSION

    def body(self) -> bytes:
        """Its fields as bytes."""
        return body_if_any(
            version=self.version,
            suite=self.suite,
            nonce=self.nonce.hex(),
            name=self.name,
            role=self.role,
            pin=self.pin,
            share=None if self.share is None else self.share.hex(),
        )

    @classmethod
    def read(cls, body: bytes) -> Pake:
        """Raises `RemoteProtocolError`."""
        fields = load(body, "PAKE")
        return cls(
            suite=fields.printable("suite", 64, 1),
            nonce=_hex(fields, "nonce", 16),
            name=fields.matching("name", _NAME, _NAME_WORDS),
            role=fields.one_of("role", (INSIDE, JOINER)),
            pin=fields.matching("pin", _PIN, "sha256: and 64 lower-case hex digits"),
            share=_hex(fields, "share", 32) if "share" in fields else None,
            version=fields.integer("version", 1, 65535),
        )


@attrs.frozen
class Confirm:
    """Proof that one knows the code, on this very connection."""

    type: ClassVar[MessageType] = MessageType.CONFIRM

    mac: bytes
    """64 bytes."""

    def body(self) -> bytes:
        """Its fields as bytes."""
        return body_of({"mac": self.mac.hex()})

    @classmethod
    def read(cls, body: bytes) -> Confirm:
        """Raises `RemoteProtocolError`."""
        return cls(_hex(load(body, "CONFIRM"), "mac", 64))


@attrs.frozen
class Offer:
    """The identity, and from the inside also how to meet it from now on."""

    type: ClassVar[MessageType] = MessageType.OFFER

    name: str
    certificate: bytes
    """DER; its key is the one whose pin PAKE named."""
    rendezvous: bytes | None = attrs.field(default=None, repr=False)
    """32 bytes, from the inside: the rendezvous secret of the tunnel."""
    tunnel: str | None = None
    """From the inside: the tunnel's name."""
    services: tuple[str, ...] = ()
    """Names of what it publishes."""
    rules: tuple[str, ...] = ()
    """What may be reached there, as its rules say it."""
    issued: bytes | None = None
    """DER, from an inside that has a CA: a certificate for the joiner's key."""
    authority: bytes | None = None
    """DER: the certificate of that CA."""

    def body(self) -> bytes:
        """Its fields as bytes."""
        return body_if_any(
            name=self.name,
            certificate=write_der(self.certificate),
            rendezvous=None if self.rendezvous is None else self.rendezvous.hex(),
            tunnel=self.tunnel,
            services=list(self.services),
            rules=list(self.rules),
            issued=None if self.issued is None else write_der(self.issued),
            authority=None if self.authority is None else write_der(self.authority),
        )

    @classmethod
    def read(cls, body: bytes) -> Offer:
        """Raises `RemoteProtocolError`."""
        fields = load(body, "OFFER")
        return cls(
            name=fields.matching("name", _NAME, _NAME_WORDS),
            certificate=read_der(fields, "certificate"),
            rendezvous=_hex(fields, "rendezvous", 32) if "rendezvous" in fields else None,
            tunnel=fields.name("tunnel") if "tunnel" in fields else None,
            services=fields.get_texts("services", MAX_WORDS, MAX_WORD),
            rules=fields.get_texts("rules", MAX_WORDS, MAX_WORD),
            issued=read_der(fields, "issued") if "issued" in fields else None,
            authority=read_der(fields, "authority") if "authority" in fields else None,
        )


@attrs.frozen
class Accept:
    """It is agreed; from the joiner first, then from the inside."""

    type: ClassVar[MessageType] = MessageType.ACCEPT

    def body(self) -> bytes:
        """Nothing."""
        return b""

    @classmethod
    def read(cls, body: bytes) -> Accept:
        """Whatever it holds is for later versions."""
        return cls()


@attrs.frozen
class Refuse:
    """No, and why; it ends the connection, and the code."""

    type: ClassVar[MessageType] = MessageType.REFUSE

    code: Code
    reason: str = ""

    def body(self) -> bytes:
        """Its fields as bytes."""
        return body_of({"code": str(self.code), "reason": short(self.reason)})

    @classmethod
    def read(cls, body: bytes) -> Refuse:
        """Raises `RemoteProtocolError`."""
        fields = load(body, "REFUSE")
        return cls(read_code(fields), read_reason(fields))


Message = Pake | Confirm | Offer | Accept | Refuse

_MESSAGES: MessageSet[Message] = MessageSet((Pake, Confirm, Offer, Accept, Refuse))

check_header = _MESSAGES.check_header
decode = _MESSAGES.decode
encode = _MESSAGES.encode
