"""What is asked for, and what is meant by it (rows P6, U9)."""

from __future__ import annotations

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import parse_destination
from tunnelkit.policy.mapping import Maps, parse_map


def meant(asked: str, *maps: str) -> str:
    return str(Maps(map(parse_map, maps)).meant(parse_destination(asked)))


@pytest.mark.parametrize(
    ("rule", "asked", "expected"),
    [
        ("db.x:5432=tcp:127.0.0.1:5432", "tcp:db.x:5432", "tcp:127.0.0.1:5432"),
        ("db.x:5432=127.0.0.1:5432", "tcp:DB.X.:5432", "tcp:127.0.0.1:5432"),
        ("db.x:5432=127.0.0.1:5432", "tcp:db.x:5433", "tcp:db.x:5433"),
        ("db.x:5432=127.0.0.1:5432", "tcp:a.db.x:5432", "tcp:a.db.x:5432"),
        ("*.x:80,443=tcp:127.0.0.1:*", "tcp:a.b.x:443", "tcp:127.0.0.1:443"),
        ("*.x:1-1023=[::1]:*", "tcp:a.x:22", "tcp:[::1]:22"),
        ("*:22=10.0.0.1:22", "tcp:192.0.2.1:22", "tcp:10.0.0.1:22"),
        ("192.0.2.0/24:22=10.0.0.1:22", "tcp:192.0.2.9:22", "tcp:10.0.0.1:22"),
        ("192.0.2.0/24:22=10.0.0.1:22", "tcp:name:22", "tcp:name:22"),
        ("[2001:db8::1]:22=10.0.0.1:22", "tcp:[2001:db8::1]:22", "tcp:10.0.0.1:22"),
        ("[2001:db8::/32]:22=10.0.0.1:22", "tcp:192.0.2.1:22", "tcp:192.0.2.1:22"),
        ("db:5432=unix:/run/db.sock", "tcp:db:5432", "unix:/run/db.sock"),
        ("wiki:80=service:wiki", "tcp:wiki:80", "service:wiki"),
        ("ns.x:53=udp:127.0.0.1:5353", "udp:ns.x:53", "udp:127.0.0.1:5353"),
        ("ns.x:53=udp:127.0.0.1:5353", "tcp:ns.x:53", "tcp:ns.x:53"),
        ("ns.x:53=tcp:127.0.0.1:5353", "udp:ns.x:53", "udp:ns.x:53"),
        ("*:*=127.0.0.1:1", "unix:/run/db.sock", "unix:/run/db.sock"),
        ("*:*=127.0.0.1:1", "service:@dns", "service:@dns"),
        ("*:*=127.0.0.1:1", "x11::0", "x11::0"),
        ("*:*=127.0.0.1:1", "listen:tcp:127.0.0.1:80", "listen:tcp:127.0.0.1:80"),
        ("*:*=udp:127.0.0.1:1", "udp:*", "udp:*"),
    ],
)
def test_a_request_means_what_the_map_says(rule: str, asked: str, expected: str) -> None:
    assert meant(asked, rule) == expected


def test_the_first_map_counts_and_what_it_means_is_not_mapped_again() -> None:
    maps = ("a:1=b:2", "a:1=c:3", "b:2=a:1")
    assert meant("tcp:a:1", *maps) == "tcp:b:2"
    assert meant("tcp:b:2", *maps) == "tcp:a:1"


def test_datagrams_are_mapped_by_where_they_are_sent() -> None:
    mapping = Maps([parse_map("ns.x:53=udp:127.0.0.1:5353")])
    assert mapping.meant_address("NS.x", 53) == ("127.0.0.1", 5353)
    assert mapping.meant_address("ns.x", 54) == ("ns.x", 54)
    assert mapping.meant_address("no name", 0) == ("no name", 0)
    assert Maps().meant_address("ns.x", 53) == ("ns.x", 53)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("db:5432", "there is no '='"),
        ("db=tcp:127.0.0.1:1", "ports are missing"),
        ("db:0=tcp:127.0.0.1:1", "not a port"),
        ("a b:1=tcp:127.0.0.1:1", "not a name"),
        ("10.0.0.1/8:1=tcp:127.0.0.1:1", "bits behind the prefix"),
        ("db:1=x11::0", "cannot be meant"),
        ("db:1=listen:tcp:127.0.0.1:1", "cannot be meant"),
        ("db:1=udp:*", "cannot be meant"),
        ("db:1=tcp:127.0.0.1", "port is missing"),
        ("db:1=tcp:127.1:1", "looks like an address"),
    ],
)
def test_a_wrong_map_gets_one_line_that_says_what_is_expected(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_map(text)
    assert says in str(caught.value)
    assert "expected" in str(caught.value)
