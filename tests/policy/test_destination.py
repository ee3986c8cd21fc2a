"""Destinations and forwards as text: what is read, what is refused, and that it round-trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import (
    Destination,
    destination_to,
    parse_destination,
    parse_forward,
    parse_host_port,
    parse_listen,
    to_unix_path,
)

READ = [
    ("tcp:web.example:80", "tcp", "web.example", 80, None),
    ("tcp:WEB.Example:80", "tcp", "web.example", 80, "tcp:web.example:80"),
    ("tcp:web.example.:80", "tcp", "web.example.", 80, None),
    ("tcp:a_b.example:65535", "tcp", "a_b.example", 65535, None),
    ("tcp:192.0.2.1:1", "tcp", "192.0.2.1", 1, None),
    ("tcp:[2001:DB8:0::1]:22", "tcp", "2001:db8::1", 22, "tcp:[2001:db8::1]:22"),
    ("tcp:[::ffff:127.0.0.1]:22", "tcp", "::ffff:7f00:1", 22, "tcp:[::ffff:7f00:1]:22"),
    (
        "tcp:bücher.example:443",
        "tcp",
        "xn--bcher-kva.example",
        443,
        "tcp:xn--bcher-kva.example:443",
    ),
    ("tcp:①②⑦.⓪.⓪.①:80", "tcp", "127.0.0.1", 80, "tcp:127.0.0.1:80"),
    ("udp:ns:53", "udp", "ns", 53, None),
    ("udp:*", "udp", "*", 0, None),
    ("unix:/run/x.sock", "unix", "/run/x.sock", 0, None),
    ("unix:/run/a:b=c.sock", "unix", "/run/a:b=c.sock", 0, None),
    ("x11::0", "x11", "", 0, None),
    ("x11::10.1", "x11", "", 10, "x11::10"),
    ("x11:desk.example:2", "x11", "desk.example", 2, None),
    ("x11:[::1]:0", "x11", "::1", 0, None),
    ("service:git", "service", "git", 0, None),
    ("service:@dns", "service", "@dns", 0, None),
    ("listen:tcp:0.0.0.0:0", "listen", "0.0.0.0", 0, None),
    ("listen:tcp:[::]:8080", "listen", "::", 8080, None),
]


@pytest.mark.parametrize(("text", "kind", "host", "port", "canonical"), READ)
def test_a_destination_reads_and_its_text_reads_back_the_same(
    text: str, kind: str, host: str, port: int, canonical: str | None
) -> None:
    destination = parse_destination(text)
    assert destination == Destination(kind, host, port)
    assert str(destination) == (canonical or text)
    assert parse_destination(str(destination)) == destination


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected tcp:HOST:PORT"),
        ("tcp", "expected tcp:HOST:PORT"),
        ("sctp:a:1", "expected tcp:HOST:PORT"),
        ("TCP:a:1", "expected tcp:HOST:PORT"),
        ("tcp:a", "port is missing"),
        ("tcp::80", "host is missing"),
        ("tcp:a:", "expected a number from 1 to 65535"),
        ("tcp:a:0", "expected a number from 1 to 65535"),
        ("tcp:a:65536", "expected a number from 1 to 65535"),
        ("tcp:a:+80", "expected a number from 1 to 65535"),
        ("tcp:a:٨٠", "expected a number from 1 to 65535"),
        ("tcp:a:80 ", "expected a number from 1 to 65535"),
        ("tcp:a:1-2", "expected a number from 1 to 65535"),
        ("tcp:::1:80", "in brackets"),
        ("tcp:[::1]80", "expected [IPV6-ADDRESS]:PORT"),
        ("tcp:[::1:80", "expected [IPV6-ADDRESS]:PORT"),
        ("tcp:[name]:80", "expected [IPV6-ADDRESS]:PORT"),
        ("tcp:[::1%lo]:80", "without zone"),
        ("tcp:[::g]:80", "not an IPv6 address"),
        ("tcp:127.1:80", "looks like an address"),
        ("tcp:0177.0.0.1:80", "looks like an address"),
        ("tcp:2130706433:80", "looks like an address"),
        ("tcp:0x7f000001:80", "looks like an address"),
        ("tcp:127.0.0.0x1:80", "looks like an address"),
        ("tcp:127.0.0.1.:80", "looks like an address"),
        ("tcp:256.1.1.1:80", "looks like an address"),
        ("tcp:a..b:80", "is not a name"),
        ("tcp:.:80", "is not a name"),
        ("tcp:-a:80", "is not a name"),
        ("tcp:a b:80", "is not a name"),
        ("tcp:a\nb:80", "is not a name"),
        ("tcp:a%00b:80", "is not a name"),
        ("tcp:*.example:80", "is not a name"),
        (f"tcp:{'a' * 64}:80", "is not a name"),
        (f"tcp:{'a.' * 127}a:80", "more than 253"),
        ("tcp:\u2028:80", "international name"),
        (f"tcp:{'ü' * 300}:80", "more than 253"),
        ("tcp:" + "a" * 400 + ":80", "at most 400"),
        ("unix:x.sock", "not absolute"),
        ("unix:/run/", "not absolute"),
        ("unix:/run/../etc/x", "dotted parts"),
        ("unix:/run//x", "dotted parts"),
        ("unix:/run/x\0y", "cannot be printed"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
        ("x11:0", "port is missing"),
        ("x11::", "display"),
        ("x11::59536", "at most 59535"),
        ("service:", "service's name"),
        ("service:a/b", "service's name"),
        ("listen:udp:a:1", "expected listen:tcp:HOST:PORT"),
        ("udp:*:53", "is not a name"),
    ],
)
def test_a_wrong_destination_gets_one_line_that_says_what_is_expected(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_destination(text)
    message = str(caught.value)
    assert says in message
    assert message.isprintable()
    assert message.isascii()
    assert len(message) < 350


@given(st.text(max_size=500) | st.from_regex(r"(tcp|udp|unix|x11|listen:tcp):.{0,40}:[0-9]{0,6}"))
def test_any_text_is_a_round_trip_or_a_config_error(text: str) -> None:
    try:
        destination = parse_destination(text)
    except ConfigError:
        return
    assert parse_destination(str(destination)) == destination


def test_a_destination_can_be_made_of_an_unbracketed_host() -> None:
    assert str(destination_to("tcp", "2001:DB8::1", 80)) == "tcp:[2001:db8::1]:80"
    assert str(destination_to("listen", "127.0.0.1", 0)) == "listen:tcp:127.0.0.1:0"
    with pytest.raises(ConfigError):
        destination_to("tcp", "host", 0)


@pytest.mark.parametrize(
    ("text", "address"),
    [("tcp:h1:1", False), ("tcp:1.2.3.4:1", True), ("tcp:[::1]:1", True), ("tcp:a.x1:1", False)],
)
def test_addresses_are_told_from_names(text: str, address: bool) -> None:
    assert parse_destination(text).is_address is address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("1080", "127.0.0.1", 1080),
        ("0", "127.0.0.1", 0),
        ("localhost:1080", "127.0.0.1", 1080),
        ("0.0.0.0:1080", "0.0.0.0", 1080),
        ("[::]:1080", "::", 1080),
        ("[::1]:0", "::1", 0),
    ],
)
def test_a_listener_is_on_loopback_unless_an_address_is_given(
    text: str, host: str, port: int
) -> None:
    assert parse_listen(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", ":80", "*:80", "host:80", "::1:80", "1.2.3.4:x", "70000", "a"]
)
def test_a_wrong_listener_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_listen(text)


def test_a_host_and_port_to_dial_may_be_a_name() -> None:
    assert parse_host_port("middle.example:8443") == ("middle.example", 8443)
    with pytest.raises(ConfigError):
        parse_host_port("middle.example:0")


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("8080=tcp:web:80", ["127.0.0.1:8080=tcp:web:80"]),
        ("8080=web:80", ["127.0.0.1:8080=tcp:web:80"]),
        ("0.0.0.0:8080=tcp:web:80", ["0.0.0.0:8080=tcp:web:80"]),
        ("[::1]:8080=[2001:db8::1]:80", ["[::1]:8080=tcp:[2001:db8::1]:80"]),
        ("0=tcp:web:80", ["127.0.0.1:0=tcp:web:80"]),
        ("5353=udp:ns:53", ["127.0.0.1:5353=udp:ns:53"]),
        ("8080=unix:/run/x-1.sock", ["127.0.0.1:8080=unix:/run/x-1.sock"]),
        ("unix:/run/y.sock=tcp:web:80", ["unix:/run/y.sock=tcp:web:80"]),
        ("8080=service:git", ["127.0.0.1:8080=service:git"]),
        ("8080=web:80,connection=own", ["127.0.0.1:8080=tcp:web:80,connection=own"]),
        (
            "unix:/run/y=unix:/run/x,connection=own",
            ["unix:/run/y=unix:/run/x,connection=own"],
        ),
        (
            "80-81=tcp:web:80-81,connection=own",
            [f"127.0.0.1:{n}=tcp:web:{n},connection=own" for n in (80, 81)],
        ),
        (
            "8000-8002=tcp:my-web:9000-9002",
            [f"127.0.0.1:800{n}=tcp:my-web:900{n}" for n in range(3)],
        ),
        ("[::]:53-54=udp:[::1]:53-54", ["[::]:53=udp:[::1]:53", "[::]:54=udp:[::1]:54"]),
    ],
)
def test_a_forward_reads_and_its_text_reads_back_the_same(text: str, texts: list[str]) -> None:
    specs = parse_forward(text)
    assert [str(spec) for spec in specs] == texts
    assert [parse_forward(str(spec)) for spec in specs] == [(spec,) for spec in specs]


def test_a_forward_listens_with_the_protocol_of_its_destination() -> None:
    assert parse_forward("53=udp:ns:53")[0].protocol == "udp"
    assert parse_forward("53=tcp:ns:53")[0].protocol == "tcp"
    assert parse_forward("unix:/x=ns:53")[0].protocol == "unix"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8080", "there is no '='"),
        ("=tcp:web:80", "expected a number"),
        ("8080=", "port is missing"),
        ("8000-8002=tcp:web:9000", "ranges differ"),
        ("8000=tcp:web:9000-9001", "ranges differ"),
        ("8002-8000=tcp:web:9002-9000", "rising order"),
        ("1-2000=tcp:web:1-2000", "at most 1024"),
        ("8080=listen:tcp:0.0.0.0:80", "cannot be forwarded to"),
        ("8080=udp:*", "cannot be forwarded to"),
        ("unix:/run/x=udp:ns:53", "cannot lead to UDP"),
        ("unix:x=tcp:ns:53", "not absolute"),
        ("53=udp:ns:53,connection=own", "datagrams have no connection"),
        ("53=tcp:ns:53,connection=shared", "expected"),
    ],
)
def test_a_wrong_forward_says_what_is_expected(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_forward(text)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_path_of_unpaired_surrogates_is_a_config_error() -> None:
    with pytest.raises(ConfigError):
        to_unix_path("/\udcff")
