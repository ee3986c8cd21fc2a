"""The far side of UDP, with real sockets on loopback and a clock that the test moves."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from tunnelkit.core.decision import Decision
from tunnelkit.core.mux.contract import Datagram
from tunnelkit.egress import udp_map as module
from tunnelkit.egress.udp_map import UdpMap
from tunnelkit.errors import Code, DialError, LocalProtocolError, NotAuthorized
from tunnelkit.net.channels.addressed_flows import IDLE, REMOTES, AddressedUdpFlow, UdpFlows
from tunnelkit.net.channels.contracts import ChannelOpening, ChannelRecord, DatagramSink, Remote
from tunnelkit.net.channels.udp_flow import UdpFlow
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.udp import open_udp, send_udp

reactor: Any = global_reactor
LOCAL = "127.0.0.1"


class Wire(UdpFlow):
    """A flow whose other end is the test."""

    def __init__(self, sink: DatagramSink) -> None:
        super().__init__(sink)
        self.came: list[tuple[Remote, bytes]] = []
        self.end_seen: tuple[Code | None, str] | None = None

    def send(self, remote: Remote, data: bytes | memoryview) -> bool:
        self.came.append((remote, bytes(data)))
        return True

    def end(self) -> None:
        self.abort(None, "")

    def abort(self, code: Code | None, reason: str) -> None:
        if not self.over:
            self.end_seen = (code, reason)
            self.ended(code, reason)

    def put(self, remote: Remote, data: bytes) -> None:
        """A datagram from the tunnel."""
        self.sink.datagram_received(remote, memoryview(data))


class NamedWire(Wire):
    keeps_names = True


class Asking:
    """A request for a flow; ``flow`` is what it became."""

    flow: Wire

    def __init__(self, peer: str = "portal", make: type[Wire] = Wire) -> None:
        self.peer = peer
        self._make = make

    def attach_flow(self, sink: DatagramSink) -> UdpFlow:
        self.flow = self._make(sink)
        return self.flow


class UdpMapTests(TestCase):
    timeout = 5

    def setUp(self) -> None:
        self.clock = Clock()
        self.forbidden: set[tuple[str, int]] = set()
        self.asked: list[tuple[str, str, int, str | None]] = []
        self.told: list[str] = []
        self.over: list[tuple[str, Remote, Remote, int, int, float]] = []
        self.mapped: dict[Remote, Remote] = {}
        self.names: dict[str, Deferred[Sequence[str]]] = {}
        poller: Any = _WithClock(Poller.of(reactor), self.clock)
        self.map = UdpMap(poller, self)
        self.addCleanup(self.map.close)

    def resolve(self, peer: str, host: str, port: int) -> Deferred[Sequence[str]]:
        return self.names[host] if host in self.names else succeed((host,))

    def meant(self, host: str, port: int) -> Remote:
        return self.mapped.get((host, port), (host, port))

    def denied(self, peer: str, error: NotAuthorized) -> None:
        self.told.append(str(error))

    def passed(
        self, peer: str, remote: Remote, meant: Remote, sent: int, received: int, seconds: float
    ) -> None:
        self.over.append((peer, remote, meant, sent, received, seconds))

    def authorize(self, peer: str, address: str, port: int, name: str | None) -> Decision:
        self.asked.append((peer, address, port, name))
        if (address, port) in self.forbidden:
            raise NotAuthorized("no rule")
        return Decision(peer, "sendto", "udp", address, port, "a rule")

    def server(self, host: str = LOCAL) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.settimeout(2)
        self.addCleanup(sock.close)
        return sock

    def flow(self, peer: str = "portal", make: type[Wire] = Wire, fixed: bool = False) -> Wire:
        request = Asking(peer, make)
        self.map.serve(request, fixed)
        return request.flow

    async def turn(self, wire: Wire, count: int) -> list[tuple[Remote, bytes]]:
        """What has come back, once there are ``count`` datagrams."""
        while len(wire.came) < count:
            await deferLater(reactor, 0.001, lambda: None)
        return wire.came

    async def test_datagrams_go_out_and_answers_come_back(self) -> None:
        server, wire = self.server(), self.flow()
        address = server.getsockname()
        for data in (b"a", b"", b"c" * 60_000):
            wire.put(address, data)
            got, far = server.recvfrom(65_535)
            assert got == data
            server.sendto(data[::-1], far)
        came = await self.turn(wire, 3)
        assert came == [(address, b"a"), (address, b""), (address, b"c" * 60_000)]

    async def test_ipv4_and_ipv6_on_one_flow(self) -> None:
        four, six, wire = self.server(), self.server("::1"), self.flow()
        for server in (four, six):
            wire.put(server.getsockname()[:2], b"x")
            _, far = server.recvfrom(10)
            server.sendto(b"y", far)
        came = await self.turn(wire, 2)
        assert sorted(came) == sorted([(four.getsockname(), b"y"), (six.getsockname()[:2], b"y")])

    async def test_what_others_send_is_not_relayed(self) -> None:
        server, stranger, wire = self.server(), self.server(), self.flow()
        wire.put(server.getsockname(), b"x")
        _, far = server.recvfrom(10)
        stranger.sendto(b"spoofed", far)
        server.sendto(b"genuine", far)
        assert await self.turn(wire, 1) == [(server.getsockname(), b"genuine")]

    async def test_each_flow_has_a_socket_of_its_own(self) -> None:
        server, one, two = self.server(), self.flow(), self.flow()
        one.put(server.getsockname(), b"1")
        two.put(server.getsockname(), b"2")
        fars = dict(server.recvfrom(10) for _ in range(2))
        assert fars[b"1"] != fars[b"2"]
        server.sendto(b"for two", fars[b"2"])
        assert await self.turn(two, 1) == [(server.getsockname(), b"for two")]
        assert one.came == []

    async def test_a_mapping_ends_some_time_after_its_last_packet(self) -> None:
        old, new, wire = self.server(), self.server(), self.flow()
        wire.put(old.getsockname(), b"x")
        _, far = old.recvfrom(10)
        self.clock.advance(IDLE - 1)
        old.sendto(b"in time", far)
        await self.turn(wire, 1)
        # The answer was a packet, too.
        self.clock.advance(IDLE - 1)
        wire.put(new.getsockname(), b"x")
        new.recvfrom(10)
        self.clock.advance(2)
        old.sendto(b"too late", far)
        new.sendto(b"in time", far)
        assert (await self.turn(wire, 2))[1:] == [(new.getsockname(), b"in time")]

    async def test_a_flow_ends_some_time_after_its_last_packet(self) -> None:
        server, idle, busy = self.server(), self.flow(), self.flow()
        for _ in range(3):
            self.clock.advance(IDLE / 2)
            busy.put(server.getsockname(), b"x")
        assert (idle.over, busy.over) == (True, False)
        assert idle.end_seen == (None, "")
        self.clock.advance(IDLE)
        assert busy.over
        assert self.map.flow_count == 0
        assert not self.clock.getDelayedCalls()

    def test_every_datagram_is_authorized_when_it_is_sent(self) -> None:
        server, wire = self.server(), self.flow()
        host, port = server.getsockname()
        wire.put((host, port), b"1")
        wire.put((host, port), b"2")
        self.forbidden.add((host, port))
        wire.put((host, port), b"3")
        assert self.asked == [("portal", host, port, None)] * 3
        assert [server.recv(10) for _ in range(2)] == [b"1", b"2"]
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(10)
        assert not wire.over

    def test_a_flow_with_one_destination_ends_with_what_becomes_of_that(self) -> None:
        self.forbidden.add((LOCAL, 9))
        wire = self.flow(fixed=True)
        wire.put((LOCAL, 9), b"x")
        assert wire.end_seen == (Code.NOT_ALLOWED, "not allowed there")
        self.names["nobody.example"] = Deferred()
        wire = self.flow(fixed=True)
        wire.put(("nobody.example", 9), b"x")
        self.names["nobody.example"].errback(DialError("none", code=Code.NO_SUCH_HOST))
        assert wire.end_seen == (Code.NO_SUCH_HOST, "no such host")

    async def test_a_name_is_resolved_once_and_each_of_its_addresses_checked(self) -> None:
        server = self.server()
        port = server.getsockname()[1]
        self.names["ns.example"] = Deferred()
        wire = self.flow(make=NamedWire)
        for number in range(20):
            wire.put(("ns.example", port), b"%d" % number)
        assert self.asked == []
        self.forbidden.add(("127.0.0.9", port))
        self.names["ns.example"].callback(["127.0.0.9", LOCAL])
        got = [server.recvfrom(10) for _ in range(16)]
        assert [data for data, _ in got] == [b"%d" % number for number in range(16)]
        assert self.asked[:2] == [
            ("portal", "127.0.0.9", port, "ns.example"),
            ("portal", LOCAL, port, "ns.example"),
        ]
        wire.put(("ns.example", port), b"later")
        assert server.recv(10) == b"later"
        server.sendto(b"answer", got[0][1])
        # Here the flow wants to hear of the name it has used.
        assert await self.turn(wire, 1) == [(("ns.example", port), b"answer")]

    async def test_a_mapped_destination_answers_under_the_name_that_was_asked(self) -> None:
        server, wire = self.server(), self.flow()
        address = server.getsockname()
        self.mapped["ns.example", 53] = address
        wire.put(("ns.example", 53), b"question")
        _, far = server.recvfrom(100)
        assert self.asked == [("portal", *address, None)]
        server.sendto(b"answer", far)
        assert await self.turn(wire, 1) == [(("ns.example", 53), b"answer")]

    async def test_what_has_passed_is_told_once_for_each_destination(self) -> None:
        one, two, wire = self.server(), self.server(), self.flow()
        self.mapped["ns.example", 53] = two.getsockname()
        self.forbidden.add((LOCAL, 9))
        for data in (b"abc", b"de"):
            wire.put(one.getsockname(), data)
            _, far = one.recvfrom(100)
        one.sendto(b"answer", far)
        await self.turn(wire, 1)
        self.clock.advance(2)
        wire.put(("ns.example", 53), b"x")
        wire.put((LOCAL, 9), b"not allowed")
        assert self.over == []
        wire.end()
        assert self.over == [
            ("portal", one.getsockname(), one.getsockname(), 6, 5, 0.0),
            ("portal", ("ns.example", 53), two.getsockname(), 0, 1, 0.0),
        ]

    def test_a_failed_name_is_tried_again(self) -> None:
        server, wire = self.server(), self.flow()
        self.names["ns.example"] = Deferred()
        wire.put(("ns.example", server.getsockname()[1]), b"1")
        self.names["ns.example"].errback(DialError("not now"))
        self.names["ns.example"] = succeed([LOCAL])
        wire.put(("ns.example", server.getsockname()[1]), b"2")
        assert server.recv(10) == b"2"

    def test_names_being_resolved_are_limited(self) -> None:
        wire, other = self.flow(), self.flow("other")
        for number in range(module.LOOKUPS + 10):
            self.names[f"n{number}.example"] = Deferred()
            wire.put((f"n{number}.example", 9), b"x")
        self.names["other.example"] = Deferred()
        other.put(("other.example", 9), b"x")
        assert self.map.lookups == {"portal": module.LOOKUPS, "other": 1}
        for waiting in self.names.values():
            waiting.callback([])
        assert not self.map.lookups

    def test_the_flow_idle_for_longest_makes_room_within_its_peer(self) -> None:
        server, other = self.server(), self.flow("other")
        wires = [self.flow() for _ in range(module.FLOWS_PER_PEER)]
        wires[0].put(server.getsockname(), b"x")
        self.flow()
        assert [wire.over for wire in wires[:3]] == [False, True, False]
        assert not other.over
        assert self.map.flow_count == module.FLOWS_PER_PEER + 1

    def test_a_crowded_map_takes_from_whoever_has_most(self) -> None:
        poller: Any = _WithClock(Poller.of(reactor), self.clock)
        self.map = UdpMap(poller, self, most=10)
        self.addCleanup(self.map.close)
        few = [self.flow("few") for _ in range(2)]
        many = [self.flow("many") for _ in range(8)]
        late = self.flow("late")
        assert [wire.over for wire in (*few, late)] == [False] * 3
        assert [wire.over for wire in many] == [True] + [False] * 7

    def test_a_flow_s_destinations_are_limited(self) -> None:
        wire = self.flow()
        for port in range(1, REMOTES + 20):
            wire.put(("192.0.2.1", port), b"")
        sink: Any = wire.sink
        assert len(sink._mappings) == REMOTES
        assert len(sink._by_address) <= REMOTES

    async def test_nothing_is_left_when_flows_end(self) -> None:
        server, wire = self.server(), self.flow()
        wire.put(server.getsockname(), b"x")
        _, far = server.recvfrom(10)
        wire.end()
        probe = self.server()
        probe.connect(far)
        probe.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            probe.recv(10)
        assert self.map.flow_count == 0
        assert not self.clock.getDelayedCalls()

    def test_a_socket_is_used_with_a_decision_for_sending_only(self) -> None:
        bind = Decision("", "bind", "udp", LOCAL, 0, "")
        with pytest.raises(LocalProtocolError):
            open_udp(bind)
        with self.server() as sock, pytest.raises(LocalProtocolError):
            send_udp(sock, bind, b"")


class _WithClock:
    """A poller whose reactor is a clock."""

    def __init__(self, poller: Poller, clock: Clock) -> None:
        self.reactor = clock
        self.add = poller.add
        self.remove = poller.remove
        self.change = poller.change


# -- flows told apart by pairs of addresses -------------------------------


class Note:
    """A sink that notes what it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[Remote, bytes]] = []
        self.opened = 0
        self.end: tuple[Code | None, str] | None = None

    def flow_opened(self) -> None:
        self.opened += 1

    def datagram_received(self, remote: Remote, data: memoryview) -> None:
        self.got.append((remote, bytes(data)))

    def flow_ended(self, code: Code | None, reason: str) -> None:
        assert self.end is None
        self.end = (code, reason)


