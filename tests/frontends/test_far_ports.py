"""Ports opened for the far side, and what ``--reverse`` accepts."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.frontends.fake_tunnel import FakeRequest
from tests.frontends.installed import configured, front_end
from tests.frontends.talk import is_reset, refused
from tunnelkit.egress import listen as egress_listen
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.listen import ListenEgress
from tunnelkit.errors import Code, ConfigError
from tunnelkit.frontends.socks.bind import address_for, is_other
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder, parse_rule

reactor: Any = global_reactor


class Asker:
    """The connection of a peer that has this end listen."""

    def __init__(self, side: LocalSide) -> None:
        self.origins: list[str] = []
        self.aborted: Code | None = None
        self.channel = Channel(
            cast(TunnelConnection, self), 1, side, "listen:tcp:127.0.0.1:0", True, 0.0
        )
        side.attach(self.channel)

    def open_accepted(self, listener: Channel, origin: str, side: LocalSide) -> Deferred[str]:
        assert listener is self.channel
        self.origins.append(origin)
        side.reset(Code.REFUSED, "enough for this test")
        return succeed("")

    def abort(self, channel: Channel, code: Code, reason: str) -> None:
        channel.connection = None
        self.aborted = code
        channel.side.reset(code, reason)

    def schedule(self, channel: Channel) -> None:
        """It has its end to send."""
        assert channel.side.pull_into(memoryview(bytearray(1))) == -1
        channel.connection = None
        channel.side.close()


class ListenTests(TestCase):
    timeout = 5

    def setUp(self) -> None:
        self.policy = PolicyHolder()
        self.policy.replace([parse_rule("listen:127.0.0.1:0")])
        self.egress = Egress(reactor, Poller.of(reactor), self.policy)
        self.listen = ListenEgress(self.egress)
        self.addCleanup(self.listen.stopService)

    async def open(self, destination: str = "listen:tcp:127.0.0.1:0") -> tuple[Asker, int]:
        """What asks, and the port that it gets."""
        request = FakeRequest(destination)
        self.egress(request)
        bound = await request.answer
        assert request.side is not None
        return Asker(request.side), int(bound.rpartition(":")[2])

    async def why_not(self, destination: str) -> Code:
        request = FakeRequest(destination)
        self.egress(request)
        return (await refused(request.answer)).code

    async def is_reset(self, port: int) -> bool:
        return await is_reset(TCP4ClientEndpoint(reactor, "127.0.0.1", port))

    async def test_connections_are_handed_over_until_the_channel_ends(self) -> None:
        asker, port = await self.open()
        assert await self.is_reset(port)
        assert [origin[:14] for origin in asker.origins] == ["tcp:127.0.0.1:"]
        asker.channel.side.finish()
        with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(("127.0.0.1", port))

    async def test_a_rule_that_is_withdrawn_closes_the_port_before_anybody_enters(self) -> None:
        asker, port = await self.open()
        self.policy.replace([])
        assert await self.is_reset(port)
        assert asker.origins == []
        assert asker.aborted is Code.NOT_ALLOWED
        with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(("127.0.0.1", port))

    async def test_what_cannot_be_opened_is_refused_with_the_reason(self) -> None:
        assert await self.why_not("listen:tcp:127.0.0.1:8080") is Code.NOT_ALLOWED
        assert await self.why_not("listen:tcp:0.0.0.0:0") is Code.NOT_ALLOWED
        assert await self.why_not("listen:tcp:localhost:0") is Code.NOT_ALLOWED
        _, port = await self.open()
        self.policy.replace([parse_rule("listen:127.0.0.1:*"), parse_rule("listen:192.0.2.1:0")])
        assert await self.why_not(f"listen:tcp:127.0.0.1:{port}") is Code.REFUSED
        assert await self.why_not("listen:tcp:192.0.2.1:0") is Code.UNREACHABLE

    async def test_ports_are_limited_and_the_far_side_may_not_dial_them(self) -> None:
        self.patch(egress_listen, "LISTENERS_PER_PEER", 1)  # type: ignore[no-untyped-call]  # trial's
        asker, port = await self.open()
        assert await self.why_not("listen:tcp:127.0.0.1:0") is Code.LIMIT
        self.policy.replace([parse_rule("listen:127.0.0.1:0"), parse_rule("tcp:127.0.0.0/8:*")])
        assert await self.why_not(f"tcp:127.0.0.1:{port}") is Code.NOT_ALLOWED
        asker.channel.side.finish()
        await self.open()

    async def test_stopping_closes_all_ports_and_opens_no_more(self) -> None:
        asker, _ = await self.open()
        self.listen.stopService()
        assert asker.aborted is Code.SHUTDOWN
        assert await self.why_not("listen:tcp:127.0.0.1:0") is Code.SHUTDOWN


def test_reverse_is_a_plug_in_and_says_what_it_expects() -> None:
    assert verifyObject(IFrontEnd, front_end("reverse"))
    assert len(configured("reverse", "8000-8003=tcp:web:9000-9003")) == 4
    assert str(configured("reverse", "0.0.0.0:80=unix:/run/x")[0]) == "0.0.0.0:80=unix:/run/x"
    for wrong in ("53=udp:ns:53", "unix:/run/x=tcp:web:80", "80=service:wiki"):
        with pytest.raises(ConfigError, match="only TCP ports can be opened at the far side"):
            configured("reverse", wrong)
    with pytest.raises(ConfigError, match=r"^--reverse: reverse 'x'"):
        configured("reverse", "x")


def test_bind_listens_as_narrowly_as_the_expected_host_allows() -> None:
    for expected, where in (
        ("127.0.0.5", "127.0.0.1"),
        ("::1", "::1"),
        ("192.0.2.1", "0.0.0.0"),
        ("2001:db8::1", "::"),
        ("localhost", "127.0.0.1"),
        ("ftp.example", "0.0.0.0"),
    ):
        assert address_for(expected) == where
    assert is_other("192.0.2.1", "192.0.2.2")
    for expected in ("192.0.2.1", "0.0.0.0", "ftp.example"):
        assert not is_other(expected, "192.0.2.1")
