"""The channels of one tunnel connection, from their request to their end."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.defer import Deferred

from tunnelkit.core.mux import contract as t
from tunnelkit.errors import ChannelRefused, Code
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.channel_log import ChannelLog
from tunnelkit.net.channels.contracts import HasOrigin
from tunnelkit.net.traffic import Traffic


class ChannelTable:
    """Channels by number, and what is asked of all of them; ``log`` is told of each."""

    __slots__ = ("_log", "_openings", "by_number")

    def __init__(self, log: ChannelLog) -> None:
        self.by_number: dict[int, Channel] = {}
        """Those asked for here count from the request on."""
        self._openings: dict[int, Deferred[str]] = {}
        self._log = log

    # -- from the request to the end ----------------------------------------

    def asked(self, channel: Channel) -> Deferred[str]:
        """This end has asked for ``channel``; the result is that of `TunnelConnection.open`."""
        side = channel.side
        opening: Deferred[str] = Deferred()
        channel.serial = next(self._log.serials)
        channel.origin = side.origin() if isinstance(side, HasOrigin) else ""
        self.by_number[channel.id] = channel
        self._openings[channel.id] = opening
        return opening

    def opened(self, number: int, bound: str, now: float) -> None:
        """A channel asked for here is connected, see `ChannelOpened`."""
        opening = self._openings.pop(number, None)
        if opening is not None:
            channel = self.by_number[number]
            self._log.began(channel, now - channel.started)
            opening.callback(bound)

    def accepted(self, channel: Channel, origin: str, waited: float) -> None:
        """This end has accepted ``channel``, ``waited`` seconds after it was asked for."""
        channel.serial = next(self._log.serials)
        channel.origin = origin
        self.by_number[channel.id] = channel
        self._log.began(channel, waited)

    def ended(self, event: t.ChannelEnded, now: float) -> Channel | None:
        """A channel is over, and its side is told; None: there is none of that number."""
        channel = self.by_number.pop(event.channel, None)
        if channel is None:
            return None
        channel.connection = None
        channel.queue.clear()
        channel.queued = 0
        code = event.code
        if code is None:
            channel.side.close()
        else:
            channel.side.reset(code, event.reason)
        self._log.ended(channel, now, code, event.reason, event.refused)
        opening = self._openings.pop(event.channel, None)
        if opening is not None:
            opening.errback(ChannelRefused(code or Code.RESET, event.reason))
        return channel

    # -- all of them ----------------------------------------------------------

    def with_serial(self, serial: int) -> Channel | None:
        """The one that the access log counts as ``serial``."""
        for channel in self.by_number.values():
            if channel.serial == serial:
                return channel
        return None

    @property
    def queued(self) -> int:
        """Bytes that wait for applications."""
        return sum([channel.queued for channel in self.by_number.values()])

    def most_queued(self) -> Channel | None:
        """The one with most bytes that wait for its application."""
        return max(self.by_number.values(), key=lambda channel: channel.queued, default=None)

    def traffic(self, who: str, address: str, now: float) -> Iterator[Traffic]:
        """A row for each, of a connection with ``who`` at ``address``; see `ISteered.traffic`."""
        for channel in list(self.by_number.values()):
            yield Traffic(
                id=str(channel.serial),
                kind="channel",
                who=who,
                what=channel.destination,
                origin=channel.origin or (address if channel.inbound else ""),
                seconds=now - channel.started,
                sent=channel.bytes_sent,
                received=channel.bytes_received,
                state=self._state(channel),
            )

    def _state(self, channel: Channel) -> str:
        if channel.id in self._openings:
            return "opening"
        return "half closed" if channel.near_finished or channel.far_finished else "open"
