"""Two channels joined within this process: each is the other one's application (row U18).

Nothing is kept in between. What a channel has received waits in that channel, within what it has
granted, until the other one can send; so a slow reader at one end slows the sender at the other.
"""

from __future__ import annotations

from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import END, ChannelHandle, HasOrigin


class ChannelJoint(HasOrigin):
    """The `LocalSide` of one channel; what it is given goes out by that of ``other``."""

    __slots__ = ("_channel", "_ended", "_origin", "_room", "_taken", "other")

    other: ChannelJoint

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._channel: ChannelHandle | None = None
        self._ended = False
        """Nothing more comes from the other one."""
        self._room: memoryview | None = None
        """Where what the other one has is to go, during a pull."""
        self._taken = 0

    @classmethod
    def pair(cls, origin: str) -> tuple[ChannelJoint, ChannelJoint]:
        """Two that are each other's; ``origin`` is who the first one belongs to."""
        one, two = cls(""), cls(origin)
        one.other, two.other = two, one
        return one, two

    def give_up(self, code: Code, reason: str) -> None:
        """Reset its channel, if there is one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abort(code, reason)

    def origin(self) -> str:
        """See `HasOrigin`."""
        return self._origin

    # -- LocalSide --------------------------------------------------------

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`."""
        self._channel = channel
        channel.ready()

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`: the other channel hands over what waits there."""
        if view and self.other._channel is not None:
            self._room, self._taken = view, 0
            self.other._channel.drained()
            self._room = None
            if self._taken:
                if self._ended and self._taken < len(view) and self._channel is not None:
                    self._channel.ready()
                return self._taken
        return END if self._ended else 0

    def push(self, view: memoryview) -> int:
        """See `LocalSide`: as much as the other channel has asked for, which is told of more."""
        other = self.other
        room = other._room
        if room is None:
            if other._channel is not None:
                other._channel.ready()
            return 0
        size = min(len(view), len(room) - other._taken)
        room[other._taken : other._taken + size] = view[:size]
        other._taken += size
        return size

    def finish(self) -> None:
        """See `LocalSide`."""
        other = self.other
        other._ended = True
        # Who is just pulling sees it: an end must not be pulled twice.
        if other._channel is not None and other._room is None:
            other._channel.ready()

    def close(self) -> None:
        """See `LocalSide`: the other channel ends by itself, once it has sent everything."""
        self._channel = None

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        self._channel = None
        self.other.give_up(code, reason)
