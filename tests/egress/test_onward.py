"""What an end asks the next one for, on behalf of who has asked it (row U18)."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.net.channels.joined import OneEnd, StuckSide, join, later, socket_side, sockets
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.onward import OPENINGS_PER_PEER, Onward
from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import ChannelEvent
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.sockets.context import Shared
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.mapping import Maps, parse_map
from tunnelkit.policy.onward import OnwardRules, parse_onward
from tunnelkit.wire.usher import Version

MIB = 1 << 20
WINDOW = 50_000


def unlogged(event: ChannelEvent) -> None:
    """There is no access log."""


class OnwardTests(TestCase):
    """portal -- gate == gate -- next gate; the gate in the middle is `Onward`."""

    timeout = 30

    async def chain(self, version: Version = Version.V1_1) -> None:
        """Two tunnels that are up, and what answers the first one."""
        self.shared = [Shared(reactor) for _ in range(4)]
        names = {0: "portal", 1: "gate", 2: "gate", 3: "next"}
        ends = [
            OneEnd(
                UsherMux(
                    version if number > 1 else Version.V1_1,
                    UsherConfig(window=WINDOW, name=names[number]),
                    shared.reactor.seconds(),
                    budget=shared.budget,
                ),
                names[number ^ 1],
                shared,
            )
            for number, shared in enumerate(self.shared)
        ]
        self.portal, inner, outer, self.next = ends
        self.programs: list[socket.socket] = []
        self.addCleanup(self.over, *ends)
        join(self.portal, inner)
        join(outer, self.next)
        while not all(end.connection.up for end in ends):
            await later()
        shared = self.shared[1]
        self.egress = Egress(shared.reactor, shared.poller, PolicyHolder())
        tunnel = Tunnel(self.shared[2], "onward", lambda request: None, unlogged)
        tunnel.add(outer.connection)
        self.onward = Onward(self.egress, tunnel, "gate", "next")
        self.onward.rules = OnwardRules([parse_onward("portal=tcp:*.b.example:80")])
        self.addCleanup(self.onward.close)
        inner.owner.answers = self.onward

    def over(self, *ends: OneEnd) -> Any:
        for end in ends:
            end.end()
        for program in self.programs:
            program.close()
        return later()

    def application(self, number: int) -> tuple[socket.socket, Any]:
        program, ours = sockets()
        self.programs.append(program)
        return program, socket_side(self.shared[number], ours)

    def ask(self, destination: str = "tcp:web.b.example:80") -> Any:
        """The portal wants it; the program's side."""
        side = StuckSide()
        self.portal.connection.open(destination, side).addErrback(lambda failure: None)
        return side

    async def asked(self, count: int) -> list[Any]:
        """Wait until the next gate has been asked so often."""
        while len(self.next.owner.requests) < count:
            await later()
        return self.next.owner.requests

    async def outcome(self, side: Any) -> Code | None:
        while not side.ended:
            await later()
        return cast("Code | None", side.ended[0])

    async def connected(self) -> tuple[socket.socket, socket.socket]:
        """A program at the portal, and the one that it talks to."""
        program, side = self.application(0)
        target, far_side = self.application(3)
        opening = self.portal.connection.open("tcp:web.b.example:80", side)
        (request,) = await self.asked(1)
        assert (request.destination, request.via) == ("tcp:web.b.example:80", ("gate",))
        request.attach(far_side, "tcp:10.2.0.1:50000")
        assert await opening == "tcp:10.2.0.1:50000"
        return program, target

    async def test_bytes_pass_both_ways_and_each_end_in_its_time(self) -> None:
        await self.chain()
        program, target = await self.connected()
        data = bytes(range(256)) * (MIB // 256)
        for one, other in ((program, target), (target, program)):

            def receive(other: socket.socket = other) -> bytes:
                found = bytearray()
                while piece := other.recv(1 << 16):
                    found += piece
                return bytes(found)

            receiving = deferToThread(receive)
            await deferToThread(one.sendall, data)
            one.shutdown(socket.SHUT_WR)
            assert await receiving == data
        while self.portal.connection.channel_count or self.next.connection.channel_count:
            await later()
        records = self.portal.owner.records + self.next.owner.records
        assert [record.code for record in records] == [None, None]

    async def test_who_does_not_read_stops_the_sender_and_nothing_is_piled_up(self) -> None:
        await self.chain()
        program, side = self.application(0)
        opening = self.portal.connection.open("tcp:web.b.example:80", side)
        (request,) = await self.asked(1)
        stuck = StuckSide()
        request.attach(stuck, "")
        await opening
        sending = deferToThread(program.sendall, bytes(MIB))
        assert stuck.channel is not None
        while stuck.channel.queued < WINDOW:
            await later()
        for _ in range(50):
            await later()
        # A window each way out of the gate, and one that may wait between them.
        assert self.portal.connection.bytes_sent <= 3 * WINDOW
        stuck.take()
        await sending
        while len(stuck.taken or b"") < MIB:
            await later()

    async def test_a_reset_at_either_end_is_one_at_the_other(self) -> None:
        for broken in (0, 1):
            await self.chain()
            pair = await self.connected()
            pair[broken].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            pair[broken].close()
            with pytest.raises(ConnectionResetError):
                await deferToThread(pair[1 - broken].recv, 1)

    async def test_what_the_next_gate_says_is_what_the_opener_is_told(self) -> None:
        await self.chain()
        for number, code in enumerate((Code.NOT_ALLOWED, Code.NO_SUCH_HOST, Code.REFUSED), 1):
            side = self.ask()
            (await self.asked(number))[-1].refuse(code, "so it is")
            assert await self.outcome(side) is code

    async def test_what_no_pattern_is_for_is_left_to_the_own_rules(self) -> None:
        await self.chain()
        for destination in ("tcp:web.b.example:81", "tcp:b.example:80", "udp:*", "service:x"):
            side = self.ask(destination) if destination != "udp:*" else self.ask("tcp:1.2.3.4:5")
            assert await self.outcome(side) in (Code.NOT_ALLOWED, Code.NO_SUCH_SERVICE)
        assert not self.next.owner.requests

    async def test_a_pattern_is_asked_about_what_a_map_says_is_meant(self) -> None:
        await self.chain()
        self.egress.maps = Maps([parse_map("wiki:80=tcp:web.b.example:80")])
        self.ask("tcp:wiki:80")
        assert (await self.asked(1))[0].destination == "tcp:web.b.example:80"

    async def test_only_so_many_of_one_peer_are_asked_for_at_once(self) -> None:
        await self.chain()
        sides = [self.ask() for _ in range(OPENINGS_PER_PEER + 3)]
        await self.asked(OPENINGS_PER_PEER)
        for _ in range(50):
            await later()
        assert len(self.next.owner.requests) == OPENINGS_PER_PEER
        for request in list(self.next.owner.requests):
            request.refuse(Code.REFUSED, "")
        assert len(await self.asked(OPENINGS_PER_PEER + 3)) == OPENINGS_PER_PEER + 3
        assert await self.outcome(sides[0]) is Code.REFUSED

    async def test_who_gives_up_is_reset_there_once_it_is_answered(self) -> None:
        await self.chain()
        side = self.ask()
        (request,) = await self.asked(1)
        side.channel.abort(Code.RESET, "enough")
        for _ in range(50):
            await later()
        assert not request.gone
        there = StuckSide()
        request.attach(there, "")
        assert await self.outcome(there) is Code.RESET

    async def test_over_usher_1_only_what_a_portal_wants_goes_on(self) -> None:
        await self.chain(Version.V1)
        inner = self.portal.connection
        assert await self.outcome_of_onward(inner, ("other",)) is Code.UNREACHABLE
        assert not self.next.owner.requests
        self.ask()
        assert (await self.asked(1))[0].via == ()

    async def outcome_of_onward(self, connection: Any, via: tuple[str, ...]) -> Code | None:
        side = StuckSide()
        opening = connection.open("tcp:web.b.example:80", side, via)
        opening.addErrback(lambda failure: None)
        return await self.outcome(side)

    async def test_nothing_goes_back_to_where_it_came_from_or_goes_round(self) -> None:
        await self.chain()
        self.onward._next_name = "portal"
        assert await self.outcome(self.ask()) is Code.REFUSED
        self.onward._next_name = "next"
        for via in (("gate",), ("a", "gate", "b")):
            assert await self.outcome_of_onward(self.portal.connection, via) is Code.REFUSED
        full = tuple(f"gate-{number}" for number in range(8))
        assert await self.outcome_of_onward(self.portal.connection, full) is Code.LIMIT
        assert not self.next.owner.requests
