"""What one local UDP peer sends through a tunnel and is answered, whatever carries it.

A `UdpFlow` has a far address for each datagram: where it goes on its way out,
where it came from on its way back. Which of the two ends opened it makes no
difference to its use: `UdpFlow.send` brings a datagram to the other end, and
what comes from there is given to the `DatagramSink`.

`ChannelUdpFlow` is for muxes where each flow has a channel;
`tunnelkit.net.channels.addressed_flows` has the one for muxes where each datagram carries
both addresses.
"""

from __future__ import annotations

from typing import Protocol

from tunnelkit.errors import Code, ProtocolError
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.contracts import (
    END,
    ChannelHandle,
    DatagramSink,
    HasOrigin,
    Remote,
)
from tunnelkit.net.sockets.tcp import format_address


class UdpFlow:
    """See the module's docstring."""

    __slots__ = ("over", "sink")

    keeps_names = False
    """Answers have to come from the address as it was written when the datagram was sent."""

    def __init__(self, sink: DatagramSink) -> None:
        self.sink = sink
        self.over = False
        """It has ended, and the sink has been told."""

    def send(self, remote: Remote, data: bytes | memoryview) -> bool:
        """Send one datagram. False: it was dropped, as UDP may.

        If the tunnel cannot carry such an address at all, the flow ends with the reason.
        """
        raise NotImplementedError

    def end(self) -> None:
        """No more datagrams in either direction."""
        raise NotImplementedError

    def abort(self, code: Code, reason: str) -> None:
        """The same, and the far side is told why, if it can be."""
        raise NotImplementedError

    def ended(self, code: Code | None, reason: str) -> None:
        """Tell the sink, once."""
        if not self.over:
            self.over = True
            self.sink.flow_ended(code, reason)


class UdpFlowRequest(Protocol):
    """The far side begins a flow."""

    @property
    def peer(self) -> str:
        """Verified name of who asks."""

    def attach_flow(self, sink: DatagramSink) -> UdpFlow:
        """Accept it: ``sink`` takes the datagrams. Those that are here already come after this."""


class ChannelUdpFlow(UdpFlow, HasOrigin):
    """A flow that has a channel of its own; the `LocalSide` of that channel."""

    __slots__ = ("_channel", "_near")

    def __init__(self, sink: DatagramSink, near: Remote | None = None) -> None:
        super().__init__(sink)
        self._channel: Channel | None = None
        self._near = near

    def origin(self) -> str:
        """See `HasOrigin`."""
        return "" if self._near is None else format_address(self._near)

    def send(self, remote: Remote, data: bytes | memoryview) -> bool:
        """See `UdpFlow`."""
        if self.over or self._channel is None:
            return False
        try:
            return self._channel.send_datagram(remote, data)
        except ProtocolError as error:
            self.abort(getattr(error, "code", Code.UNREACHABLE), str(error))
            return False

    def received(self, remote: Remote, data: memoryview) -> None:
        """A datagram came on the channel."""
        if not self.over:
            self.sink.datagram_received(remote, data)

    def end(self) -> None:
        """See `UdpFlow`: the channel ends in order, as a stream does."""
        self.ended(None, "")
        if self._channel is not None:
            self._channel.ready()

    def abort(self, code: Code, reason: str) -> None:
        """See `UdpFlow`."""
        self.ended(code, reason)
        if self._channel is not None:
            self._channel.abort(code, reason)

    # -- LocalSide --------------------------------------------------------

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`: only a connection of this package makes such flows."""
        assert isinstance(channel, Channel)
        self._channel = channel

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`: datagrams do not wait to be pulled, only the end does."""
        return END if self.over else 0

    def push(self, view: memoryview) -> int:
        """See `LocalSide`: what comes on such a channel is never a stream."""
        return len(view)

    def finish(self) -> None:
        """See `LocalSide`: the other end has ended the flow."""
        self.end()

    def close(self) -> None:
        """See `LocalSide`."""
        self.ended(None, "")

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        self.ended(code, reason)
