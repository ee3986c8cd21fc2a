"""A tunnel without a network: what is opened at one end is requested at the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tunnelkit.egress.requests import EgressRequest
from tunnelkit.errors import ChannelRefused, Code
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import END, DatagramSink, LocalSide, Remote
from tunnelkit.net.channels.protocol_side import ChannelEndpoint
from tunnelkit.net.channels.udp_flow import UdpFlow
from tunnelkit.net.sockets.poll import Poller

_BUFFER = memoryview(bytearray(65536))


class FakeFlow(UdpFlow):
    """One end of a flow whose other end is another of these: `join` them."""

    def __init__(self, sink: DatagramSink) -> None:
        super().__init__(sink)
        self.other: FakeFlow | None = None
        self.waiting: list[tuple[Remote, bytes]] = []

    def join(self, other: FakeFlow) -> None:
        """From now on what goes in here comes out there, and so the other way."""
        for one, two in ((self, other), (other, self)):
            one.other = two
            for remote, data in one.waiting:
                two.sink.datagram_received(remote, memoryview(data))

    def send(self, remote: Remote, data: bytes | memoryview) -> bool:
        if self.over:
            return False
        if self.other is None:
            self.waiting.append((remote, bytes(data)))
        elif not self.other.over:
            self.other.sink.datagram_received(remote, memoryview(bytes(data)))
        return True

    def end(self) -> None:
        self.ended(None, "")
        if self.other is not None:
            self.other.ended(None, "")

    def abort(self, code: Code, reason: str) -> None:
        self.ended(code, reason)
        if self.other is not None:
            self.other.ended(code, reason)


class FakeRequest:
    """What the far side's acceptor sees; `answer` fires with ``attach``'s bound text."""

    def __init__(self, destination: str, peer: str = "gate") -> None:
        self.peer = peer
        self.destination = destination
        self.on_gone: Callable[[], None] | None = None
        self.gone = False
        self.answer: Deferred[str] = Deferred()
        self.side: LocalSide | None = None
        self.flow: FakeFlow | None = None

    def attach(self, side: LocalSide, bound: str, rule: str = "") -> None:
        assert not self.gone
        self.gone = True
        self.side = side
        self.answer.callback(bound)

    def refuse(self, code: Code, reason: str) -> None:
        assert not self.gone
        self.gone = True
        self.answer.errback(ChannelRefused(code, reason))

    def attach_flow(self, sink: DatagramSink) -> FakeFlow:
        assert not self.gone
        self.gone = True
        self.flow = FakeFlow(sink)
        self.answer.callback("")
        return self.flow

    def abandon(self) -> None:
        """The opener gives up."""
        self.gone = True
        if self.on_gone is not None:
            self.on_gone()


class Pair:
    """Two local sides back to back; plays the connection for both channels."""

    def __init__(self, near: LocalSide, destination: str) -> None:
        self.near = Channel(cast(TunnelConnection, self), 1, near, destination, False, 0.0)
        self.far: Channel | None = None
        self._early = False
        near.attach(self.near)

    def join(self, far: LocalSide) -> None:
        """The far side is there; maybe too late."""
        if self.near.connection is None:
            far.reset(Code.RESET, "the far side gave up")
            return
        self.far = Channel(cast(TunnelConnection, self), 2, far, self.near.destination, True, 0.0)
        far.attach(self.far)
        if self._early:
            self.schedule(self.near)

    def _other(self, channel: Channel) -> Channel | None:
        return self.far if channel is self.near else self.near

    def schedule(self, channel: Channel) -> None:
        """``channel`` has something; like a connection, look at it later."""
        Poller.of(reactor).after_batch(lambda: self._move(channel))

    def _move(self, channel: Channel) -> None:
        other = self._other(channel)
        if other is not None and other.queue:
            channel.scheduled = True  # until it has been flushed
            return
        channel.scheduled = False  # the side may say once more that it is ready
        while other is not None and channel.connection is not None:
            size = channel.side.pull_into(_BUFFER)
            if size == END:
                channel.near_finished = other.far_finished = True
                other.side.finish()
                if other.near_finished:
                    self._over(lambda side: side.close())
                return
            if size == 0:
                break
            try:
                taken = other.side.push(_BUFFER[:size])
            except OSError as error:
                self.abort(other, Code.RESET, error.strerror or "gone")
                return
            if taken < size:
                other.queue.append(bytes(_BUFFER[taken:size]))
                channel.scheduled = True
                return
            if size < len(_BUFFER):
                break  # like a connection: the side says when there is more
        if other is None:
            self._early = channel.scheduled = True

    def flush(self, channel: Channel) -> None:
        """``channel`` takes data again."""
        while channel.queue:
            piece = channel.queue.popleft()
            taken = channel.side.push(memoryview(piece))
            if taken < len(piece):
                channel.queue.appendleft(piece[taken:])
                return
        other = self._other(channel)
        if other is not None and other.scheduled:
            self.schedule(other)

    def abort(self, channel: Channel, code: Code, reason: str) -> None:
        """Either application is gone."""
        self._over(lambda side: side.reset(code, reason))

    def _over(self, end: Callable[[LocalSide], object]) -> None:
        for channel in (self.near, self.far):
            if channel is not None and channel.connection is not None:
                channel.connection = None
                end(channel.side)


class FakeTunnel:
    """`open` here is a request at ``acceptor``."""

    peer = "gate"

    def __init__(self, acceptor: Callable[[EgressRequest], object]) -> None:
        self._acceptor = acceptor
        self.opened: list[str] = []
        self.down = False

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        self.opened.append(destination)
        request = FakeRequest(destination)
        pair = Pair(side, destination)
        result: Deferred[str] = Deferred()

        def attached(bound: str) -> None:
            assert request.side is not None
            result.callback(bound)
            pair.join(request.side)

        def refused(failure: object) -> None:
            error = getattr(failure, "value", None)
            assert isinstance(error, ChannelRefused)
            side.reset(error.code, error.reason)
            result.errback(error)

        request.answer.addCallbacks(attached, refused)
        self._acceptor(request)
        return result

    def channel_to(self, destination: str) -> ChannelEndpoint:
        return ChannelEndpoint(self, destination)

    def open_flow(self, destination: str, near: Remote, sink: DatagramSink) -> UdpFlow | None:
        self.opened.append(destination)
        if self.down:
            return None
        request = FakeRequest(destination)
        flow = FakeFlow(sink)

        def attached(bound: str) -> None:
            assert request.flow is not None
            flow.join(request.flow)
            sink.flow_opened()

        def refused(failure: object) -> None:
            error = getattr(failure, "value", None)
            assert isinstance(error, ChannelRefused)
            flow.ended(error.code, error.reason)

        request.answer.addCallbacks(attached, refused)
        self._acceptor(request)
        return flow