class FakeSession:
    """What `UdpFlows` needs of a connection whose mux carries both addresses."""

    peer = "gate"

    def __init__(self) -> None:
        self.mux = SimpleNamespace(addressed_datagrams=True)
        self.time = 0.0
        self.sent: list[tuple[int, Remote, Remote, bytes]] = []
        self.openings: list[ChannelOpening] = []
        self.records: list[ChannelRecord] = []
        self.accepted: list[Note] = []
        self.takes = True

    def clock(self) -> float:
        return self.time

    def send_datagram(self, flow: int, source: Remote, destination: Remote, data: Any) -> bool:
        if ":" in destination[0]:
            raise LocalProtocolError("no IPv6 here")
        self.sent.append((flow, source, destination, bytes(data)))
        return True

    def request(self, request: Any) -> None:
        assert request.peer == "gate"
        if self.takes:
            note = Note()
            note.flow = request.attach_flow(note)  # type: ignore[attr-defined]  # for the test
            self.accepted.append(note)
        else:
            request.refuse(Code.NOT_ALLOWED, "no")

    def flow_began(self, destination: str, inbound: bool, near: str) -> ChannelOpening:
        opening = ChannelOpening(len(self.openings), "gate", destination, inbound, "", near)
        self.openings.append(opening)
        return opening

    def flow_ended(self, record: ChannelRecord) -> None:
        assert self.openings[record.serial].destination == record.destination
        self.records.append(record)


