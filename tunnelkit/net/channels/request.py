"""What the far side asks for, until it has been answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from tunnelkit.errors import Code
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.contracts import DatagramSink, LocalSide
from tunnelkit.net.channels.udp_flow import ChannelUdpFlow, UdpFlow


class RequestConnection(Protocol):
    """What a request asks of the connection that it came on."""

    @property
    def peer(self) -> str:
        """Verified name of the end that asks."""

    def accept(self, request: ChannelRequest, side: LocalSide, bound: str, rule: str) -> Channel:
        """The answer is yes."""

    def refuse(self, request: ChannelRequest, code: Code, reason: str) -> None:
        """The answer is no."""


class ChannelRequest:
    """A channel that the far side wants.

    With ``listener`` it is a connection of ``origin`` that the far side has accepted on the
    listener that this end opened with that channel.
    """

    __slots__ = (
        "_connection",
        "came",
        "channel",
        "destination",
        "early",
        "early_datagrams",
        "finished",
        "gone",
        "listener",
        "on_gone",
        "origin",
        "peer",
        "via",
    )

    def __init__(
        self,
        connection: RequestConnection,
        channel: int,
        destination: str,
        listener: Channel | None = None,
        origin: str = "",
        came: float = 0.0,
        via: tuple[str, ...] = (),
    ) -> None:
        self._connection: RequestConnection | None = connection
        self.channel = channel
        self.peer = connection.peer
        """Verified name of the end that asks."""
        self.destination = destination
        self.listener = listener
        self.origin = origin
        """The client's address in text, as the far side tells it."""
        self.came = came
        """When it was asked for."""
        self.via = via
        """By which ends the wish has come, as the far side tells it."""
        self.early = bytearray()
        """What the far application has sent already; at most `contract.EARLY_DATA` bytes."""
        self.early_datagrams: list[tuple[tuple[str, int], bytes]] = []
        self.finished = False
        """That is all it sends."""
        self.gone = False
        """Nobody waits for an answer any more."""
        self.on_gone: Callable[[], None] | None = None
        """Called if the far side gives up before the answer; a dial in flight can be ended."""

    @property
    def connection(self) -> RequestConnection | None:
        """What it came on; None: nobody waits for an answer any more."""
        return self._connection

    def attach(self, side: LocalSide, bound: str, rule: str = "") -> Channel | None:
        """The destination is connected: it is ``side``. None, and the side reset, if gone.

        ``rule`` has allowed it."""
        connection, self._connection, self.gone = self._connection, None, True
        if connection is None:
            side.reset(Code.RESET, "the far side gave up")
            return None
        return connection.accept(self, side, bound, rule)

    def give_early(self, channel: Channel) -> None:
        """Let ``channel``, which is the answer, have what came before it."""
        if self.early:
            channel.queue.append(self.early)
            channel.bytes_received = channel.queued = len(self.early)
        channel.far_finished = self.finished

    def attach_flow(self, sink: DatagramSink) -> UdpFlow:
        """Answer a request for ``udp``: ``sink`` takes the datagrams.

        Those that are here already come once the caller has returned.
        """
        flow = ChannelUdpFlow(sink)
        self.attach(flow, "")
        return flow

    def deliver_datagrams(self, channel: Channel, flow: ChannelUdpFlow) -> None:
        """Hand over to ``flow``, which ``channel`` carries, what came before the answer."""
        early, self.early_datagrams = self.early_datagrams, []
        for remote, data in early:
            channel.bytes_received += len(data)
            flow.received(remote, memoryview(data))

    def refuse(self, code: Code, reason: str) -> None:
        """The destination cannot be had."""
        connection, self._connection, self.gone = self._connection, None, True
        if connection is not None:
            connection.refuse(self, code, reason)

    def give_way(self) -> None:
        """Refuse it, and end a dial in flight: others need the room that its data takes."""
        if self._connection is not None:
            self._connection.refuse(self, Code.LIMIT, "too much data waits for answers")
            self.abandoned()

    def abandoned(self) -> None:
        """The far side gave up, or the connection ended."""
        if self._connection is not None:
            self._connection, self.gone = None, True
            if self.on_gone is not None:
                self.on_gone()


@runtime_checkable
class AcceptingSide(Protocol):
    """The side of a channel by which the far side listens for this end."""

    def accepted(self, request: ChannelRequest) -> None:
        """The far side has accepted a connection: attach or refuse ``request``."""
