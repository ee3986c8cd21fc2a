"""Readiness of raw sockets, at a third of the cost of one reactor selectable each.

A `Poller` tells *handlers* that a descriptor can be read or written. On Linux
it is an epoll of its own that is itself one reader of the reactor: one turn of
the reactor then serves up to 256 events without the reactor's work per event.
Elsewhere, and for reactors of tests, `ReactorPoller` does the same through
``addReader`` and ``addWriter``.

Both are level-triggered: a handler that leaves bytes behind is called again.
"""

from __future__ import annotations

import mmap
import select
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor, IReadWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.net.sockets.timer import on_monotonic_clock

_log = Logger()

READ_BUFFER_SIZE = 1 << 20
"""Size of the buffer that all readers of one poller share, in bytes."""

BATCH = 256
"""Most events of one look."""
_LOOKS = 4
"""Batches of events taken at most before the reactor gets its turn."""
_IN = 1
_OUT = 4
# `select` has these names only where there is an epoll; our own constants save look-ups.
_EDGE = getattr(select, "EPOLLET", 0)
_HAS_EPOLL = getattr(select, "EPOLLIN", 0) == _IN and getattr(select, "EPOLLOUT", 0) == _OUT
_ATTRIBUTE = "_tunnelkit_poller"


def install(poller: Poller) -> None:
    """Make ``poller`` the one of its reactor, before there is another."""
    setattr(poller.reactor, _ATTRIBUTE, poller)


class Handler(Protocol):
    """What is told about one descriptor.

    Both methods must cope with a call for nothing (``BlockingIOError``). An
    exception that leaves them is logged and the descriptor forgotten; a
    handler that has a method ``failed()`` is told, to give up what it was for.

    A handler that is ever watched with neither interest has a method ``hung_up()`` as well: it is
    told once when the connection has failed, or is over in both directions, meanwhile. (Only
    where there is an epoll: elsewhere nobody can tell.)
    """

    def readable(self) -> None:
        """There are bytes, an end of stream, an error or a hang-up to read."""

    def writable(self) -> None:
        """Bytes can be written; also an error or a hang-up if only writing was asked for."""