HERE, THERE, ELSEWHERE = ("10.0.0.1", 1000), ("192.0.2.1", 53), ("192.0.2.2", 53)


def made() -> tuple[FakeSession, UdpFlows]:
    connection: Any = FakeSession()
    return connection, UdpFlows(connection)


def came(datagrams: UdpFlows, source: Remote, destination: Remote, data: bytes) -> None:
    datagrams.received(Datagram(0, source, destination, memoryview(data)))


def test_an_answer_is_what_comes_back_from_where_a_flow_has_sent() -> None:
    connection, datagrams = made()
    connection.takes = False
    note = Note()
    flow = datagrams.open("udp:*", HERE, note)
    assert note.opened == 1
    assert flow.send(THERE, b"question")
    assert connection.sent == [(0, HERE, THERE, b"question")]
    came(datagrams, ELSEWHERE, HERE, b"spoofed")
    came(datagrams, THERE, ("10.0.0.2", 1000), b"not ours")
    came(datagrams, THERE, HERE, b"answer")
    assert note.got == [(THERE, b"answer")]


def test_an_answer_that_comes_too_late_is_a_new_flow_which_has_to_be_allowed() -> None:
    connection, datagrams = made()
    connection.takes = False
    note = Note()
    flow = datagrams.open("udp:*", HERE, note)
    flow.send(THERE, b"question")
    connection.time = IDLE
    came(datagrams, THERE, HERE, b"in time")
    connection.time = 3 * IDLE
    came(datagrams, THERE, HERE, b"too late")
    assert note.got == [(THERE, b"in time")]


