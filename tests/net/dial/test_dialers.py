"""``--via``: what it means, what it refuses to mean, and what it never shows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.net.deferreds import problem_of
from tests.net.dial.test_happy_eyeballs import Resolver
from tunnelkit.errors import Code, ConfigError, DialError, DialTimeout
from tunnelkit.interfaces import IDialer
from tunnelkit.net.dial.autodetect import EnvironmentProxy
from tunnelkit.net.dial.choice import make_dialer
from tunnelkit.net.dial.dialers import dial
from tunnelkit.net.dial.via import Hop, ascii_host, parse_hop, parse_via, read_password_file
from tunnelkit.net.sockets.socket_carrier import take_over

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "hop"),
    [
        ("socks5://proxy.example:9050", Hop("socks5", "proxy.example", 9050)),
        ("socks5://proxy.example", Hop("socks5", "proxy.example", 1080)),
        ("socks4://192.0.2.1:1/", Hop("socks4", "192.0.2.1", 1)),
        ("socks4a://me@proxy", Hop("socks4a", "proxy", 1080, "me")),
        ("http://proxy", Hop("http", "proxy", 1080)),
        ("https://proxy", Hop("https", "proxy", 443)),
        ("https://me:pw@proxy:8443", Hop("https", "proxy", 8443, "me", "pw")),
        ("HTTP://proxy:3128/", Hop("http", "proxy", 3128)),
        ("socks5h://proxy", Hop("socks5", "proxy", 1080)),
        ("socks://proxy", Hop("socks5", "proxy", 1080)),
        ("socks5://[2001:db8::1]:1081", Hop("socks5", "2001:db8::1", 1081)),
        ("socks5://[::1]", Hop("socks5", "::1", 1080)),
        ("socks5://me:pw@proxy:1", Hop("socks5", "proxy", 1, "me", "pw")),
        ("http://m%40e:p%3a%2F%C3%A4@proxy:1", Hop("http", "proxy", 1, "m@e", "p:/\xe4")),
        ("http://me:p:w@x@proxy:1", Hop("http", "proxy", 1, "me", "p:w@x")),
        ("http://me:@proxy:1", Hop("http", "proxy", 1, "me", "")),
        ("http://m\xfcller.example", Hop("http", "xn--mller-kva.example", 1080)),
    ],
)
def test_proxy_urls(url: str, hop: Hop) -> None:
    assert parse_hop(url) == hop


@pytest.mark.parametrize(
    "url",
    [
        "",
        "proxy:1080",
        "me:hunter2@proxy:1080",
        "ftp://me:hunter2@proxy",
        "me:hunter2://proxy",
        "quic://me:hunter2@proxy",
        "https://m%3Ae:hunter2@proxy",
        "socks5://",
        "socks5://me:hunter2@",
        "socks5://me:hunter2@:1080",
        "socks5://me:hunter2/proxy:1080",
        "socks5://me:hunter2@proxy:0",
        "socks5://me:hunter2@proxy:65536",
        "socks5://me:hunter2@proxy:port",
        "socks5://me:hunter2@proxy/path",
        "socks5://me:hunter2@::1",
        "socks5://me:hunter2@[::1",
        "socks5://me:hunter2@[::g]",
        "socks5://me:hunter2@pro xy",
        "socks5://me:hunter2@a..b",
        "socks5://me:%ffhunter2@proxy",
        "socks5://:hunter2@proxy",
        "socks4://me:hunter2@proxy",
        "socks4a://me:hunter2@proxy",
        "socks5://me:hunter2" + "x" * 250 + "@proxy",
        "http://m%3Ae:hunter2@proxy",
        "socks4://m%00e@proxy",
    ],
)
def test_mistakes_get_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_via([url])
    message = str(caught.value)
    assert message.startswith("--via: ")
    assert "\n" not in message
    assert SECRET not in message
    assert caught.value.__cause__ is None


def test_a_user_without_a_password_needs_one() -> None:
    with pytest.raises(ConfigError, match="--via-password-file"):
        parse_via(["socks5://me@proxy"])
    assert parse_via(["socks5://me@proxy"], SECRET)[0].password == SECRET


def test_a_password_from_a_file_is_for_the_one_proxy_that_lacks_it() -> None:
    hops = parse_via(["http://a:b@one", "http://me@two", "socks4://me@three"], SECRET)
    assert [hop.password for hop in hops] == ["b", SECRET, None]
    for urls in (["http://one"], ["http://a@one", "socks5://b@two"], ["http://a:b@one"]):
        with pytest.raises(ConfigError, match="exactly one proxy"):
            parse_via(urls, SECRET)


def test_users_and_passwords_are_never_shown() -> None:
    hop = parse_hop(f"socks5://sesame:{SECRET}@proxy:1")
    assert str(hop) == "socks5://proxy:1"
    for shown in (repr(hop), str(hop), make_dialer(None, [f"http://sesame:{SECRET}@p"]).describe()):
        assert SECRET not in shown
        assert "sesame" not in shown


@pytest.mark.parametrize(
    ("host", "ascii_form"),
    [
        ("Relay.example.", "Relay.example."),
        ("under_score.example", "under_score.example"),
        ("b\xfccher.example", "xn--bcher-kva.example"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_hosts_go_out_in_ascii(host: str, ascii_form: str) -> None:
    assert ascii_host(host) == ascii_form


@pytest.mark.parametrize("host", ["", ".", "a b", "a" * 64, "a." * 130, "a:1", "[a]", "\u2024"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError):
        ascii_host(host)


# -- the password file ----------------------------------------------------


def password_file(directory: Path, data: bytes, mode: int = 0o600) -> str:
    path = directory / "password"
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("data", [b"hunter2", b"hunter2\n", b"hunter2\r\n"])
def test_the_password_file_has_one_line(tmp_path: Path, data: bytes) -> None:
    assert read_password_file(password_file(tmp_path, data)) == SECRET


def test_blanks_belong_to_the_password(tmp_path: Path) -> None:
    assert read_password_file(password_file(tmp_path, b" a b \n")) == " a b "


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"hunter2\nmore\n", b"hunter2\xff", b"hunter2" * 1000]
)
def test_anything_else_in_it_is_a_mistake(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        read_password_file(password_file(tmp_path, data))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_password_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        read_password_file(password_file(tmp_path, b"hunter2", mode))


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing-here: No such file"):
        read_password_file(os.fspath(tmp_path / "nothing-here"))


# -- which dialer ---------------------------------------------------------


@pytest.mark.parametrize(
    ("via", "words"),
    [
        ([], "directly"),
        (["none"], "directly"),
        (["socks5://proxy"], "via socks5://proxy:1080"),
        (
            ["socks5://a:b@[::1]", "http://inner:3128"],
            "via socks5://[::1]:1080, then http://inner:3128",
        ),
        (["auto"], "as set up on this machine ($all_proxy)"),
    ],
)
def test_dialers_describe_the_way(via: list[str], words: str) -> None:
    dialer = make_dialer(None, via, environ={"all_proxy": "socks5://me:pw@x"})
    assert verifyObject(IDialer, dialer)
    assert dialer.describe() == words


@pytest.mark.parametrize("via", [["auto", "socks5://a"], ["http://a", "none"], ["none", "auto"]])
def test_words_stand_alone(via: list[str]) -> None:
    with pytest.raises(ConfigError, match="stands alone"):
        make_dialer(None, via, environ={})


@pytest.mark.parametrize("via", [[], ["none"], ["auto"]])
def test_a_password_without_a_proxy_is_a_mistake(via: list[str]) -> None:
    with pytest.raises(ConfigError, match="no proxy"):
        make_dialer(None, via, password=SECRET, environ={})


def test_a_mistake_in_the_environment_is_told_at_once_and_names_the_variable() -> None:
    environ = {"HTTPS_PROXY": "quic://me:hunter2@proxy:443"}
    with pytest.raises(ConfigError, match=r"\$HTTPS_PROXY: quic is not a kind") as caught:
        make_dialer(None, ["auto"], environ=environ)
    assert SECRET not in str(caught.value)


def test_a_bad_target_is_a_mistake_of_the_configuration() -> None:
    for via in ([], ["socks5://proxy"], ["auto"]):
        dialer = make_dialer(None, via, environ={})
        with pytest.raises(ConfigError, match="not a host name"):
            dialer.endpoint_for("a b", 1)


# -- the environment ------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, None),
        ({"http_proxy": "http://h"}, "http://h"),
        ({"HTTP_PROXY": "http://h"}, "http://h"),
        ({"HTTP_PROXY": "http://h", "REQUEST_METHOD": "GET"}, None),
        ({"http_proxy": "http://h", "https_proxy": "http://s"}, "http://s"),
        ({"HTTPS_PROXY": "http://S", "all_proxy": "socks5://a"}, "socks5://a"),
        ({"ALL_PROXY": "socks5://A", "all_proxy": "socks5://a"}, "socks5://a"),
        ({"all_proxy": "", "ALL_PROXY": " ", "https_proxy": "h:3128"}, "http://h:3128"),
    ],
)
def test_the_variables_have_an_order(environ: Mapping[str, str], url: str | None) -> None:
    assert EnvironmentProxy(environ).proxy_for("relay.example", 7000) == url


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("*", ["relay.example", "192.0.2.1"], []),
        ("example.com", ["example.com", "a.b.example.com", "EXAMPLE.com."], ["badexample.com"]),
        (".example.com", ["example.com", "a.example.com"], ["badexample.com"]),
        ("*.example.com", ["a.example.com"], ["example.org"]),
        ("a,b.example  c", ["a", "b.example", "c"], ["d"]),
        ("192.0.2.1", ["192.0.2.1"], ["192.0.2.2"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.0.0.1", "ten.example"]),
        ("fd00::/8,[2001:db8::1]", ["fd00::1", "[2001:db8::1]"], ["fe00::1"]),
        ("example.com:7000,10.0.0.0/8:7000", ["example.com", "10.0.0.1"], []),
        ("example.com:80,10.0.0.0/8:80,[fd00::1]:80", [], ["example.com", "10.0.0.1", "fd00::1"]),
        ("[fd00::1]:7000", ["fd00::1"], ["fd00::2"]),
        (",., /,:80", [], ["relay.example", "192.0.2.1"]),
        ("", ["localhost", "127.0.0.2", "::1"], ["relay.example"]),
    ],
)
def test_no_proxy_says_what_is_reached_directly(
    no_proxy: str, direct: list[str], proxied: list[str]
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        source = EnvironmentProxy({"all_proxy": "socks5://p", name: no_proxy})
        assert [source.proxy_for(host, 7000) for host in direct] == [None] * len(direct)
        assert [source.proxy_for(host, 7000) for host in proxied] == ["socks5://p"] * len(proxied)


# -- dialling -------------------------------------------------------------


class DialTests(SynchronousTestCase):
    """On a reactor without sockets."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()

    def resolving(self, addresses: Sequence[IAddress] | None) -> None:
        self.resolver = Resolver(addresses)
        self.reactor.nameResolver = self.resolver

    def start(self, via: list[str], host: str = "relay.example") -> Deferred[Any]:
        dialer = make_dialer(self.reactor, via, environ={"all_proxy": "http://192.0.2.9:3128"})
        endpoint: Any = dialer.endpoint_for(host, 7000)
        connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(Protocol))
        return connecting

    def dialled(self) -> list[tuple[str, int]]:
        return [attempt[:2] for attempt in self.reactor.tcpClients]

    def test_only_the_first_proxy_of_a_chain_is_dialled_from_here(self) -> None:
        self.start(["socks5://192.0.2.1:1", "http://192.0.2.2:2"])
        assert self.dialled() == [("192.0.2.1", 1)]

    def test_auto_follows_the_environment(self) -> None:
        self.start(["auto"], "192.0.2.50")
        self.start(["auto"], "127.0.0.1")
        assert self.dialled() == [("192.0.2.9", 3128), ("127.0.0.1", 7000)]

    def test_a_proxy_that_cannot_be_reached_is_named_as_such(self) -> None:
        self.resolving([])
        problem = problem_of(self.start(["socks5://me:pw@nowhere.example"]), DialError)
        assert str(problem) == (
            "cannot connect to proxy socks5://nowhere.example:1080: no such host"
        )
        assert problem.hop == "proxy socks5://nowhere.example:1080"

    def test_socks_4_resolves_the_name_here(self) -> None:
        self.resolving([IPv6Address("TCP", "::2", 7000), IPv4Address("TCP", "192.0.2.7", 7000)])
        self.start(["socks4://192.0.2.1:1"])
        assert self.dialled() == [("192.0.2.1", 1)]
        handshake = self.reactor.tcpClients[0][2].buildProtocol(None)._wrappedProtocol
        assert handshake._core.data_to_send()[4:8] == bytes((192, 0, 2, 7))

    def test_socks_4a_leaves_the_name_to_the_proxy(self) -> None:
        self.start(["socks4a://me@192.0.2.1:1"])
        handshake = self.reactor.tcpClients[0][2].buildProtocol(None)._wrappedProtocol
        assert handshake._core.data_to_send().endswith(b"\0\0\0\x01me\0relay.example\0")

    def test_socks_4_without_an_ipv4_address_says_what_to_do(self) -> None:
        self.resolving([IPv6Address("TCP", "::2", 7000)])
        problem = problem_of(self.start(["socks4://192.0.2.1:1"]), DialError)
        assert "SOCKS 4 needs an IPv4 address" in str(problem)
        assert "socks4a://" in str(problem)
        assert problem.code is Code.NO_SUCH_HOST

    def test_socks_4_does_not_wait_for_a_silent_resolver(self) -> None:
        self.resolving(None)
        connecting = self.start(["socks4://192.0.2.1:1"])
        self.reactor.advance(15)
        problem_of(connecting, DialError)
        self.resolver.answer([])

    def test_the_way_to_the_proxy_has_a_time_limit(self) -> None:
        connecting = self.start(["http://192.0.2.1:1"])
        self.reactor.advance(15)
        problem = problem_of(connecting, DialTimeout)
        assert str(problem) == "cannot connect to proxy http://192.0.2.1:1: no answer within 15 s"


