"""Clients and browsers at a Communication Server's real port (S1, S4, S6, S10, S11; X4, X21)."""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThread

from tests.core.secureproxy.world import POLICY
from tests.frontends.talk import Echo, Server
from tests.net.secureproxy.world import SERVER, SecureProxyCase, reactor
from tests.wire.test_tls_peek import host_name, made, protocols, records
from tunnelkit.core.secureproxy.commands import Decided, SessionBegan, SessionEnded
from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.core.secureproxy.policy import ClientRules, Policy
from tunnelkit.core.secureproxy.registry import Offer
from tunnelkit.errors import AuthError, Code, DialError, PeerNotTrusted, RemoteProtocolError
from tunnelkit.net.secureproxy.control import look_up
from tunnelkit.net.secureproxy.opening import Opened, Opening
from tunnelkit.net.secureproxy.server import SecureProxyServer
from tunnelkit.net.sockets.relay import Relay
from tunnelkit.net.tls.context import TlsContext, listings
from tunnelkit.net.tls.engine import TlsEngine
from tunnelkit.net.tls.stream import TlsStream, Unwrapped
from tunnelkit.testing.authority import throwaway_ca
from tunnelkit.wire.secureproxy import Connect, Incoming, Login, Resource, Spare, StartSecure
from tunnelkit.wire.tls_peek import UNRECOGNIZED_NAME

TUNNEL = Resource("tunnel")
SITE = Resource("pass:site.example", "pass", "site.example")


def offers(server: SecureProxyServer) -> list[Offer]:
    """What the office publishes."""
    registration = server.core.registry.get("office")
    return [] if registration is None else list(registration.offers.values())


class _Ends:
    """The sink of one of two streams between clients."""

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred()
        self.got = b""
        self.lost: Deferred[str] = Deferred()

    def tls_ready(self) -> None:
        self.ready.callback(None)

    def tls_received(self, view: memoryview) -> None:
        self.got += view

    def tls_writable(self) -> None:
        """Not waited for."""

    def tls_lost(self, reason: Any, clean: bool) -> None:
        self.lost.callback(str(reason))


class SessionTests(SecureProxyCase):
    async def opened(self, name: str, purpose: Any) -> Opened:
        found = await Opening(self.link(name), purpose).opened
        assert isinstance(found, Opened)
        return found

    async def session(self) -> tuple[Opened, Opened]:
        """Two clients that the server has brought together."""
        office = self.present("office", TUNNEL)
        await self.until(lambda: self.server.core.registry.get("office"))
        await self.until(lambda: offers(self.server))
        asking = Opening(self.link("laptop"), Connect("office", "tunnel")).opened
        target = await self.opened("office", await office.next_asked())
        initiator = await asking
        assert isinstance(initiator, Opened)
        return initiator, target

    def secure(self, name: str, unwrapped: Unwrapped, client: bool) -> tuple[TlsStream, _Ends]:
        """The clients' own TLS."""
        sink = _Ends()
        engine = TlsEngine(TlsContext(self.ca.credentials(name), (b"lstp/1",)), client)
        stream = TlsStream(self.shared, unwrapped.carrier, engine, sink)
        stream.start(unwrapped.leftover)
        self.addCleanup(stream.abort)
        return stream, sink

    async def test_two_clients_speak_their_own_tls_over_the_same_two_connections(self) -> None:
        self.server = self.serve()
        initiator, target = await self.session()
        assert isinstance(initiator.start, StartSecure)
        assert initiator.start.peer == "office"
        near, near_sink = self.secure("laptop", initiator.unwrapped, True)
        far, far_sink = self.secure("office", target.unwrapped, False)
        await near_sink.ready
        await far_sink.ready
        assert near.engine.peer_name == "office"
        assert far.engine.peer_name == "laptop"
        keys = [
            one.engine._connection.export_keying_material(b"EXPORTER-test", 32)
            for one in (near, far)
        ]
        assert keys[0] == keys[1]
        (relay,) = self.server._joined._relays.values()
        assert isinstance(relay, Relay)
        near.send(memoryview(b"hello"))
        await self.until(lambda: far_sink.got == b"hello")
        far.close()
        await near_sink.lost
        near.close()
        await self.until(lambda: not self.server.core.sessions)
        (ended,) = [one for one in self.records if isinstance(one, SessionEnded)]
        assert "office left first" in ended.outcome
        assert ended.sent > 100
        assert ended.received > 100
        (began,) = [one for one in self.records if isinstance(one, SessionBegan)]
        assert began.session is ended.session

    async def test_the_servers_refusals_are_told(self) -> None:
        self.server = self.serve()
        for name, code in (("guest", Code.NOT_ALLOWED), ("laptop", Code.NOT_PRESENT)):
            with pytest.raises(DialError) as caught:
                await self.opened(name, Connect("office", "tunnel"))
            assert caught.value.code is code

    async def test_a_target_that_refuses(self) -> None:
        self.server = self.serve()
        office = self.present("office", TUNNEL)
        await self.until(lambda: office.times)
        asking = Opening(self.link("laptop"), Connect("office", "tunnel")).opened
        await office.next_asked()
        office.asked[0][1](Code.UNREACHABLE, "no way")
        with pytest.raises(DialError) as caught:
            await asking
        assert "no way" in str(caught.value)

    async def test_an_initiator_that_gives_up_is_told_to_the_target(self) -> None:
        self.server = self.serve()
        office = self.present("office", TUNNEL)
        await self.until(lambda: office.times)
        asking = Opening(self.link("laptop"), Connect("office", "tunnel")).opened
        incoming = await office.next_asked()
        asking.cancel()
        self.assertFailure(asking, Exception)
        await self.until(lambda: office.off)
        assert office.off == [incoming.session]
        with pytest.raises(DialError):
            await self.opened("office", incoming)

    async def test_a_changed_policy_cuts_a_session_that_is_joined(self) -> None:
        self.server = self.serve()
        initiator, target = await self.session()
        _, near = self.secure("laptop", initiator.unwrapped, True)
        _, far = self.secure("office", target.unwrapped, False)
        await near.ready
        self.server.replace_policy(Policy({**POLICY.clients, "laptop": ClientRules()}))
        await near.lost
        await far.lost
        assert not self.server.core.sessions
        assert self.server.core.registry.get("office") is not None

    async def test_everything_of_a_client_that_is_trusted_no_more_ends(self) -> None:
        self.server = self.serve()
        initiator, target = await self.session()
        _, near = self.secure("laptop", initiator.unwrapped, True)
        self.secure("office", target.unwrapped, False)
        await near.ready
        chain = (self.ca.credentials("office").certificate, self.ca.certificate)
        (office,) = {one for one in self.server.clients() if one.name == "office"}
        assert office.listings == listings(chain)
        assert office.until == min(one.not_valid_after_utc for one in chain)
        self.server.expel("office", "revoked")
        await near.lost
        assert self.server.core.registry.get("office") is None

    async def test_bytes_behind_a_close_notify_are_the_other_clients(self) -> None:
        """The initiator's first TLS bytes travel with its close_notify; the target waits."""
        self.server = self.serve()
        initiator, target = await self.session()
        initiator.unwrapped.carrier.write(b"first")
        received: list[bytes] = [target.unwrapped.leftover]
        target.unwrapped.carrier.start(_Collect(received))
        target.unwrapped.carrier.resume_reading()
        await self.until(lambda: b"".join(received) == b"first")
        target.unwrapped.carrier.abort()
        initiator.unwrapped.carrier.abort()


