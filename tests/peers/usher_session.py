"""One session of the independent portal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.peers.usher_records import MAX_ACK, MAX_DATA, WINDOW, Direction, Kind, text

if TYPE_CHECKING:
    from tests.peers.usher_portal import UsherPortal


class Refused(Exception):
    """The reply to an open was -1; ``reason`` is the gate's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SessionOver(Exception):
    """The session broke: UsherRST, UsherEnd or CLOSE BOTH, with the reason that it had."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(f"{kind.name}: {reason}")
        self.kind = kind
        self.reason = reason


class Session:
    """One session; made by `UsherPortal.open`, `request` and `accept`."""

    def __init__(self, portal: UsherPortal, own: int) -> None:
        self.portal = portal
        self.own = own
        self.theirs = 0
        """The gate's id; 0 while an open waits for its reply."""
        self.unacknowledged = 0
        """Bytes sent that no UsherAck has counted."""
        self.unread = bytearray()
        self.owed = 0
        """Bytes received that this end has not acknowledged."""
        self.sent_end = self.got_end = self.told_to_stop = self.wants_no_more = False
        self.broken: SessionOver | Refused | None = None

    def established(self) -> Session:
        """Wait for the reply; raises `Refused`."""
        self.portal.wait_until(lambda: self.theirs > 0 or self.broken is not None)
        self._check()
        return self

    def send(self, data: bytes) -> None:
        """Send all of it, waiting for the window; stops where the gate says that it must."""
        view = memoryview(data)
        while view and not self.told_to_stop:
            self.portal.wait_until(self._may_send)
            self._check()
            room = min(WINDOW - self.unacknowledged, MAX_DATA)
            self.send_unasked(bytes(view[:room]))
            view = view[room:]

    def send_unasked(self, data: bytes) -> None:
        """One UsherSend, whatever the window says."""
        self.unacknowledged += len(data)
        self.portal.send(Kind.SEND, self.theirs, data)

    def acknowledged(self) -> None:
        """Wait until all that was sent is acknowledged."""
        self.portal.wait_until(lambda: not self.unacknowledged or self.broken is not None)
        self._check()

    def receive(self, limit: int = MAX_DATA, acknowledge: bool = True) -> bytes:
        """What comes next, at most ``limit`` bytes; empty at the end. Raises `SessionOver`."""
        self.portal.wait_until(lambda: bool(self.unread) or self.got_end or self.broken is not None)
        if not self.unread:
            self._check()
        data = bytes(self.unread[:limit])
        del self.unread[:limit]
        if acknowledge:
            self.acknowledge(len(data))
        return data

    def receive_all(self) -> bytes:
        """Everything up to the end."""
        found = bytearray()
        while data := self.receive():
            found += data
        return bytes(found)

    def acknowledge(self, size: int) -> None:
        """Say that so many received bytes have been written on."""
        while size and self.broken is None:
            part = min(size, MAX_ACK)
            self.owed -= part
            self.portal.send(Kind.ACK, self.theirs, part.to_bytes(2, "big"))
            size -= part
        self.portal.free(self)

    def finish(self) -> None:
        """No more data from here: CLOSE READ."""
        if not self.sent_end:
            self.sent_end = True
            self._close(Direction.READ)
            self.portal.free(self)

    def stop(self) -> None:
        """Want no more data: CLOSE WRITE; what comes until the answer is counted and dropped."""
        self.wants_no_more = True
        dropped = len(self.unread)
        self.unread.clear()
        self._close(Direction.WRITE)
        self.acknowledge(dropped)

    def break_off(self) -> None:
        """The error close: CLOSE BOTH."""
        self._close(Direction.BOTH)
        self.portal.bury(self, SessionOver(Kind.CLOSE, "closed here"))

    def free_datagrams(self) -> None:
        """Close a session that was opened for datagrams: its ids are free at once."""
        self._close(Direction.BOTH)
        self.sent_end = self.got_end = True
        self.portal.free(self)

    def reset(self, reason: str, kind: Kind = Kind.RST) -> None:
        """UsherRST, or UsherEnd for this session."""
        self.portal.send(kind, self.theirs, text(reason))
        self.portal.bury(self, SessionOver(kind, "reset here"))

    def _close(self, direction: Direction) -> None:
        self.portal.send(Kind.CLOSE, self.theirs, int(direction).to_bytes(2, "big"))

    def _may_send(self) -> bool:
        room = self.unacknowledged < WINDOW
        return room or self.told_to_stop or self.broken is not None

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken
