"""Two applications' sides joined within this process, as a channel would join them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail

from tunnelkit.errors import ChannelRefused, Code
from tunnelkit.net.channels.contracts import END, LocalSide
from tunnelkit.net.sockets.poll import Poller

_ROUNDS = 4
"""Buffers that one direction carries before others have their turn."""


class JoinedSides:
    """Carries bytes both ways from `start` until both have ended, or one is gone.

    ``buffer`` is used within a call only. ``ended`` is told once, with this object.
    """

    def __init__(
        self,
        near: LocalSide,
        far: LocalSide,
        poller: Poller,
        buffer: memoryview,
        ended: Callable[[JoinedSides], object],
    ) -> None:
        self.over = False
        self._ended = ended
        one, other = _Half(self, near, poller, buffer), _Half(self, far, poller, buffer)
        one.other, other.other = other, one
        self._halves = (one, other)

    def start(self) -> None:
        """Both sides may send from here on."""
        for half in self._halves:
            if not self.over:
                half.side.attach(half)

    def abort(self, code: Code, reason: str) -> None:
        """Reset both sides."""
        if not self.over:
            self.over = True
            self._ended(self)
            for half in self._halves:
                half.side.reset(code, reason)

    def check(self) -> None:
        """Close both sides once nothing more comes from either."""
        if not self.over and all(half.finished for half in self._halves):
            self.over = True
            self._ended(self)
            for half in self._halves:
                half.side.close()


class _Half:
    """The `ChannelHandle` of one side; carries what that side sends to the ``other`` one."""

    other: _Half

    def __init__(
        self, pair: JoinedSides, side: LocalSide, poller: Poller, buffer: memoryview
    ) -> None:
        self.side = side
        self.finished = False
        """Its side has sent everything, and the other one has it."""
        self.bytes_received = 0
        self._pair = pair
        self._poller = poller
        self._buffer = buffer
        self._rest = b""
        """What the other side did not take yet; less than one buffer."""
        self._due = False
        self._ready = False

    # -- ChannelHandle ----------------------------------------------------

    def ready(self) -> None:
        """The side has data, or its end."""
        self._ready = True
        self._want()

    def drained(self) -> None:
        """The side takes data again: the other half's."""
        self.other._want()

    def abort(self, code: Code, reason: str) -> None:
        """See `ChannelHandle`."""
        self._pair.abort(code, reason)

    def hand_over(self, side: LocalSide) -> None:
        """See `ChannelHandle`."""
        self.side = side
        side.attach(self)

    def open_accepted(self, origin: str, side: LocalSide) -> Deferred[str]:
        """See `ChannelHandle`: nobody listens by a channel that stays in this process."""
        reason = "nothing listens for others here"
        side.reset(Code.REFUSED, reason)
        return fail(ChannelRefused(Code.REFUSED, reason))

    # -- carrying ---------------------------------------------------------

    def _want(self) -> None:
        if not self._due and not self._pair.over:
            self._due = True
            self._poller.after_batch(self._carry)

    def _carry(self) -> None:
        self._due = False
        try:
            for _ in range(_ROUNDS):
                if self._pair.over or self.finished or not self._step():
                    return
            self._want()
        except OSError as error:
            self._pair.abort(Code.RESET, error.strerror or "the application is gone")

    def _step(self) -> bool:
        """Carry one buffer; whether there may be more right away."""
        if self._rest:
            self._rest = self._rest[self._give(memoryview(self._rest)) :]
            if self._rest:
                return False
        if not self._ready:
            return False
        # A side that has more at once than it gave calls `ready` from within.
        self._ready = False
        got = self.side.pull_into(self._buffer)
        if got == END:
            self.finished = True
            self.other.side.finish()
            self._pair.check()
            return False
        if got == len(self._buffer):
            self._ready = True
        if got:
            taken = self._give(self._buffer[:got])
            self._rest = bytes(self._buffer[taken:got])
        return self._ready and not self._rest

    def _give(self, data: memoryview) -> int:
        taken = self.other.side.push(data)
        self.other.bytes_received += taken
        return taken
