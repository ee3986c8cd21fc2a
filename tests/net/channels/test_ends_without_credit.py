"""An end of file or a reset of an application needs no credit to be told (finding D-9)."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.net.channels.joined import OneEnd, StuckSide, join, later, socket_side, sockets
from tunnelkit.core.lstp.mux import LstpMux, MuxConfig
from tunnelkit.core.mux.contract import TunnelMux
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.tcp import LOW_WATER
from tunnelkit.wire import lstp
from tunnelkit.wire.usher import Version


class Protocol:
    """Makes the two muxes of a tunnel whose far end grants ``window`` bytes."""

    def mux(self, master: bool, window: int, shared: Shared) -> TunnelMux:
        config = MuxConfig(window=window)
        return LstpMux(master, config, shared.reactor.seconds(), budget=shared.budget)

    def pause(self, number: int) -> bytes:
        """What tells the near end not to send on a channel."""
        return lstp.encode(lstp.ServiceDataPause(), number)


class Usher11(Protocol):
    def mux(self, master: bool, window: int, shared: Shared) -> TunnelMux:
        config = UsherConfig(window=window)
        return UsherMux(Version.V1_1, config, shared.reactor.seconds(), budget=shared.budget)

    def pause(self, number: int) -> bytes:
        """There is no such record."""
        return b""


class CreditTests(TestCase):
    """Two ends with real sockets for applications."""

    timeout = 30
    protocol: Protocol = Protocol()

    def setUp(self) -> None:
        self.shared = Shared(reactor), Shared(reactor)
        self.programs: list[socket.socket] = []

    async def up(self, window: int) -> tuple[OneEnd, OneEnd]:
        near, far = (
            OneEnd(self.protocol.mux(master, window, shared), "peer", shared)
            for master, shared in zip((True, False), self.shared, strict=True)
        )
        self.addCleanup(self.over, near, far)
        join(near, far)
        while not (near.connection.up and far.connection.up):
            await later()
        return near, far

    def over(self, *ends: OneEnd) -> Any:
        for end in ends:
            end.end()
        for program in self.programs:
            program.close()
        return later()

    def application(self, end: OneEnd) -> tuple[socket.socket, LocalSide]:
        program, ours = sockets()
        self.programs.append(program)
        return program, socket_side(self.shared[0], ours)

    async def channel(self, near: OneEnd, far: OneEnd, far_side: LocalSide) -> socket.socket:
        """Opened by a program at ``near``, answered by ``far_side``; the program's socket."""
        program, side = self.application(near)
        opening = near.connection.open("tcp:a:1", side)
        while not far.owner.requests:
            await later()
        far.owner.requests[0].attach(far_side, "")
        await opening
        return program

    async def stalled(self) -> tuple[socket.socket, StuckSide]:
        """A far application that takes nothing, until there is no credit left."""
        near, far = await self.up(20_000)
        stuck = StuckSide()
        program = await self.channel(near, far, stuck)
        await deferToThread(program.sendall, bytes(20_000))
        assert stuck.channel is not None
        while stuck.channel.queued < 20_000:
            await later()
        return program, stuck

    # -- no window at all -------------------------------------------------

    async def test_an_end_passes_where_there_is_no_window(self) -> None:
        near, far = await self.up(0)
        target, side = self.application(far)
        program = await self.channel(near, far, side)
        program.shutdown(socket.SHUT_WR)
        assert await deferToThread(target.recv, 10) == b""
        target.shutdown(socket.SHUT_WR)
        assert await deferToThread(program.recv, 10) == b""
        while near.connection.channel_count or far.connection.channel_count:
            await later()
        assert [record.code for record in near.owner.records + far.owner.records] == [None] * 2

    async def test_a_reset_passes_where_there_is_no_window(self) -> None:
        near, far = await self.up(0)
        target, side = self.application(far)
        program = await self.channel(near, far, side)
        reset(program)
        with pytest.raises(ConnectionResetError):
            await deferToThread(target.recv, 10)
        while near.connection.channel_count or far.connection.channel_count:
            await later()

    async def test_ends_pass_a_pause(self) -> None:
        near, far = await self.up(20_000)
        target, side = self.application(far)
        program = await self.channel(near, far, side)
        (number,) = near.connection.mux.channels()
        near.wire.arrives(self.protocol.pause(number))
        program.shutdown(socket.SHUT_WR)
        assert await deferToThread(target.recv, 10) == b""

    # -- a reader that stalls ---------------------------------------------

    async def test_an_end_behind_the_last_credit_is_told(self) -> None:
        program, stuck = await self.stalled()
        program.shutdown(socket.SHUT_WR)
        assert stuck.channel is not None
        while not stuck.channel.far_finished:
            await later()

    async def test_data_in_front_of_the_end_comes_first(self) -> None:
        program, stuck = await self.stalled()
        program.sendall(b"more")
        program.shutdown(socket.SHUT_WR)
        await later(0.05)
        assert stuck.channel is not None
        assert not stuck.channel.far_finished
        stuck.take()
        while not stuck.finished:
            await later()
        assert bytes(stuck.taken or b"") == bytes(20_000) + b"more"

    async def test_a_reset_reaches_who_does_not_read(self) -> None:
        program, stuck = await self.stalled()
        await deferToThread(program.sendall, bytes(LOW_WATER // 4))
        reset(program)
        while not stuck.ended:
            await later()
        assert stuck.ended == [Code.RESET]

    async def test_a_reset_of_who_does_not_read_reaches_the_sender(self) -> None:
        near, far = await self.up(20_000)
        target, side = self.application(far)
        program = await self.channel(near, far, side)
        program.settimeout(0.5)
        with pytest.raises(TimeoutError):
            # The target reads nothing: at last the program cannot send any more.
            await deferToThread(program.sendall, bytes(64 << 20))
        program.settimeout(5)
        reset(target)
        with pytest.raises(ConnectionError):
            await deferToThread(program.sendall, bytes(64 << 20))
        while near.connection.channel_count or far.connection.channel_count:
            await later()


class Usher11CreditTests(CreditTests):
    protocol = Usher11()


def reset(program: socket.socket) -> None:
    program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    program.close()
