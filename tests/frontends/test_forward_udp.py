"""UDP at the near side: forwards and associations of the SOCKS server, with a tunnel in memory."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from tests.frontends.fake_tunnel import FakeTunnel
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.udp import UdpEgress
from tunnelkit.frontends.forward import udp as forward_udp
from tunnelkit.frontends.forward.udp import UdpForward
from tunnelkit.frontends.socks.server import Socks, SocksConfig
from tunnelkit.local.udp_peer import REST, UdpPeer
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder, parse_network, parse_rule
from tunnelkit.policy.destination import parse_forward

reactor: Any = global_reactor
IDLE = 0.2


class Case(TestCase):
    timeout = 5

    def setUp(self) -> None:
        self.near, self.far = PolicyHolder(), PolicyHolder()
        egress = Egress(reactor, Poller.of(reactor), self.far)
        self.udp = UdpEgress(egress)
        self.addCleanup(self.udp.stopService)
        self.tunnel = FakeTunnel(egress)
        self.server = self.sock()
        self.port = int(self.server.getsockname()[1])
        self.far.replace([parse_rule(f"udp:127.0.0.1:{self.port}")])

    def sock(self, host: str = "127.0.0.1") -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((host, 0))
        made.setblocking(False)
        self.addCleanup(made.close)
        return made

    async def next(self, sock: socket.socket) -> tuple[bytes, Any]:
        """The next datagram at ``sock``."""
        while True:
            try:
                return sock.recvfrom(65_535)
            except BlockingIOError:
                await deferLater(reactor, 0.001, lambda: None)

    def forward(
        self, destination: str = "", idle: float = IDLE, listen: str = "0"
    ) -> tuple[UdpForward, Any]:
        (spec,) = parse_forward(f"{listen}={destination or f'udp:127.0.0.1:{self.port}'}")
        made = UdpForward(reactor, self.tunnel, self.near, spec, idle)
        made.startService()
        self.addCleanup(made.stopService)
        host, _, port = made.address.rpartition(":")
        return made, (host, int(port))


class ForwardTests(Case):
    async def test_each_client_is_answered_for_itself(self) -> None:
        _, where = self.forward()
        clients = [self.sock() for _ in range(3)]
        for number, client in enumerate(clients):
            client.sendto(b"%d" % number, where)
        for _ in clients:
            data, far = await self.next(self.server)
            self.server.sendto(data * 2, far)
        for number, client in enumerate(clients):
            assert await self.next(client) == (b"%d" % number * 2, where)
        assert self.tunnel.opened == [f"udp:127.0.0.1:{self.port}"] * 3

    async def test_a_port_on_all_addresses_answers_from_the_one_that_was_asked(self) -> None:
        _, (_, port) = self.forward(listen="0.0.0.0:0")
        for address in ("127.0.0.1", "127.0.0.9"):
            client = self.sock()
            client.sendto(b"ask", (address, port))
            _, far = await self.next(self.server)
            self.server.sendto(b"answer", far)
            assert await self.next(client) == (b"answer", (address, port))

    async def test_a_flow_ends_when_its_client_is_silent_and_begins_again(self) -> None:
        _, where = self.forward()
        client = self.sock()
        client.sendto(b"1", where)
        _, first = await self.next(self.server)
        while self.udp.map.flow_count:
            await deferLater(reactor, 0.01, lambda: None)
        client.sendto(b"2", where)
        data, second = await self.next(self.server)
        assert data == b"2"
        assert second != first

    async def test_a_flow_that_the_far_side_has_ended_begins_again(self) -> None:
        _, where = self.forward(idle=60)
        client = self.sock()
        client.sendto(b"1", where)
        await self.next(self.server)
        self.udp.map.close()
        client.sendto(b"2", where)
        assert (await self.next(self.server))[0] == b"2"

    async def test_only_clients_from_the_networks_given_are_served(self) -> None:
        _, where = self.forward()
        client, stranger = self.sock(), self.sock("127.0.0.5")
        stranger.sendto(b"before", where)
        assert (await self.next(self.server))[0] == b"before"
        self.near.replace([], [parse_network("127.0.0.1")])
        stranger.sendto(b"stranger", where)
        client.sendto(b"client", where)
        assert (await self.next(self.server))[0] == b"client"

    async def test_the_client_silent_for_longest_makes_room(self) -> None:
        self.patch(forward_udp, "CLIENTS", 2)  # type: ignore[no-untyped-call]  # trial's
        _, where = self.forward(idle=60)
        for _ in range(4):
            self.sock().sendto(b"x", where)
            await self.next(self.server)
        assert self.udp.map.flow_count == 2

    async def test_the_far_side_cannot_send_to_ports_of_its_own_process(self) -> None:
        _, where = self.forward()
        self.near.replace([parse_rule("udp:127.0.0.0/8:*")])
        back = Egress(reactor, Poller.of(reactor), self.near)
        udp = UdpEgress(back)
        self.addCleanup(udp.stopService)
        self.tunnel = FakeTunnel(back)
        _, loop = self.forward(f"udp:{where[0]}:{where[1]}")
        client = self.sock()
        client.sendto(b"round and round", loop)
        while not self.tunnel.opened:
            await deferLater(reactor, 0.001, lambda: None)
        assert udp.map.flow_count == 0

    async def test_nothing_is_left_when_the_forward_stops(self) -> None:
        made, where = self.forward(idle=60)
        client = self.sock()
        client.sendto(b"x", where)
        await self.next(self.server)
        made.stopService()
        assert self.udp.map.flow_count == 0
        client.connect(where)
        client.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            await self.next(client)


class PeerTests(Case):
    def test_a_refusal_is_not_asked_for_again_at_once(self) -> None:
        clock = Clock()
        peer = UdpPeer(clock, self.tunnel, "a test", "udp:192.0.2.1:9", ("127.0.0.1", 1), print)
        for _ in range(5):
            peer.send(("192.0.2.1", 9), b"x")
        assert len(self.tunnel.opened) == 1
        clock.advance(REST)
        peer.send(("192.0.2.1", 9), b"x")
        assert len(self.tunnel.opened) == 2

    def test_while_the_tunnel_is_down_datagrams_are_dropped(self) -> None:
        told: list[object] = []
        self.tunnel.down = True
        peer = UdpPeer(
            Clock(), self.tunnel, "a test", "udp:*", ("127.0.0.1", 1), print, told.append
        )
        peer.send(("127.0.0.1", self.port), b"lost")
        self.tunnel.down = False
        peer.send(("127.0.0.1", self.port), b"not lost")
        assert self.udp.map.flow_count == 1
        peer.close()
        peer.send(("127.0.0.1", self.port), b"closed")
        assert self.udp.map.flow_count == 0
        assert len(told) == 1


class AssociationTests(Case):
    async def associate(self, host: str, port: int) -> tuple[socket.socket, bytes]:
        """The control connection, and the reply."""
        socks = Socks(reactor, self.tunnel, self.near, SocksConfig("127.0.0.1", 0))
        socks.startService()
        self.addCleanup(socks.stopService)
        control = socket.socket()
        self.addCleanup(control.close)
        at, _, number = socks.address.rpartition(":")
        control.connect((at, int(number)))
        control.setblocking(False)
        control.send(
            b"\x05\x01\x00\x05\x03\x00\x01" + socket.inet_aton(host) + port.to_bytes(2, "big")
        )
        reply = b""
        while len(reply) < 12:
            reply += (await self.next(control))[0]
        return control, reply[2:]

    async def test_a_client_that_says_from_where_it_sends_is_taken_at_its_word(self) -> None:
        client, other = self.sock(), self.sock()
        control, reply = await self.associate(*client.getsockname())
        relay = (socket.inet_ntoa(reply[4:8]), int.from_bytes(reply[8:10], "big"))
        head = b"\0\0\0\x01\x7f\0\0\x01" + self.port.to_bytes(2, "big")
        with capturedLogs() as logged:
            other.sendto(head + b"other", relay)
            other.sendto(head + b"other", relay)
            client.sendto(head + b"client", relay)
            data, far = await self.next(self.server)
        assert data == b"client"
        dropped = f"datagrams from port {other.getsockname()[1]} are dropped"
        assert sum(dropped in formatEvent(event) for event in logged) == 1
        self.server.sendto(b"answer", far)
        assert await self.next(client) == (head + b"answer", relay)
        control.close()
        while self.udp.map.flow_count:
            await deferLater(reactor, 0.001, lambda: None)

    async def test_without_a_tunnel_an_association_is_refused(self) -> None:
        self.tunnel.down = True
        _, reply = await self.associate("0.0.0.0", 0)
        assert reply[1] == 4
