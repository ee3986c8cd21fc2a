"""DTLS associations of many peers on one UDP port, as a Twisted protocol (rows W1, W8; X19).

    datagram -> what is it? -> cookie (nothing is remembered) -> handshake -> association

A new hello from the address of a live association runs beside it, and replaces it once it is
complete (RFC 6347, 4.2.8): whoever forges hellos disturbs nobody.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from tunnelkit.core.barred import Barred
from tunnelkit.core.dtls_cookies import SECRET_BYTES, Cookies
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.net.tls.dtls_association import DtlsAssociation
from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.net.tls.dtls_engine import DtlsEngine
from tunnelkit.wire.dtls_records import (
    ALERT,
    ClientHello,
    Kind,
    classify,
    epoch,
    hello_verify_request,
    records,
)

Address = tuple[str, int]

PER_HOST = 100
"""Associations of one address, those in their handshake included."""
MOST = 10_000
"""Associations in all."""
HANDSHAKE_LIMIT = 60.0
"""Seconds from the first good hello to the end of the handshake."""
REFUSED_LIMIT = 5.0
"""The same after an alert in clear, which anybody may have sent."""
IDLE = 600.0
"""Seconds without a datagram after which an association is closed."""
_SWEEP = 5.0
_LEAST_WAIT = 0.01


class DtlsServer(DatagramProtocol):
    """Give it to ``reactor.listenUDP``; each association gets a protocol of ``factory``.

    The protocol's ``dataReceived`` is called with each datagram, its transport's ``write`` sends
    one, ``loseConnection`` says close_notify. ``factory.buildProtocol`` is called with an
    ``IPv4Address`` or ``IPv6Address``, once the handshake is complete.

    ``context`` can be exchanged while it runs: new handshakes go by the new one.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        context: DtlsContext,
        factory: IProtocolFactory,
        *,
        per_host: int = PER_HOST,
        most: int = MOST,
        idle: float = IDLE,
        is_real: Callable[[Address], bool] = lambda address: False,
    ) -> None:
        """``is_real``: whether an address is known by other means to be no invention; then any
        cookie will do, one that somebody else has given it too."""
        self.reactor = reactor
        self.context = context
        self.factory: Any = factory
        self.idle = idle
        self.dropped = 0
        """Datagrams that were no DTLS, or for nobody."""
        self.rejected: Counter[str] = Counter({"no-room": 0, "failed": 0, "timed-out": 0})
        """Handshakes that came to nothing, by reason: good hellos for which there was no room,
        those that failed, and those that were not over in time."""
        self._per_host = per_host
        self._most = most
        self._is_real = is_real
        self._places: dict[Address, _Place] = {}
        self._hosts: dict[str, int] = {}
        self._barred = Barred()
        self._cookies = Cookies(os.urandom(SECRET_BYTES), reactor.seconds())
        self._sweeping: IDelayedCall | None = None

    # -- DatagramProtocol -------------------------------------------------

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See `DatagramProtocol`."""
        address: Address = addr[:2]
        kind = classify(datagram)
        if kind is Kind.RECORD:
            place = self._places.get(address)
            if place is not None:
                place.receive(datagram)
                return
        elif kind is Kind.HELLO:
            self._hello(address, datagram)
            return
        self.dropped += 1

    def stopProtocol(self) -> None:
        """The port is closed: all associations are over."""
        self.close()

    # -- for the owner ----------------------------------------------------

    @property
    def associations(self) -> list[DtlsAssociation]:
        """Those that are complete."""
        return [place.live for place in self._places.values() if place.live is not None]

    def knows(self, address: Address) -> bool:
        """Whether there is an association with ``address``, or the beginning of one."""
        return address in self._places

    @property
    def peers(self) -> int:
        """Addresses of which anything is remembered, those in their handshake included."""
        return len(self._places)

    def discard(self, address: Address) -> None:
        """Forget what is known of ``address``, without a word to it."""
        place = self._places.get(address)
        if place is not None:
            place.forget(Failure(ConnectionDone("the peer has begun anew elsewhere")))

    def end(self, address: Address) -> bool:
        """Close the association with ``address``; False: there is none."""
        place = self._places.get(address)
        if place is None or place.live is None:
            return False
        place.live.loseConnection()
        return True

    def throw_out(self, host: str, seconds: float) -> int:
        """Close all associations with ``host``, and take none for so long; how many there were."""
        self._barred.bar(host, self.reactor.seconds() + seconds)
        return sum(self.end(address) for address in list(self._places) if address[0] == host)

    def close(self) -> None:
        """Close all associations."""
        for place in list(self._places.values()):
            if place.live is not None:
                place.live.loseConnection()
            place.forget(Failure(ConnectionDone("the server is closing")))
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    # -- for its parts ----------------------------------------------------

    def send(self, address: Address, datagram: bytes) -> None:
        """Send ``datagram``, or drop it, as UDP may."""
        if self.transport is not None:
            try:
                self.transport.write(datagram, address)
            except OSError:
                pass

    def gone(self, place: _Place) -> None:
        """Nothing is known any more of the address that ``place`` is for."""
        address = place.address
        if self._places.get(address) is not place:
            return
        del self._places[address]
        self._hosts[address[0]] -= 1
        if not self._hosts[address[0]]:
            del self._hosts[address[0]]

    # -- inside -----------------------------------------------------------

    def _hello(self, address: Address, datagram: bytes) -> None:
        try:
            hello = ClientHello.read(datagram)
        except RemoteProtocolError:
            self.dropped += 1
            return
        now = self.reactor.seconds()
        if self._cookies.is_old(now):
            self._cookies.renew(os.urandom(SECRET_BYTES), now)
        if not hello.cookie or not (self._cookies.check(address, hello) or self._is_real(address)):
            self.send(address, hello_verify_request(hello, self._cookies.make(address, hello)))
            return
        if self._barred.seconds(address[0], now):
            self.rejected["barred"] += 1
            return
        place = self._places.get(address)
        if place is None:
            full = self._hosts.get(address[0], 0) >= self._per_host
            if full or len(self._places) >= self._most:
                self.rejected["no-room"] += 1
                return
            place = self._places[address] = _Place(self, address)
            self._hosts[address[0]] = self._hosts.get(address[0], 0) + 1
            if self._sweeping is None:
                self._sweeping = self.reactor.callLater(_SWEEP, self._sweep)
        place.hello(hello, datagram)

    def _sweep(self) -> None:
        self._sweeping = None
        now = self.reactor.seconds()
        for place in list(self._places.values()):
            place.look_at_time(now)
        if self._places:
            self._sweeping = self.reactor.callLater(_SWEEP, self._sweep)


class _Place:
    """One peer's address: the association that is live there, and the one that is beginning."""

    __slots__ = ("_limit", "_pending", "_random", "_server", "_timer", "address", "last", "live")

    def __init__(self, server: DtlsServer, address: Address) -> None:
        self._server = server
        self.address = address
        self.live: DtlsAssociation | None = None
        self.last = server.reactor.seconds()
        self._pending: DtlsEngine | None = None
        self._random = b""
        """Of the newest handshake."""
        self._limit = 0.0
        self._timer: IDelayedCall | None = None

    def hello(self, hello: ClientHello, datagram: bytes) -> None:
        """A hello with a good cookie."""
        if hello.random == self._random:
            return  # a repeated one: the flight that answers it is repeated by its own timer
        self._random = hello.random
        self._pending = DtlsEngine(self._server.context, client=False)
        self._limit = self._server.reactor.seconds() + HANDSHAKE_LIMIT
        self._pending.accept(datagram)
        self._advance()

    def receive(self, datagram: bytes) -> None:
        """Anything but a hello."""
        self.last = self._server.reactor.seconds()
        pending = self._pending
        if pending is None:
            if self.live is not None:
                self.live.receive(datagram)
            return
        if datagram[0] == ALERT and not epoch(datagram):
            # Perhaps it refuses, perhaps somebody else would like us to believe so.
            self._limit = min(self._limit, self.last + REFUSED_LIMIT)
            return
        self._limit = max(self._limit, self.last + REFUSED_LIMIT)
        received = pending.receive(datagram)
        for data in received:
            # Of the association that is just complete.
            self._advance()
            if self.live is not None:
                self.live.deliver(data)
        self._advance()
        if self.live is not None and self.live.engine is not pending:
            for record in records(datagram):
                if epoch(record):
                    self.live.receive(record)

    def look_at_time(self, now: float) -> None:
        """Give up what takes too long; close what is idle."""
        if self._pending is not None and now >= self._limit:
            self._server.rejected["timed-out"] += 1
            self._drop_pending()
        if self.live is not None and now - self.last >= self._server.idle:
            self.live.loseConnection()
        self._leave_if_empty()

    def ended(self, association: DtlsAssociation) -> None:
        """The live association is over."""
        if association is self.live:
            self.live = None
            if self._pending is None:
                self._random = b""
            self._leave_if_empty()

    def forget(self, why: Failure) -> None:
        """Drop everything."""
        self._drop_pending()
        live, self.live = self.live, None
        if live is not None:
            live.lost(why)
        self._leave_if_empty()

    def flush(self, engine: DtlsEngine) -> None:
        """Send what ``engine`` has to say."""
        for datagram in engine.datagrams_to_send():
            self._server.send(self.address, datagram)

    def _advance(self) -> None:
        pending = self._pending
        if pending is None:
            return
        self.flush(pending)
        if pending.over:
            self._server.rejected["failed"] += 1
            self._drop_pending()
            self._leave_if_empty()
        elif pending.established:
            self._stop_timer()
            self._pending = None
            self._begin(pending)
        else:
            self._start_timer(pending)

    def _begin(self, engine: DtlsEngine) -> None:
        association = DtlsAssociation(engine, self, self._server.transport, self.address)
        old, self.live = self.live, association
        if old is not None:
            old.lost(Failure(ConnectionDone("the peer has begun a new association")))
        protocol = self._server.factory.buildProtocol(association.getPeer())
        if protocol is None:
            association.loseConnection()
        else:
            association.begin(protocol)

    def _start_timer(self, pending: DtlsEngine) -> None:
        self._stop_timer()
        left = pending.timeout()
        if left is not None:
            self._timer = self._server.reactor.callLater(max(left, _LEAST_WAIT), self._timed_out)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _timed_out(self) -> None:
        self._timer = None
        if self._pending is not None:
            self._pending.timed_out()
            self._advance()

    def _drop_pending(self) -> None:
        self._stop_timer()
        self._pending = None

    def _leave_if_empty(self) -> None:
        if self.live is None and self._pending is None:
            self._server.gone(self)
