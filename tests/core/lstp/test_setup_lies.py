"""A middle that changes anything of an end's setup in clear is found out (X3, X5)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tunnelkit.core.lstp.setup import Partner, Setup, Verification, Verified
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.lstp import Hop, derive_common, encode_body

COMMON, OTHER = derive_common(b"r" * 32, "office"), derive_common(b"r" * 32, "lab")
MIDDLE = Hop("m", "middle", "192.0.2.1:7000", "5" * 32).fields()
Lie = Callable[[dict[str, Any], list[dict[str, Any]]], None]


def change_info(**fields: Any) -> Lie:
    return lambda info, hops: info.update(fields)


def change_hop(place: int, **fields: Any) -> Lie:
    return lambda info, hops: hops[place].update(fields)


LIES: dict[str, Lie] = {
    "unique": change_info(unique="mallory"),
    "unique of another allowed peer": change_info(unique="carol"),
    "role": change_info(role="both"),
    "role made the same": change_info(role="server-end"),
    "common": change_info(common=OTHER),
    "version": change_info(version=2),
    "an added field": change_info(later=1),
    "the end's name": change_hop(0, name="mallory"),
    "the end's role": change_hop(0, role="both"),
    "the end's address": change_hop(0, address="elsewhere"),
    "the end's nonce, smaller": change_hop(0, nonce="0" * 32),
    "the end's nonce, larger": change_hop(0, nonce="f" * 32),
    "the end's nonce, equal to the other's": change_hop(0, nonce="9" * 32),
    "the middle's name": change_hop(1, name="n"),
    "the middle's address": change_hop(1, address="192.0.2.2:7000"),
    "the middle's nonce": change_hop(1, nonce="6" * 32),
    "the middle as an end": change_hop(1, role="both"),
    "a middle more": lambda info, hops: hops.append({**MIDDLE, "name": "n"}),
    "no middle": lambda info, hops: hops.remove(hops[1]),
}


def forwarded(setup: Setup, lie: Lie | None = None) -> bytes:
    """What a middle sends to the other end of ``setup``."""
    setup.data_to_send()
    hops = [setup.hop.fields(), dict(MIDDLE)]
    raw = setup.raw_info
    if lie is not None:
        info = json.loads(raw)
        lie(info, hops)
        if info != json.loads(raw):
            raw = json.dumps(info).encode()
    return encode_body(1, raw) + encode_body(2, json.dumps({"hops": hops}).encode())


def run(lie: Lie | None) -> list[Code | None]:
    """Both ends' outcome: the code of the refusal, or None for a verified tunnel.

    TLS between them is taken for granted, whatever the election said: the
    comparison may not depend on it.
    """
    alice = Setup(COMMON, "alice", "client-end", "here", 0.0, nonce="8" * 32)
    bob = Setup(COMMON, "bob", "server-end", "there", 0.0, nonce="9" * 32)
    try:
        (to_alice,) = alice.receive(forwarded(bob), 0.0)
        (to_bob,) = bob.receive(forwarded(alice, lie), 0.0)
    except RemoteProtocolError as error:
        return [error.code, error.code]
    assert isinstance(to_alice, Partner)
    assert isinstance(to_bob, Partner)
    checks = [
        Verification(alice, to_alice, "bob", ["bob"], 0.0),
        Verification(bob, to_bob, "alice", ["alice", "carol"], 0.0),
    ]
    sent = [check.data_to_send() for check in checks]
    outcomes: list[Code | None] = []
    for check, data in zip(checks, reversed(sent), strict=True):
        try:
            (event,) = check.receive(data, 0.0)
        except RemoteProtocolError as error:
            outcomes.append(error.code)
        else:
            outcomes.append(None if isinstance(event, Verified) else Code.INTERNAL)
    return outcomes


def test_an_honest_middle_is_accepted_by_both_ends() -> None:
    assert run(None) == [None, None]


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_towards_one_end_leaves_no_tunnel(lie: str) -> None:
    outcomes = run(LIES[lie])
    assert any(outcomes)
    assert set(outcomes) <= {
        None, Code.SETUP_MISMATCH, Code.ROLE_CONFLICT, Code.PROTOCOL,
    }  # fmt: skip
    # The end that was lied to always knows.
    assert outcomes[1] is not None


@pytest.mark.parametrize("lie", [lie for lie in LIES if "end's" in lie or "middle" in lie])
def test_a_lie_about_the_path_is_found_by_both_ends(lie: str) -> None:
    assert all(run(LIES[lie]))