class _Collect:
    def __init__(self, into: list[bytes]) -> None:
        self._into = into

    def carrier_received(self, view: memoryview) -> None:
        self._into.append(bytes(view))

    def carrier_writable(self) -> None:
        """Nothing is written."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """The test is over."""


class ControlTests(SecureProxyCase):
    async def test_a_server_of_another_name_or_ca_is_not_trusted(self) -> None:
        self.serve()
        link = self.link("laptop")
        link.server_name = "other.example"
        with pytest.raises(PeerNotTrusted, match=r"expected is other\.example"):
            await Opening(link, Connect("office", "tunnel")).opened
        with pytest.raises(RemoteProtocolError, match="unrecognized name"):
            await Opening(
                self.link("laptop", server_name="other.example"), Connect("office", "tunnel")
            ).opened
        with pytest.raises(AuthError):
            await Opening(
                self.link("laptop", ca=throwaway_ca()), Connect("office", "tunnel")
            ).opened

    async def test_looking_up(self) -> None:
        server = self.serve()
        self.present("office", TUNNEL)
        await self.until(lambda: server.core.registry.get("office"))
        found = await look_up(self.link("laptop"), "office")
        assert found.entries[0].present
        with pytest.raises(RemoteProtocolError) as caught:
            await look_up(self.link("guest"), "office")
        assert "not-allowed" in str(caught.value)

    async def test_a_client_comes_back_when_its_server_does(self) -> None:
        first = self.serve()
        office = self.present("office", TUNNEL)
        await self.until(lambda: office.times == 1)
        port = self.port
        first.close()
        await self.until(lambda: not office.registration.present)
        assert office.registration.last_error
        await self.until(lambda: office.times == 2)
        assert self.port == port

    async def test_drain_registers_anew_before_it_leaves(self) -> None:
        server = self.serve()
        office = self.present("office", TUNNEL)
        await self.until(lambda: office.times == 1)
        await server.drain(10)
        assert office.registration.present

    async def test_logins(self) -> None:
        def check(login: Login) -> Deferred[str]:
            return succeed(login.name) if login.token == "t" else fail(ValueError())

        server = self.serve(check_login=check)
        # The server's CA does not know this one: it comes without a certificate of its own.
        link = self.link("laptop", login=Login("laptop", token="t"))
        found = await look_up(link, "office")
        assert not found.entries[0].present
        wrong = self.link("laptop", login=Login("laptop", token="x"))
        with pytest.raises(RemoteProtocolError) as caught:
            await look_up(wrong, "office")
        assert "login" in str(caught.value)
        assert server.core.policy is POLICY


def ask(port: int, data: bytes, pieces: int = 1 << 20) -> bytes:
    """What a stranger gets that says ``data``; blocking."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for at in range(0, len(data), pieces):
                sock.sendall(data[at : at + pieces])
            answer = b""
            while more := sock.recv(4096):
                answer += more
        except ConnectionError:
            return b"reset"
        return answer