class Poller:
    """Which descriptors are watched, and for whom; `of` gives the one of a reactor.

    The poller is in the reactor only while it watches something, so a reactor
    is clean once every user has removed its descriptors.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = on_monotonic_clock(reactor)
        self.buffer = memoryview(mmap.mmap(-1, READ_BUFFER_SIZE))
        """`READ_BUFFER_SIZE` bytes that belong to whoever is being called by this poller, until it
        returns; memory only as far as they have been used."""
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, int] = {}
        self._batch_end: list[Callable[[], object]] = []
        self._in_batch = False

    @staticmethod
    def of(reactor: Any) -> Poller:
        """The poller of ``reactor``; always the same one."""
        poller: Poller | None = getattr(reactor, _ATTRIBUTE, None)
        if poller is None:
            poller = EpollPoller(reactor) if _HAS_EPOLL else ReactorPoller(reactor)
            setattr(reactor, _ATTRIBUTE, poller)
        else:
            on_monotonic_clock(reactor)
            poller.come_back()
        return poller

    def come_back(self) -> None:
        """Go on, though somebody may have emptied the reactor, as trial does after a test that has
        left something there: whatever is watched later would never be told anything."""

    def __len__(self) -> int:
        """Descriptors watched, also those with neither interest."""
        return len(self._handlers)

    def add(self, fd: int, handler: Handler, read: bool, write: bool) -> None:
        """Watch ``fd``, which must not be watched already. Neither interest is allowed: only a
        failure or hang-up is told then, see `Handler`."""
        raise NotImplementedError

    def change(self, fd: int, read: bool, write: bool) -> None:
        """Set both interests of a watched descriptor."""
        raise NotImplementedError

    def remove(self, fd: int) -> None:
        """Stop watching; call it before the descriptor is closed. Unknown ones are ignored."""
        raise NotImplementedError

    def after_batch(self, call: Callable[[], object]) -> None:
        """Run ``call`` once, at the end of the current batch of events, or soon if there is none.

        What is registered by such a call runs in a later turn of the reactor.
        """
        if not self._batch_end and not self._in_batch:
            self.reactor.callLater(0, self._end_batch)
        self._batch_end.append(call)

    def _failed(self, fd: int, handler: Handler) -> None:
        """An exception has left ``handler``: nothing of it may go on half alive."""
        _log.failure("A handler of descriptor {fd} failed", fd=fd)
        if self._handlers.get(fd) is handler:
            self.remove(fd)
        give_up = getattr(handler, "failed", None)
        if give_up is not None:
            try:
                give_up()
            except Exception:
                _log.failure("Nor could it be given up")

    def _end_batch(self) -> None:
        self._in_batch = False
        calls = self._batch_end
        if calls:
            self._batch_end = []
            for call in calls:
                try:
                    call()
                except Exception:
                    _log.failure("An action at the end of a batch of events failed")


@implementer(IReadDescriptor)
class EpollPoller(Poller):
    """A nested epoll(7), one reader of the reactor."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._epoll: select.epoll | None = None
        # Descriptors added during the current batch: an event fetched before that belongs to
        # an earlier owner of the same number.
        self._fresh: set[int] = set()

    def come_back(self) -> None:
        if self._epoll is not None:
            self.reactor.addReader(self)

    def add(self, fd: int, handler: Handler, read: bool, write: bool) -> None:
        epoll = self._epoll
        if epoll is None:
            epoll = self._epoll = select.epoll()
            self.reactor.addReader(self)
        mask = (_IN if read else 0) | (_OUT if write else 0)
        epoll.register(fd, mask or _EDGE)
        self._handlers[fd] = handler
        self._masks[fd] = mask
        if self._in_batch:
            self._fresh.add(fd)

    def change(self, fd: int, read: bool, write: bool) -> None:
        mask = (_IN if read else 0) | (_OUT if write else 0)
        old = self._masks[fd]
        if mask == old or self._epoll is None:
            return
        # Without interests only failures are told, and once: told by level it would be for ever.
        self._epoll.modify(fd, mask or _EDGE)
        self._masks[fd] = mask

    def remove(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is None:
            return
        del self._masks[fd]
        if self._epoll is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # closed already: the kernel has taken it out
        if not self._handlers:
            self._close()

    def _close(self) -> None:
        if self._epoll is not None:
            self.reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None

    # -- IReadDescriptor --

    def fileno(self) -> int:
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        return "poller"

    def doRead(self) -> None:
        # Another look while there was something costs less than a turn of the reactor.
        for _ in range(_LOOKS):
            if self._epoll is None or not self._batch(self._epoll.poll(0, BATCH)):
                break

    def _batch(self, events: list[tuple[int, int]]) -> bool:
        """Tell the handlers of one batch of events; False if it is empty."""
        if not events:
            return False
        handlers = self._handlers
        masks = self._masks
        fresh = self._fresh
        self._in_batch = True
        for fd, event in events:
            handler = handlers.get(fd)
            if handler is None or fd in fresh:
                self._unknown(fd)
                continue
            try:
                if event == _IN and masks[fd] & _IN:
                    handler.readable()
                else:
                    self._tell(fd, handler, event)
            except Exception:
                self._failed(fd, handler)
        if fresh:
            fresh.clear()
        self._in_batch = False
        if self._batch_end:
            self._end_batch()
        return True

    def _unknown(self, fd: int) -> None:
        """An event for somebody who has gone since it was fetched."""

    def _tell(self, fd: int, handler: Handler, event: int) -> None:
        """Any event but one that is only about reading."""
        mask = self._masks[fd]
        if event > _OUT + _IN:  # an error or a hang-up is for whoever waits
            if not mask:
                told = getattr(handler, "hung_up", None)
                if told is not None:
                    told()
                return
            event |= _IN if mask & _IN else _OUT
        event &= mask
        if event & _IN:
            handler.readable()
            if self._handlers.get(fd) is not handler or fd in self._fresh:
                return
            event &= self._masks[fd]
        if event & _OUT:
            handler.writable()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops and has thrown out its readers."""
        self._handlers.clear()
        self._masks.clear()
        self._close()


class ReactorPoller(Poller):
    """The same over ``addReader`` and ``addWriter``, each event a batch of its own."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._selectables: dict[int, _Selectable] = {}

    def add(self, fd: int, handler: Handler, read: bool, write: bool) -> None:
        self._handlers[fd] = handler
        self._masks[fd] = 0
        self._selectables[fd] = selectable = _Selectable(self, fd)
        if self._in_batch:
            # The reactor may hold an event for an earlier owner of the same number.
            selectable.fresh = True
            self.reactor.callLater(0, self._mature, selectable)
        self.change(fd, read, write)

    def _mature(self, selectable: _Selectable) -> None:
        fd = selectable.fd
        selectable.fresh = False
        if fd >= 0:
            mask = self._masks[fd]
            self._masks[fd] = 0
            self.change(fd, bool(mask & _IN), bool(mask & _OUT))

    def change(self, fd: int, read: bool, write: bool) -> None:
        mask = (_IN if read else 0) | (_OUT if write else 0)
        turned = mask ^ self._masks[fd]
        selectable = self._selectables[fd]
        self._masks[fd] = mask
        if selectable.fresh:
            return
        if turned & _IN:
            (self.reactor.addReader if read else self.reactor.removeReader)(selectable)
        if turned & _OUT:
            (self.reactor.addWriter if write else self.reactor.removeWriter)(selectable)

    def remove(self, fd: int) -> None:
        if fd in self._handlers:
            self.change(fd, False, False)
            del self._handlers[fd], self._masks[fd]
            self._selectables.pop(fd).fd = -1

    def event(self, fd: int, event: int) -> None:
        """One event of the reactor, for `_Selectable`; perhaps of an interest given up since."""
        if self._masks[fd] & event:
            self._tell(fd, event)

    def _tell(self, fd: int, event: int) -> None:
        handler = self._handlers[fd]
        self._in_batch = True
        try:
            if event == _IN:
                handler.readable()
            else:
                handler.writable()
        except Exception:
            self._failed(fd, handler)
        self._end_batch()

    def hung_up(self, fd: int) -> None:
        """The reactor has dropped both interests because of a hang-up."""
        mask = self._masks[fd]
        handler = self._handlers[fd]
        self._masks[fd] = 0
        self._tell(fd, _IN if mask & _IN else _OUT)
        if self._handlers.get(fd) is handler and not self._masks[fd]:
            self.change(fd, bool(mask & _IN), bool(mask & _OUT))


@implementer(IReadWriteDescriptor)
class _Selectable:
    """One descriptor as the reactor wants it."""

    __slots__ = ("fd", "fresh", "poller")

    def __init__(self, poller: ReactorPoller, fd: int) -> None:
        self.poller = poller
        self.fd = fd
        self.fresh = False

    def fileno(self) -> int:
        return self.fd

    def logPrefix(self) -> str:
        return "poller"

    def doRead(self) -> None:
        if self.fd >= 0:
            self.poller.event(self.fd, _IN)

    def doWrite(self) -> None:
        if self.fd >= 0:
            self.poller.event(self.fd, _OUT)

    def connectionLost(self, reason: Failure) -> None:
        if self.fd >= 0:
            self.poller.hung_up(self.fd)
