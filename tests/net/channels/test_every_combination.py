"""Any channel protocol over any rendezvous: a tunnel is one of each."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import Factory

from tests.frontends.talk import Talk, refused
from tests.net.channels.ends import (
    CARRIES_UDP,
    FAR,
    HAS_SERVICES,
    LISTENS,
    NEAR,
    PROTOCOLS,
    RENDEZVOUS,
    EndsCase,
)
from tunnelkit.core.lstp.mux import LstpMux
from tunnelkit.core.mux.contract import ChannelEnded
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.listen import ListenEgress
from tunnelkit.egress.udp import UdpEgress
from tunnelkit.errors import Code
from tunnelkit.frontends.forward.reverse import Reverse
from tunnelkit.frontends.forward.tcp import Forward
from tunnelkit.frontends.forward.udp import UdpForward
from tunnelkit.interfaces import IChannelProtocol
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.policy.acl import PolicyHolder, parse_rule
from tunnelkit.policy.destination import parse_forward

reactor: Any = global_reactor


class CombinationCase(EndsCase):
    """One way to meet, and one protocol on it."""

    kind = protocol = ""

    def speaks(self) -> IChannelProtocol:
        return PROTOCOLS[self.protocol]()

    async def tunnels(self) -> tuple[Tunnel, Tunnel]:
        """The near end's, and that of the far one, where rules decide (`allow`)."""
        self.rules = PolicyHolder()
        egress = Egress(reactor, Poller.of(reactor), self.rules)
        self.addCleanup(egress.close)
        if self.protocol in CARRIES_UDP:
            self.addCleanup(UdpEgress(egress).stopService)
        if self.protocol in LISTENS:
            self.addCleanup(ListenEgress(egress).stopService)
        return await self.pair(self.kind, [self.speaks()], [self.speaks()], egress)

    def run_service(self, service: Any) -> Any:
        service.startService()
        self.addCleanup(service.stopService)
        return service


class ServiceChecks(CombinationCase):
    async def test_bytes_and_half_close_go_through_in_both_directions(self) -> None:
        near, far = await self.tunnels()
        assert (near.peer, far.peer) == (FAR, NEAR)
        assert (near.topology[0], near.topology[-1]) == (NEAR, FAR)
        for one in (near, far):
            factory = Factory.forProtocol(Talk)
            talk: Any = await one.channel_to("service:echo").connect(factory)
            data = os.urandom(1 << 20)
            talk.write(data)
            talk.half_close()
            back = await talk.end()
            assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
            await talk.close()


class StreamChecks(CombinationCase):
    async def test_what_nobody_allows_is_refused_with_its_code(self) -> None:
        near, far = await self.tunnels()
        for one in (near, far):
            opening: Any = one.channel_to("tcp:127.0.0.1:1").connect(Factory.forProtocol(Talk))
            assert (await refused(opening)).code is Code.NOT_ALLOWED

    async def test_a_tcp_forward_leads_to_its_destination(self) -> None:
        near, _ = await self.tunnels()
        target = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(target.close)
        target.setblocking(False)
        place = f"tcp:127.0.0.1:{target.getsockname()[1]}"
        self.rules.replace([parse_rule(place)])
        forward = self.run_service(
            Forward(reactor, near, PolicyHolder(), parse_forward(f"0={place}")[0])
        )
        client = socket.create_connection(("127.0.0.1", int(forward.address.rpartition(":")[2])))
        self.addCleanup(client.close)
        accepted: list[socket.socket] = []

        def came() -> bool:
            try:
                accepted.append(target.accept()[0])
            except BlockingIOError:
                return False
            return True

        await self.until(came)
        self.addCleanup(accepted[0].close)
        client.setblocking(False)
        accepted[0].send(b"hello")
        await self.until(lambda: _received(client) == b"hello")


class UdpChecks(CombinationCase):
    async def test_a_udp_forward_brings_the_answer_back(self) -> None:
        near, _ = await self.tunnels()
        target, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (target, client):
            self.addCleanup(sock.close)
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        place = f"udp:127.0.0.1:{target.getsockname()[1]}"
        self.rules.replace([parse_rule(place)])
        forward = self.run_service(
            UdpForward(reactor, near, PolicyHolder(), parse_forward(f"0={place}")[0])
        )
        client.sendto(b"ask", ("127.0.0.1", int(forward.address.rpartition(":")[2])))
        came: list[tuple[bytes, Any]] = []

        def asked() -> bool:
            try:
                came.append(target.recvfrom(100))
            except BlockingIOError:
                return False
            return True

        await self.until(asked)
        target.sendto(b"answer", came[0][1])
        await self.until(lambda: _received(client) == b"answer")