class ArrivalTests(SecureProxyCase):
    async def test_strangers(self) -> None:
        self.serve()
        crumbs = made(host_name(b"a-name-that-is-long-enough.example"))[9:]
        for data, expected in (
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"reset"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", b"reset"),
            (bytes(100), b"reset"),
            (made(host_name(b"unknown.example")), UNRECOGNIZED_NAME),
            (made(host_name(b"site.example")), UNRECOGNIZED_NAME),
            (made(host_name(b"192.0.2.1")), UNRECOGNIZED_NAME),
            (made(protocols(b"h2")), b"\x15\x03\x03\x00\x02\x02\x78"),
            (records(crumbs, 1), b"reset"),
        ):
            assert await deferToThread(ask, self.port, data) == expected, data
            if expected == UNRECOGNIZED_NAME:
                assert await deferToThread(ask, self.port, data, 10) == expected, data

    async def test_so_many_of_one_address_and_others_still_come(self) -> None:
        server = self.serve()
        held = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(30)]
        try:
            await self.until(lambda: len(server.arrivals) == 16)
        finally:
            for sock in held:
                sock.close()
        await self.until(lambda: not len(server.arrivals))

    async def test_a_proxy_in_front_says_who_it_is(self) -> None:
        self.serve(proxies=[ip_network("127.0.0.0/8")])
        hello = made(host_name(b"unknown.example"))
        assert await deferToThread(ask, self.port, hello) == b"reset"
        header = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
        assert await deferToThread(ask, self.port, header + hello, 7) == UNRECOGNIZED_NAME


class BrowserTests(SecureProxyCase):
    def inside(self) -> int:
        """A web server's place: echoes; its port."""
        port = reactor.listenTCP(0, Server(Echo), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def join(self, purpose: Incoming | Spare, names: list[str]) -> Opened:
        found = await Opening(self.link("office"), purpose).opened
        assert isinstance(found, Opened)
        names.append(type(found.start).__name__)
        return found

    async def test_a_browsers_bytes_come_from_its_hello_on(self) -> None:
        server = self.serve()
        office = self.present("office", SITE)
        await self.until(lambda: office.times)
        await self.until(lambda: offers(server))
        hello = made(host_name(b"site.example")) + b"behind it"
        answer = deferToThread(ask, self.port, hello)
        opened = await self.join(await office.next_asked(), [])
        received = [opened.unwrapped.leftover]
        carrier = opened.unwrapped.carrier
        carrier.start(_Collect(received))
        carrier.resume_reading()
        await self.until(lambda: b"".join(received) == hello)
        carrier.write(b"the site's own answer")
        carrier.close()
        assert await answer == b"the site's own answer"
        await self.until(lambda: not server.core.sessions)

    async def test_a_spare_saves_the_way_there(self) -> None:
        server = self.serve()
        office = self.present("office", SITE)
        await self.until(lambda: office.times)
        await self.until(lambda: offers(server))
        spare = self.join(Spare("pass:site.example"), [])
        waiting = Deferred.fromCoroutine(spare)
        (offer,) = offers(server)
        await self.until(lambda: offer.spares)
        answer = deferToThread(ask, self.port, made(host_name(b"site.example")))
        opened = await waiting
        opened.unwrapped.carrier.write(b"quick")
        opened.unwrapped.carrier.close()
        assert await answer == b"quick"
        assert not office.asked

    async def test_a_publisher_that_refuses_is_an_alert(self) -> None:
        server = self.serve(limits=Limits())
        office = self.present("office", SITE)
        await self.until(lambda: office.times)
        await self.until(lambda: offers(server))
        answer = deferToThread(ask, self.port, made(host_name(b"Site.Example")))
        await office.next_asked()
        office.asked[0][1](Code.UNREACHABLE, "the web server is dead")
        assert await answer == UNRECOGNIZED_NAME
        assert [one.what for one in self.records if isinstance(one, Decided)][-1] == (
            "pass:site.example"
        )

    async def test_such_a_name_is_never_opened_whatever_else_the_hello_says(self) -> None:
        self.serve()
        hello = made(host_name(b"site.example") + protocols(b"secure-proxy/1"))
        assert await deferToThread(ask, self.port, hello) == UNRECOGNIZED_NAME


def handshake(port: int, name: str, alpn: list[str]) -> str | None:
    """What Python's TLS agrees on with the server; blocking."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(alpn)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        return tls.selected_alpn_protocol()


class TlsTests(SecureProxyCase):
    async def test_the_servers_own_name_and_none_are_for_clients(self) -> None:
        self.serve()
        for name in (SERVER, SERVER.upper()):
            agreed = await deferToThread(handshake, self.port, name, ["secure-proxy/1"])
            assert agreed == "secure-proxy/1"
