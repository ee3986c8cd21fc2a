"""The scheduler of a connection: what goes out on its stream, and when.

When the stream can take more, `Scheduler.run` asks channels with something to send
for it, in turn, builds frames beside their headers in one buffer, and hands
the batch over in one piece. There is no queue between the applications and the
stream, so fairness, the bound on memory and short delays need no further
machinery (docs/design/hot-path.md).

How much a batch holds follows the path (`tunnelkit.core.mux.path`): on a slow one
little is committed at a time, so that whoever comes next does not wait long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from tunnelkit.core.mux.contract import Event, TunnelMux
from tunnelkit.core.mux.flow_control import NEVER
from tunnelkit.errors import Code
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.contracts import END
from tunnelkit.net.sockets.context import BATCH_SIZE, Shared
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.stream import TlsStream

_SLACK = 0.001
"""Seconds that what is due may be late: that saves moving the timer."""
_IDLE = 5.0
"""Seconds without payload after which a session gives its buffers back."""
_LARGE_FRAME = 256 * 1024


class ScheduledConnection(Protocol):
    """What the scheduler needs of its connection."""

    stream: TlsStream
    mux: TunnelMux
    clock: Callable[[], float]
    bytes_sent: int

    @property
    def bytes_received(self) -> int:
        """Payload that has come."""

    def abort(self, channel: Channel, code: Code, reason: str) -> None:
        """Reset a channel on both sides."""

    def near_finished(self, channel: Channel, now: float) -> None:
        """The application has sent its last byte: the far side is to know."""

    def dispatch(self, events: Iterable[Event]) -> None:
        """Do what has happened."""


class Scheduler:
    """Sends for ``connection``: control first, then channels in turn; keeps the mux's time."""

    __slots__ = (
        "_batch",
        "_changed",
        "_clock",
        "_connection",
        "_header_size",
        "_idle_from",
        "_low_water",
        "_max_frame",
        "_moved",
        "_mux",
        "_path_waits",
        "_ready",
        "_shared",
        "_stopped",
        "_stream",
        "_timer",
        "_told_limited",
        "_wanted",
        "due",
    )

    def __init__(self, connection: ScheduledConnection, shared: Shared) -> None:
        self._connection = connection
        self._clock = connection.clock
        self._shared = shared
        self._stream = connection.stream
        self._mux = connection.mux
        self._header_size = connection.mux.header_size
        self._max_frame = connection.mux.max_frame
        self._ready: deque[Channel] = deque()
        self._path_waits: list[Channel] = []
        self.due = NEVER
        """What is due sooner than this has to be taken care of: see `want`."""
        self._wanted = False
        self._changed = False
        """There may be something other than payload to say."""
        self._told_limited = False
        """Path knows that it has room, and nothing has been sent since."""
        self._moved = 0
        self._idle_from = 0.0
        """Nothing more has come or gone since; 0: nor has anything since the buffers were given
        back."""
        self._batch = self._low_water = 0
        self._timer = Timer(shared.reactor, self._deadline)
        self._stopped = False

    def schedule(self, channel: Channel) -> None:
        """The channel has something to send; its ``scheduled`` is set."""
        self._ready.append(channel)
        if not self._wanted and not self._stopped:
            self._wanted = True
            self._shared.poller.after_batch(self.run)

    def want(self) -> None:
        """There may be something to send, or due: `run` at the end of this batch of events."""
        self._changed = True
        if not self._wanted and not self._stopped:
            self._wanted = True
            self._shared.poller.after_batch(self.run)

    def stop(self) -> None:
        """Send nothing any more."""
        self._stopped = True
        self._timer.stop()

    def run(self) -> None:
        """Send what can be sent: control first, then channels in turn."""
        self._wanted = False
        stream, mux = self._stream, self._mux
        ready, waiting = self._ready, self._path_waits
        buffer = self._shared.outgoing
        while stream.writable and not self._stopped:
            self._changed = False
            used = 0
            control = mux.data_to_send()
            if control:
                if len(control) > BATCH_SIZE:
                    stream.send(memoryview(control))
                    continue
                used = len(control)
                buffer[:used] = control
            if not ready and not waiting:
                if used:
                    stream.send(buffer[:used])
                break
            used = self._fill(buffer, used)
            if used:
                stream.send(buffer[:used])
                if ready or waiting or self._changed:
                    continue
                break
            # All that came of pulling may be the end of a channel, which is control.
            control = mux.data_to_send()
            if not control:
                break
            stream.send(memoryview(control))
        if self._stopped:
            return
        path = mux.path
        full = path.in_flight >= path.inflight_target
        if not full and not self._told_limited and not ready and not waiting:
            path.app_limited()
            self._told_limited = True
        # The walk over all that can be due is for when something is due sooner than it was.
        if full or waiting or mux.flow.soonest < self.due:
            self._set_timer()

    def _fill(self, buffer: memoryview, used: int) -> int:
        """Pull from channels into frames at ``buffer[used:]``; how far it is filled then."""
        mux = self._mux
        path = mux.path
        ready = self._ready
        if self._path_waits and path.room > 0:
            ready.extend(self._path_waits)
            self._path_waits.clear()
        batch = path.batch
        if batch != self._batch:
            self._set_batch(batch)
        end = used + batch
        if end > BATCH_SIZE:
            end = BATCH_SIZE
        head, most = self._header_size, self._max_frame
        connection = self._connection
        now = self._clock()
        while ready and used < end:
            channel = ready.popleft()
            number = channel.id
            if channel.connection is None:
                continue
            size = mux.sendable(number)
            if size <= 0 and mux.waits_for_path(number):
                self._path_waits.append(channel)
                continue
            share = batch // (1 + len(ready)) if ready else batch
            if share > _LARGE_FRAME:
                share = _LARGE_FRAME
            smallest = path.frame
            if share < smallest:
                share = smallest
            size = min(size, share, end - used + smallest, most)
            start = used + head
            # A side that has more at once than it gave calls ``ready`` from within.
            channel.scheduled = False
            try:
                got = channel.side.pull_into(buffer[start : start + size])
            except OSError as error:
                connection.abort(channel, Code.RESET, error.strerror or "the application is gone")
                continue
            if got > 0:
                used = start + mux.frame_into(buffer, used, number, got, now)
                channel.bytes_sent += got
                connection.bytes_sent += got
                self._told_limited = False
                if got == size and not channel.scheduled:
                    channel.scheduled = True
                    ready.append(channel)
            elif got == END:
                self._changed = True
                connection.near_finished(channel, now)
        return used

    def _set_batch(self, batch: int) -> None:
        """The path's batch has changed; the backlog in the socket follows it in large steps."""
        self._batch = batch
        if not batch // 2 <= self._low_water <= batch * 2:
            self._low_water = batch
            self._stream.set_low_water(batch)

    def _set_timer(self) -> None:
        due = self._mux.next_deadline()
        if due is not None:
            self._timer.start_by(due, _SLACK)
            self.due = self._timer.due - _SLACK

    def _deadline(self) -> None:
        self.due = NEVER
        if self._stopped:
            return
        now = self._connection.clock()
        due = self._mux.next_deadline()
        if due is not None and due <= now:
            self._connection.dispatch(self._mux.deadline_passed(now))
        self._give_back(now)
        self.run()
        if not self._stopped:
            self._set_timer()

    def _give_back(self, now: float) -> None:
        """Buffers of TLS that a large batch has left behind are of no use to an idle session."""
        connection = self._connection
        moved = connection.bytes_sent + connection.bytes_received
        if moved != self._moved:
            self._moved, self._idle_from = moved, now
        elif self._idle_from and now - self._idle_from >= _IDLE:
            self._idle_from = 0.0
            self._stream.engine.trim()
