"""A second portal, written from the specification of ``usher/1`` alone with the standard library.

`UsherPortal` dials a gate, opens `Session` objects, takes the gate's opens
and checks everything that comes: what is wrong raises `PeerViolation`. It
waits where a program would wait, and every wait ends with TimeoutError.
"""

from __future__ import annotations

import collections
import select
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from tests.peers.lstp_identity import Identity, load_identity
from tests.peers.usher_records import (
    HEADER,
    MAX_ID,
    TCP,
    WINDOW,
    Datagram,
    Direction,
    Kind,
    Open,
    PeerViolation,
    Record,
    Reply,
    encode,
    open_body,
    read_body,
    read_header,
    require,
    text,
    udp_body,
)
from tests.peers.usher_session import Refused, Session, SessionOver

ALPN = "usher/1"
RESET_TIME = 30.0
"""Seconds for which the id of a reset session stays out of use."""


class TunnelOver(Exception):
    """The tunnel has ended: ``reason`` of the UsherEnd, if one came; ``clean`` if close_notify."""

    def __init__(self, reason: str | None, clean: bool) -> None:
        super().__init__(f"reason {reason!r}, {'with' if clean else 'without'} close_notify")
        self.reason = reason
        self.clean = clean


class UsherPortal:
    """A tunnel to the gate at ``(host, port)``; a context manager that closes it in order."""

    def __init__(
        self, gate: tuple[str, int], identity: Path, alpn: str | None = ALPN, timeout: float = 10.0
    ) -> None:
        self.timeout = timeout
        self.received: collections.Counter[Kind] = collections.Counter()
        self.offered: collections.deque[tuple[int, Open]] = collections.deque()
        """Opens of the gate that `accept` and `refuse` have not answered."""
        self.datagrams: collections.deque[Datagram] = collections.deque()
        self._own: dict[int, Session] = {}
        self._theirs: dict[int, Session | None] = {}
        self._reset_own: dict[int, float] = {}
        self._reset_theirs: dict[int, float] = {}
        self._used: set[int] = set()
        self._last = 0
        self._plain = bytearray()
        self._end_reason: str | None = None
        self._over: TunnelOver | None = None
        plain = socket.create_connection(gate, timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = client_context(load_identity(identity), alpn)
        self._tls = context.wrap_socket(plain, suppress_ragged_eofs=False)
        require(self._tls.version() == "TLSv1.3", f"TLS version {self._tls.version()}")
        chosen = self._tls.selected_alpn_protocol()
        require(chosen == alpn, f"ALPN {chosen!r}, {alpn!r} expected")
        self._tls.setblocking(False)

    def __enter__(self) -> UsherPortal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._over is None:
            self.end("bye")
        self._tls.close()

    # -- what a portal does ------------------------------------------------------------------

    def request(self, host: str, port: int, protocol: int = TCP) -> Session:
        """Send UsherOpen and do not wait for the reply."""
        self._forget_old_resets()
        own = next(
            number % MAX_ID + 1
            for number in range(self._last, self._last + MAX_ID)
            if number % MAX_ID + 1 not in self._own and number % MAX_ID + 1 not in self._reset_own
        )
        self._last = own
        session = self._own[own] = Session(self, own)
        self._used.add(own)
        self.send(Kind.OPEN, own, open_body(host, port, protocol))
        return session

    def open(self, host: str, port: int, protocol: int = TCP) -> Session:
        """A session that stands, or `Refused`."""
        return self.request(host, port, protocol).established()

    def accept(self) -> tuple[Session, Open]:
        """Take the gate's next open."""
        self.wait_until(lambda: bool(self.offered))
        theirs, wanted = self.offered.popleft()
        own = next(n for n in range(1, MAX_ID) if n not in self._own and n not in self._reset_own)
        session = self._own[own] = self._theirs[theirs] = Session(self, own)
        self._used.add(own)
        session.theirs = theirs
        self.send(Kind.OPEN_REPLY, theirs, own.to_bytes(2, "big"))
        return session, wanted

    def refuse(self, reason: str) -> Open:
        """Refuse the gate's next open."""
        self.wait_until(lambda: bool(self.offered))
        theirs, wanted = self.offered.popleft()
        del self._theirs[theirs]
        self.send(Kind.OPEN_REPLY, theirs, b"\xff\xff" + text(reason))
        return wanted

    def send_datagram(
        self, sender: tuple[str, int], receiver: tuple[str, int], data: bytes, session: int = 0
    ) -> None:
        """One UsherSendUdp."""
        self.send(Kind.SEND_UDP, session, udp_body(sender, receiver, data))

    def receive_datagram(self) -> Datagram:
        """The next datagram from the gate."""
        self.wait_until(lambda: bool(self.datagrams))
        return self.datagrams.popleft()

    @property
    def open_sessions(self) -> int:
        """How many sessions live, pending ones included."""
        return len(self._own)

    def next_after(self, number: int) -> None:
        """Make the next open's id the first free one after ``number``."""
        self._last = number

    def end(self, reason: str) -> None:
        """UsherEnd for the whole tunnel, close_notify, and wait for the gate to follow."""
        self.send(Kind.END, 0, text(reason))
        self._tls.settimeout(self.timeout)
        try:
            self._tls.unwrap()
        except OSError:
            pass
        self._over = TunnelOver(None, clean=True)
        self._tls.close()

    def cut(self) -> None:
        """Close the socket without a word."""
        self._over = TunnelOver(None, clean=False)
        self._tls.close()

    def thrown_out(self) -> TunnelOver:
        """Wait until the gate ends the tunnel; what it said."""
        try:
            self.wait_until(lambda: False)
        except TunnelOver as over:
            return over
        raise AssertionError("unreachable")

    # -- bytes -------------------------------------------------------------------------------

    def send(self, kind: int, session: int, body: bytes) -> None:
        """Send one record, right or wrong."""
        self.send_bytes(encode(kind, session, body))

    def send_bytes(self, data: bytes) -> None:
        """Send ``data``, reading meanwhile so that two writers never block each other."""
        view = memoryview(data)
        deadline = time.monotonic() + self.timeout
        while view and self._over is None:
            try:
                view = view[self._tls.send(view) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._wait(deadline, writing=True)
                self._fill()
            except OSError:
                # What the gate said before it left is still to be read.
                return

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Take records until ``condition()`` holds; raises `TunnelOver` when none can come."""
        deadline = time.monotonic() + self.timeout
        while not condition():
            record = self._parse()
            if record is not None:
                self.received[record.kind] += 1
                self._take(record)
            elif self._over is not None:
                raise self._over
            elif not self._fill():
                self._wait(deadline, writing=False)

    def take_what_came(self) -> None:
        """Take the records that are there, without waiting."""
        while self._over is None and self._fill():
            pass
        while (record := self._parse()) is not None:
            self._take(record)

    def _wait(self, deadline: float, writing: bool) -> None:
        left = deadline - time.monotonic()
        writers = [self._tls] if writing else []
        if left <= 0 or not any(select.select([self._tls], writers, [], left)):
            raise TimeoutError("nothing came in time")

    def _fill(self) -> bool:
        """Move what TLS has into the buffer; False if there is nothing now."""
        try:
            data = self._tls.recv(65_536)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            self._over = TunnelOver(self._end_reason, clean=False)
            return True
        self._plain += data
        if not data:
            require(not self._plain or self._parse_fits(), "the tunnel ended inside a record")
            self._over = TunnelOver(self._end_reason, clean=True)
        return True

    def _parse_fits(self) -> bool:
        if len(self._plain) < HEADER.size:
            return False
        length, _, _ = read_header(bytes(self._plain[: HEADER.size]))
        return len(self._plain) >= HEADER.size + length

    def _parse(self) -> Record | None:
        if len(self._plain) < HEADER.size or not self._parse_fits():
            return None
        length, kind, session = read_header(bytes(self._plain[: HEADER.size]))
        end = HEADER.size + length
        body = read_body(kind, bytes(self._plain[HEADER.size : end]))
        del self._plain[:end]
        if self._end_reason is not None:
            raise PeerViolation(f"{kind.name} after the end of the tunnel")
        return Record(kind, session, body)

    # -- records -----------------------------------------------------------------------------

    def _take(self, record: Record) -> None:
        kind, body = record.kind, record.body
        if isinstance(body, Datagram):
            self.datagrams.append(body)
        elif isinstance(body, Open):
            self._take_open(record.session, body)
        elif kind is Kind.END and record.session == 0:
            assert isinstance(body, str)
            self._end_reason = body
            for session in list(self._own.values()):
                self.bury(session, SessionOver(kind, body))
        else:
            session_for = self._find(record)
            if session_for is not None:
                self._take_for(session_for, record)

    def _find(self, record: Record) -> Session | None:
        session = self._own.get(record.session)
        if session is None:
            self._forget_old_resets()
            what = f"{record.kind.name} for session {record.session}"
            require(record.session in self._used, f"{what}, which was never used")
            require(record.session in self._reset_own, f"{what}, which has ended")
            return None
        pending = session.theirs == 0
        allowed = (Kind.OPEN_REPLY, Kind.END, Kind.RST)
        require(not pending or record.kind in allowed, f"{record.kind.name} before the reply")
        require(pending or record.kind is not Kind.OPEN_REPLY, "a second reply")
        return session

    def _take_open(self, theirs: int, wanted: Open) -> None:
        self._forget_old_resets()
        require(theirs not in self._theirs, f"OPEN for the live id {theirs}")
        require(theirs not in self._reset_theirs, f"OPEN for the id {theirs}, reset just now")
        self._theirs[theirs] = None
        self.offered.append((theirs, wanted))

    def _take_for(self, session: Session, record: Record) -> None:
        body = record.body
        if isinstance(body, Reply):
            self._take_reply(session, body)
        elif isinstance(body, bytes):
            self._take_data(session, body)
        elif isinstance(body, Direction):
            self._take_close(session, body)
        elif isinstance(body, int):
            require(body <= session.unacknowledged, f"ACK of {body} bytes that were not sent")
            session.unacknowledged -= body
            self.free(session)
        else:
            assert isinstance(body, str)
            self.bury(session, SessionOver(record.kind, body))

    def _take_reply(self, session: Session, reply: Reply) -> None:
        if reply.code == -1:
            del self._own[session.own]
            session.broken = Refused(reply.reason)
            return
        self._forget_old_resets()
        require(reply.code not in self._theirs, f"RC {reply.code}, which is a live id")
        require(reply.code not in self._reset_theirs, f"RC {reply.code}, reset just now")
        session.theirs = reply.code
        self._theirs[reply.code] = session

    def _take_data(self, session: Session, data: bytes) -> None:
        require(not session.got_end, "data after CLOSE READ")
        session.owed += len(data)
        require(session.owed <= WINDOW, f"{session.owed} bytes in a window of {WINDOW}")
        if session.wants_no_more:
            session.acknowledge(len(data))
        else:
            session.unread += data

    def _take_close(self, session: Session, direction: Direction) -> None:
        if direction is Direction.BOTH:
            self.bury(session, SessionOver(Kind.CLOSE, ""))
        elif direction is Direction.WRITE:
            session.told_to_stop = True
            session.finish()
        else:
            require(not session.got_end, "CLOSE READ twice")
            session.got_end = True
            self.free(session)

    def free(self, session: Session) -> None:
        """Forget a session whose directions are closed and whose bytes are all acknowledged."""
        closed = session.sent_end and session.got_end
        done = closed and not session.unacknowledged and not session.owed
        if done and self._own.get(session.own) is session:
            del self._own[session.own]
            del self._theirs[session.theirs]

    def bury(self, session: Session, why: SessionOver) -> None:
        """The session was reset: its ids rest for a while."""
        session.broken = why
        until = time.monotonic() + RESET_TIME
        if self._own.pop(session.own, None) is not None:
            self._reset_own[session.own] = until
        if session.theirs and self._theirs.pop(session.theirs, None) is not None:
            # A second for what the records take on their way.
            self._reset_theirs[session.theirs] = until - 1

    def _forget_old_resets(self) -> None:
        now = time.monotonic()
        for reset in (self._reset_own, self._reset_theirs):
            for number in [number for number, until in reset.items() if until <= now]:
                del reset[number]


def client_context(identity: Identity, alpn: str | None) -> ssl.SSLContext:
    """TLS 1.3 only, with a client certificate; only the gate's own CA is believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(identity.path)
    context.load_verify_locations(cadata=identity.authority)
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context