class Speaker(Protocol):
    """Plays a CONNECT proxy and the relay behind it, which speaks first."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting
        self.heard = b""
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        if not self.greeting.startswith(b"HTTP"):
            assert self.transport is not None
            self.transport.write(self.greeting)

    def dataReceived(self, data: bytes) -> None:
        if not self.heard and self.greeting.startswith(b"HTTP"):
            assert self.transport is not None
            self.transport.write(self.greeting)
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class Sink:
    """Takes what a carrier receives."""

    def __init__(self, wanted: int) -> None:
        self.received = b""
        self.wanted = wanted
        self.enough: Deferred[None] = Deferred()

    def carrier_received(self, view: memoryview) -> None:
        self.received += bytes(view)
        if len(self.received) >= self.wanted and not self.enough.called:
            self.enough.callback(None)

    def carrier_writable(self) -> None:
        pass

    def carrier_lost(self, reason: str, clean: bool) -> None:
        pass


class CarrierTests(TestCase):
    """A dialled connection is taken over by a carrier, over real sockets."""

    timeout = 10

    def listen(self, greeting: bytes) -> int:
        self.speaker = Speaker(greeting)
        real: Any = reactor
        port = real.listenTCP(0, Factory.forProtocol(lambda: self.speaker), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def test_nothing_is_lost_when_the_relay_speaks_first_behind_a_proxy(self) -> None:
        number = self.listen(b"HTTP/1.1 200 OK\r\n\r\nwelcome")
        dialer = make_dialer(reactor, [f"http://127.0.0.1:{number}"])
        dialled = await dial(reactor, dialer, "relay.example", 7000)
        assert self.speaker.heard.startswith(b"CONNECT relay.example:7000 HTTP/1.1\r\n")
        sink = Sink(len(b" back"))
        carrier = take_over(dialled.transport)
        carrier.start(sink)
        assert self.speaker.transport is not None
        self.speaker.transport.write(b" back")
        await sink.enough
        assert dialled.leftover + sink.received == b"welcome back"
        carrier.abort()
        await self.speaker.lost

    async def test_nothing_is_read_before_the_carrier_takes_over(self) -> None:
        number = self.listen(b"welcome")
        dialled = await dial(reactor, make_dialer(reactor), "127.0.0.1", number)
        assert dialled.leftover == b""
        sink = Sink(len(b"welcome"))
        carrier = take_over(dialled.transport)
        carrier.start(sink)
        await sink.enough
        assert sink.received == b"welcome"
        carrier.abort()
        await self.speaker.lost

    async def test_cancelling_between_connection_and_take_over_closes_it(self) -> None:
        number = self.listen(b"welcome")
        dialling: list[Deferred[Any]] = []
        dialling.append(dial(reactor, CancelsOnceConnected(dialling), "127.0.0.1", number))
        with pytest.raises(CancelledError):
            await dialling[0]
        await self.speaker.lost


@implementer(IDialer, IStreamClientEndpoint)
class CancelsOnceConnected:
    """Dials directly, and cancels ``dialling`` in the turn in which the connection is there."""

    def __init__(self, dialling: list[Deferred[Any]]) -> None:
        self.dialling = dialling
        self.endpoint: Any = None

    def describe(self) -> str:
        return "directly"

    def endpoint_for(self, host: str, port: int) -> CancelsOnceConnected:
        self.endpoint = make_dialer(reactor).endpoint_for(host, port)
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[IProtocol] = self.endpoint.connect(protocolFactory)
        return connecting.addCallback(self._connected)

    def _connected(self, protocol: IProtocol) -> IProtocol:
        real: Any = reactor
        real.callLater(0, self.dialling[0].cancel)
        return protocol
