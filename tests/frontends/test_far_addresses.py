"""What BIND of the SOCKS server calls the far side."""

from __future__ import annotations

from unittest import mock

from tunnelkit.frontends.socks import far_addresses
from tunnelkit.frontends.socks.far_addresses import FarAddresses


def test_the_address_towards_the_expected_host_is_named() -> None:
    known = FarAddresses()
    assert known.named("client", "192.0.2.1", "0.0.0.0") == "0.0.0.0"
    known.connected("client", "192.0.2.1", "10.0.0.1")
    known.connected("client", "192.0.2.2", "10.0.0.2")
    known.connected("other", "192.0.2.1", "10.0.0.3")
    assert known.named("client", "192.0.2.1", "0.0.0.0") == "10.0.0.1"
    assert known.named("client", "0.0.0.0", "0.0.0.0") == "10.0.0.2"
    assert known.named("client", "198.51.100.1", "0.0.0.0") == "10.0.0.2"
    assert known.named("nobody", "192.0.2.1", "0.0.0.0") == "0.0.0.0"


def test_an_address_of_its_own_or_of_the_other_family_stays() -> None:
    known = FarAddresses()
    known.connected("client", "192.0.2.1", "10.0.0.1")
    assert known.named("client", "192.0.2.1", "127.0.0.1") == "127.0.0.1"
    assert known.named("client", "192.0.2.1", "::") == "::"


def test_only_so_many_are_remembered() -> None:
    known = FarAddresses()
    with mock.patch.object(far_addresses, "REMEMBERED", 2):
        known.connected("a", "x", "10.0.0.1")
        known.connected("b", "x", "10.0.0.2")
    assert known.named("a", "x", "0.0.0.0") == "0.0.0.0"
    assert known.named("b", "x", "0.0.0.0") == "10.0.0.2"


def test_letters_of_a_name_in_place_of_an_address_stand_for_the_name() -> None:
    """As socksify sends them for a host that it has not resolved."""
    known = FarAddresses()
    letters = ".".join(str(byte) for byte in b"ftp.")
    assert known.expected("client", letters) == letters
    known.connected("client", "ftp.corp.example", "10.0.0.1")
    assert known.expected("client", letters) == "ftp.corp.example"
    assert known.expected("other", letters) == letters
    assert known.expected("client", "192.0.2.1") == "192.0.2.1"
    for host in ("0.0.0.0", "::1", "name"):
        assert known.expected("client", host) == host


def test_an_address_that_was_connected_to_stands_for_itself() -> None:
    known = FarAddresses()
    letters = ".".join(str(byte) for byte in b"ftp.")
    known.connected("client", "ftp.corp.example", "10.0.0.1")
    known.connected("client", letters, "10.0.0.1")
    assert known.expected("client", letters) == letters
