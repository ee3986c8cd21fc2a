"""The scheduler of a session: what goes out on its link, and when.

When the link can take more, `Pump.run` asks channels with something to send
for it, in turn, builds frames beside their headers in one buffer, and hands
the batch over in one piece. There is no queue between the applications and the
link, so fairness, the bound on memory and short delays need no further
machinery (docs/design/hot-path.md).

How much a batch holds follows the path (`tunnelkit.core.mux.path`): on a slow one
little is committed at a time, so that whoever comes next does not wait long.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall

from tunnelkit.errors import Code
from tunnelkit.net.channels.channel import END, Channel
from tunnelkit.net.sockets.context import BATCH_SIZE, Shared

if TYPE_CHECKING:
    from tunnelkit.net.channels.connection import Session

_SMALL_FRAME = 16 * 1024
_LARGE_FRAME = 256 * 1024


class Pump:
    """Sends for ``session``: control first, then its channels in turn; keeps the mux's time too."""

    __slots__ = (
        "_due",
        "_link",
        "_low_water",
        "_mux",
        "_path_waits",
        "_ready",
        "_session",
        "_shared",
        "_stopped",
        "_timer",
    )

    def __init__(self, session: Session, shared: Shared) -> None:
        self._session = session
        self._shared = shared
        self._link = session.link
        self._mux = session.mux
        self._ready: deque[Channel] = deque()
        self._path_waits: list[Channel] = []
        self._due = False
        self._low_water = 0
        self._timer: IDelayedCall | None = None
        self._stopped = False

    def schedule(self, channel: Channel) -> None:
        """The channel has something to send; its ``scheduled`` is set."""
        self._ready.append(channel)
        self.want()

    def want(self) -> None:
        """There may be something to send: `run` at the end of this batch of events."""
        if not self._due and not self._stopped:
            self._due = True
            self._shared.poller.after_batch(self.run)

    def stop(self) -> None:
        """Send nothing any more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def run(self) -> None:
        """Send what can be sent: control first, then channels in turn."""
        self._due = False
        link = self._link
        mux = self._mux
        while link.writable and not self._stopped:
            buffer = self._shared.outgoing
            used = 0
            control = mux.data_to_send()
            if control:
                if len(control) > BATCH_SIZE:
                    link.send(memoryview(control))
                    continue
                used = len(control)
                buffer[:used] = control
            if self._ready or self._path_waits:
                used = self._fill(buffer, used)
            if not used:
                # All that came of pulling may be the end of a channel, which is control.
                control = mux.data_to_send()
                if not control:
                    break
                link.send(memoryview(control))
                continue
            link.send(buffer[:used])
        if self._stopped:
            return
        if not self._ready and not self._path_waits:
            mux.path.starved()
        self._set_timer()

    def _fill(self, buffer: memoryview, used: int) -> int:
        """Pull from channels into frames at ``buffer[used:]``; how far it is filled then."""
        mux = self._mux
        ready = self._ready
        if self._path_waits and mux.path.room > 0:
            ready.extend(self._path_waits)
            self._path_waits.clear()
        batch = mux.path.batch
        if not batch // 2 <= self._low_water <= batch * 2:
            self._low_water = batch
            self._link.set_low_water(batch)
        end = min(used + batch, BATCH_SIZE)
        head = mux.header_size
        session = self._session
        now = session.clock()
        total = 0
        while ready and used < end:
            channel = ready.popleft()
            number = channel.id
            if channel.session is None:
                continue
            allowed = mux.sendable(number)
            if allowed <= 0:
                if mux.waits_for_path(number):
                    self._path_waits.append(channel)
                else:
                    channel.scheduled = False
                continue
            share = max(_SMALL_FRAME, min(_LARGE_FRAME, batch // (1 + len(ready))))
            size = min(allowed, share, end - used + _SMALL_FRAME, mux.max_frame)
            start = used + head
            # A side that has more at once than it gave calls ``ready`` from within.
            channel.scheduled = False
            try:
                got = channel.side.pull_into(buffer[start : start + size])
            except OSError as error:
                session.abort(channel, Code.RESET, error.strerror or "the application is gone")
                continue
            if got > 0:
                used = start + mux.frame_into(buffer, used, number, got, now)
                channel.bytes_sent += got
                total += got
                if got == size and not channel.scheduled:
                    channel.scheduled = True
                    ready.append(channel)
            elif got == END:
                channel.near_finished = True
                session.dispatch(mux.finish(number, now))
        session.bytes_sent += total
        return used

    def _set_timer(self) -> None:
        due = self._mux.next_deadline()
        timer = self._timer
        if due is None:
            return
        if timer is not None and timer.active():
            # A timer that fires too early costs less than moving it at every turn.
            if timer.getTime() <= due + 0.001:
                return
            timer.cancel()
        delay = max(0.0, due - self._session.clock())
        self._timer = self._shared.reactor.callLater(delay, self._deadline)

    def _deadline(self) -> None:
        self._timer = None
        if self._stopped:
            return
        now = self._session.clock()
        due = self._mux.next_deadline()
        if due is not None and due <= now:
            self._session.dispatch(self._mux.deadline_passed(now))
        self.run()
