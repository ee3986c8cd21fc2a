"""The system's resolver: what its failures mean, and the order of addresses."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tunnelkit.egress.resolve import interleaved, look_up
from tunnelkit.errors import Code, DialError


def answering(answer: Any) -> Any:
    def getaddrinfo(*args: object, **more: object) -> list[Any]:
        if isinstance(answer, Exception):
            raise answer
        return [(0, 0, 0, "", (address, 0)) for address in answer]

    return getaddrinfo


def test_addresses_come_in_the_system_s_order_with_families_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = ["2001:db8::1", "2001:db8::2", "2001:db8::1", "192.0.2.1"]
    monkeypatch.setattr(socket, "getaddrinfo", answering(answer))
    assert look_up("a.example") == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]


def test_at_most_16_addresses_are_tried_and_none_is_fine() -> None:
    assert interleaved([]) == ()
    assert len(interleaved([f"192.0.2.{number}" for number in range(99)])) == 16


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), Code.NO_SUCH_HOST),
        (socket.gaierror(socket.EAI_FAIL, "failed"), Code.NO_SUCH_HOST),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), Code.UNREACHABLE),
        (UnicodeError("label too long"), Code.NO_SUCH_HOST),
    ],
)
def test_no_such_host_is_told_from_a_failure(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: Code
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering(error))
    with pytest.raises(DialError) as caught:
        look_up("a.example")
    assert caught.value.code is code
