"""The time limit of channels whose one direction is over and where nothing moves (D-8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tunnelkit.errors import Code
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.sockets.timer import Timer

_LOOKS = 4
"""How often one limit's time is looked at: a channel is reset at most a part of it late."""

_Moved = tuple[int, int, int]


class HalfClosedChannels:
    """Resets half-closed channels of one connection that stand still for ``limit`` seconds.

    Neither data nor the life of a channel cost anything: a look compares how many bytes each of
    ``channels`` has moved since the last one. Looks go on, once told to `begin`, while there are
    such channels; ``abort`` is the connection's.
    """

    def __init__(
        self,
        clock: Any,
        limit: float,
        channels: Mapping[int, Channel],
        abort: Callable[[Channel, Code, str], None],
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._channels = channels
        self._abort = abort
        self._timer = Timer(clock, self._look)
        self._seen: dict[Channel, tuple[_Moved, float]] = {}
        self.looking = False
        """There is a next look: whoever half-closes a channel need not `begin`."""

    def begin(self) -> None:
        """One direction of a channel is over, the first for a while."""
        self._look()

    def stop(self) -> None:
        """The connection is over."""
        self._seen.clear()
        self._timer.stop()

    def _look(self) -> None:
        now = self._clock.seconds()
        before, self._seen = self._seen, {}
        for channel in list(self._channels.values()):
            if not channel.near_finished and not channel.far_finished:
                continue
            moved = channel.bytes_sent, channel.bytes_received, channel.queued
            seen = before.get(channel)
            if seen is None or seen[0] != moved:
                self._seen[channel] = moved, now
            elif now - seen[1] < self._limit:
                self._seen[channel] = seen
            else:
                reason = f"half-closed, and nothing moved for {self._limit:.0f} seconds"
                self._abort(channel, Code.RESET, reason)
        self.looking = bool(self._seen)
        if self.looking:
            self._timer.start(self._limit / _LOOKS)
