"""A direct tunnel: front ends alone, which connect from this machine by rules."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.acceptance.udp_servers import UdpServer, name_server, reversed_bytes
from tests.frontends.talk import Talk
from tunnelkit import DirectTunnel, front_ends
from tunnelkit.errors import ChannelRefused, Code, LocalProtocolError
from tunnelkit.interfaces import ITunnel

reactor: Any = _reactor

QUESTION = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04test\x00\x00\x01\x00\x01"


class DirectTunnelTests(TestCase):
    timeout = 20

    def tunnel(self, *allow: str, **more: Any) -> Any:
        made: Any = DirectTunnel(reactor, allow, **more)
        made.startService()
        self.addCleanup(made.stopService)
        return made

    def test_it_is_a_tunnel_that_is_up(self) -> None:
        tunnel = self.tunnel()
        assert verifyObject(ITunnel, tunnel)
        assert self.successResultOf(tunnel.when_up()) is tunnel
        assert tunnel.status().up

    async def test_a_service_is_never_called(self) -> None:
        with pytest.raises(LocalProtocolError, match="there is no far side"):
            await self.tunnel().accept("x").listen(Factory())

    async def refused(self, tunnel: Any, destination: str) -> Code:
        try:
            await connectProtocol(tunnel.channel_to(destination), Protocol())
        except ChannelRefused as error:
            return error.code
        raise AssertionError("it was connected")

    async def test_what_no_rule_allows_is_refused(self) -> None:
        tunnel = self.tunnel("tcp:127.0.0.1:1")
        assert await self.refused(tunnel, "tcp:127.0.0.1:2") == Code.NOT_ALLOWED
        assert await self.refused(tunnel, "service:@dns") == Code.NOT_ALLOWED
        assert await self.refused(tunnel, "udp:127.0.0.1:1") == Code.PROTOCOL

    async def test_half_close_leaves_the_other_direction(self) -> None:
        tunnel = self.tunnel("tcp:127.0.0.1:*")
        far, near = await self.connected(tunnel)
        near.transport.write(b"x" * 500_000)
        near.transport.loseWriteConnection()
        assert len(await far.received(500_000)) == 500_000
        await far.end()
        far.transport.write(b"answer")
        assert await near.received(6) == b"answer"
        assert tunnel.status().channels == 1
        far.transport.loseConnection()
        await near.closed
        assert not near.was_reset
        assert tunnel.status().channels == 0

    async def test_stopping_resets_what_is_open(self) -> None:
        tunnel = self.tunnel("tcp:127.0.0.1:*")
        far, near = await self.connected(tunnel)
        await tunnel.stopService()
        await near.closed
        await far.closed
        assert near.was_reset
        assert far.was_reset

    async def connected(self, tunnel: Any) -> tuple[Any, Any]:
        came: Deferred[Talk] = Deferred()

        class Server(Talk):
            def connectionMade(self) -> None:
                came.callback(self)

        port: Any = reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        way = tunnel.channel_to(f"tcp:127.0.0.1:{port.getHost().port}")
        near: Any = await connectProtocol(way, Talk())
        return await came, near

    async def test_datagrams(self) -> None:
        server = UdpServer(reversed_bytes)
        self.addCleanup(server.close)
        tunnel = self.tunnel(f"udp:127.0.0.1:{server.port}")
        sink = Sink()
        flow = tunnel.open_flow(f"udp:127.0.0.1:{server.port}", ("127.0.0.1", 9), sink)
        await sink.opened
        assert flow.send(("127.0.0.1", server.port), b"abc")
        assert await sink.came == b"cba"

    async def test_the_dns_server_alone(self) -> None:
        server = UdpServer(name_server)
        self.addCleanup(server.close)
        tunnel = self.tunnel("service:@dns", dns_servers=(("127.0.0.1", server.port),))
        ports: Any = front_ends(reactor, tunnel, tunnel.policy, dns="0")
        ports.setServiceParent(tunnel)
        port = int(ports.ports[0].rpartition(":")[2])
        answer = await deferToThread(ask, port)
        assert answer[:2] == QUESTION[:2]
        assert answer.endswith(bytes((192, 0, 2, 77)))


def ask(port: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(QUESTION, ("127.0.0.1", port))
        return sock.recv(512)


class Sink:
    def __init__(self) -> None:
        self.opened: Deferred[None] = Deferred()
        self.came: Deferred[bytes] = Deferred()

    def flow_opened(self) -> None:
        self.opened.callback(None)

    def datagram_received(self, remote: tuple[str, int], data: memoryview) -> None:
        self.came.callback(bytes(data))

    def flow_ended(self, code: Code | None, reason: str) -> None:
        pass