def test_a_datagram_that_answers_nothing_begins_a_flow_of_its_sender() -> None:
    connection, datagrams = made()
    came(datagrams, HERE, THERE, b"1")
    came(datagrams, HERE, ELSEWHERE, b"2")
    (note,) = connection.accepted
    assert note.got == [(THERE, b"1"), (ELSEWHERE, b"2")]
    flow: AddressedUdpFlow = note.flow  # type: ignore[attr-defined]  # for the test
    assert flow.send(THERE, b"answer")
    assert connection.sent == [(0, THERE, HERE, b"answer")]
    flow.end()
    assert not flow.send(THERE, b"late")
    ((record),) = connection.records
    assert (record.inbound, record.bytes_received, record.bytes_sent) == (True, 2, 6)
    came(datagrams, HERE, THERE, b"3")
    assert len(connection.accepted) == 2


def test_a_flow_remembers_a_limited_number_of_addresses() -> None:
    connection, datagrams = made()
    connection.takes = False
    note = Note()
    flow = datagrams.open("udp:*", HERE, note)
    for number in range(REMOTES + 1):
        flow.send(("192.0.2.1", number), b"x")
    came(datagrams, ("192.0.2.1", 0), HERE, b"forgotten")
    came(datagrams, ("192.0.2.1", 1), HERE, b"known")
    assert note.got == [(("192.0.2.1", 1), b"known")]


def test_what_the_tunnel_cannot_carry_ends_the_flow_with_the_reason() -> None:
    connection, datagrams = made()
    note = Note()
    flow = datagrams.open("udp:*", HERE, note)
    assert not flow.send(("2001:db8::1", 53), b"x")
    assert note.end == (Code.UNREACHABLE, "no IPv6 here")
    assert len(connection.records) == 1


def test_all_flows_end_with_the_connection() -> None:
    connection, datagrams = made()
    near = Note()
    datagrams.open("udp:*", HERE, near).send(THERE, b"x")
    came(datagrams, ELSEWHERE, HERE, b"y")
    datagrams.over(Code.RESET, "lost")
    assert near.end == connection.accepted[0].end == (Code.RESET, "lost")
    connection.takes = False
    came(datagrams, THERE, HERE, b"late")
    assert near.got == []
