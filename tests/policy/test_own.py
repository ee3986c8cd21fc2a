"""Which addresses are this machine's, asked of the machine itself."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest

from tunnelkit.policy import own
from tunnelkit.policy.own import is_own_address


def source_towards(address: str) -> str:
    """This machine's address in packets to ``address``; empty: there is no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::"])
def test_loopback_and_the_unspecified_address_are_this_machine(address: str) -> None:
    assert is_own_address(ip_address(address))


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "224.0.0.1", "ff02::1"])
def test_other_addresses_are_not(address: str) -> None:
    assert not is_own_address(ip_address(address))


def test_the_address_that_packets_come_from_is_this_machine() -> None:
    assert is_own_address(ip_address(source_towards("192.0.2.1") or "127.0.0.1"))


def test_a_machine_that_lets_programs_bind_to_anything_still_knows_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lax(socket.socket):
        def bind(self, address: Any) -> None:
            pass

    monkeypatch.setattr(own, "_binds_anything", lambda version: True)
    monkeypatch.setattr(socket, "socket", Lax)
    assert not is_own_address(ip_address("192.0.2.1"))
    assert not is_own_address(ip_address("2001:db8::1"))
    mine = source_towards("192.0.2.1")
    assert not mine or is_own_address(ip_address(mine))