class ListenChecks(CombinationCase):
    async def test_a_reverse_forward_opens_its_port_at_the_far_side(self) -> None:
        near, _ = await self.tunnels()
        target = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(target.close)
        target.setblocking(False)
        free = socket.create_server(("127.0.0.1", 0))
        number = free.getsockname()[1]
        free.close()
        self.rules.replace([parse_rule(f"listen:127.0.0.1:{number}")])
        spec = parse_forward(f"{number}=tcp:127.0.0.1:{target.getsockname()[1]}")[0]
        self.run_service(Reverse(reactor, near, PolicyHolder(), spec))
        client = socket.socket()
        self.addCleanup(client.close)
        await self.until(lambda: client.connect_ex(("127.0.0.1", number)) == 0)
        accepted: list[socket.socket] = []

        def came() -> bool:
            try:
                accepted.append(target.accept()[0])
            except BlockingIOError:
                return False
            return True

        await self.until(came)
        accepted[0].close()


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return b""


for _kind in RENDEZVOUS:
    for _protocol in PROTOCOLS:
        _checks: list[type[CombinationCase]] = [StreamChecks]
        if _protocol in HAS_SERVICES:
            _checks.append(ServiceChecks)
        if _protocol in CARRIES_UDP:
            _checks.append(UdpChecks)
        if _protocol in LISTENS:
            _checks.append(ListenChecks)
        _name = f"{_protocol}_over_{_kind}"
        globals()[_name] = type(_name, tuple(_checks), {"kind": _kind, "protocol": _protocol})
# Only for the combinations.
del StreamChecks, ServiceChecks, UdpChecks, ListenChecks


class ProtocolChoiceTests(EndsCase):
    async def test_the_two_ends_take_a_protocol_that_both_speak(self) -> None:
        for kind in RENDEZVOUS:
            several: list[IChannelProtocol] = [UsherProtocol(), LstpProtocol()]
            near, far = await self.pair(kind, several, [LstpProtocol()])
            for tunnel in (near, far):
                (connection,) = tunnel.connections
                assert isinstance(connection.mux, LstpMux)

    async def test_without_a_common_protocol_there_is_no_tunnel(self) -> None:
        place = await self.place("usher")
        far = self.end(FAR, place.far, [LstpProtocol()])
        near = self.end(NEAR, place.near, [PROTOCOLS["plain"]()])
        await self.until(lambda: near.tunnel.last_error and far.tunnel.last_error)
        assert far.tunnel.last_error == "the other end does not speak lstp/1 (ALPN)"
        assert not near.tunnel.status().up


class ConnectionsTests(EndsCase):
    """Further connections are LSTP's own, and need a rendezvous that meets again (D-10)."""

    async def test_further_connections_come_up_over_the_middle(self) -> None:
        near, far = await self.pair("lstp", [LstpProtocol(connections=3)], [LstpProtocol()])
        await self.until(lambda: len(near.connections) == len(far.connections) == 3)

    async def test_a_further_connection_asks_for_none_itself(self) -> None:
        near, far = await self.pair("lstp", [LstpProtocol(connections=2)], [LstpProtocol()])
        await self.until(lambda: len(near.connections) == len(far.connections) == 2)
        await self.declines(near.connections[1])
        assert len(near.connections) == len(far.connections) == 2

    async def test_where_ends_cannot_meet_again_none_is_made(self) -> None:
        near, _ = await self.pair("usher", [LstpProtocol(connections=3)], [LstpProtocol()])
        (connection,) = near.connections
        await self.declines(connection)

    async def declines(self, connection: Any) -> None:
        """The far side answers a request for a further connection with a refusal."""
        answers: list[Any] = []
        connection.handle(ChannelEnded, answers.append)
        connection.mux.further.request("x" * 43, connection.clock())
        connection.pump()
        await self.until(lambda: answers)
        assert (answers[0].code, answers[0].refused) == (Code.NOT_ALLOWED, True)
        assert connection.up
