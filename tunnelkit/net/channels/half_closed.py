"""The time limit of channels whose one direction is over and where nothing moves (D-8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunnelkit.errors import Code
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.sockets.timer import Timer

_LOOKS = 4
"""How often one limit's time is looked at: a channel is reset at most a part of it late."""

_Moved = tuple[int, int, int]


class HalfClosedChannels:
    """Resets half-closed channels of one connection that stand still for ``limit`` seconds.

    Data costs nothing: a look compares how many bytes have moved since the last one. The
    timer runs while there is such a channel, and a little longer; ``abort`` is the connection's.
    """

    def __init__(
        self, clock: Any, limit: float, abort: Callable[[Channel, Code, str], None]
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._abort = abort
        self._timer = Timer(clock, self._look)
        self._seen: dict[Channel, tuple[_Moved, float]] = {}

    def add(self, channel: Channel) -> None:
        """One direction of ``channel`` is over."""
        if channel.connection is None:
            return
        seen = self._seen
        # While there are such channels it runs.
        idle = not seen and not self._timer.running
        moved = channel.bytes_sent, channel.bytes_received, channel.queued
        seen[channel] = moved, self._clock.seconds()
        if idle:
            self._timer.start(self._limit / _LOOKS)

    def remove(self, channel: Channel) -> None:
        """The channel is over."""
        # The timer runs out by itself: the next channel is half-closed sooner than that.
        self._seen.pop(channel, None)

    def stop(self) -> None:
        """The connection is over."""
        self._seen.clear()
        self._timer.stop()

    def _look(self) -> None:
        now = self._clock.seconds()
        for channel, (before, since) in list(self._seen.items()):
            moved = _moved(channel)
            if moved != before:
                self._seen[channel] = moved, now
            elif now - since >= self._limit:
                del self._seen[channel]
                reason = f"half-closed, and nothing moved for {self._limit:.0f} seconds"
                self._abort(channel, Code.RESET, reason)
        if self._seen:
            self._timer.start(self._limit / _LOOKS)


def _moved(channel: Channel) -> _Moved:
    return channel.bytes_sent, channel.bytes_received, channel.queued
