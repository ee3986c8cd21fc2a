"""Sessions whose two sides a Communication Server has joined, and connections it has borrowed."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from tunnelkit.core.secureproxy.session import Session
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.quiet import QuietRelays
from tunnelkit.net.sockets.relay import CarrierRelay, Relay, join
from tunnelkit.net.sockets.socket_carrier import Carrier
from tunnelkit.net.tls.tls_carrier import TlsCarrier

Side = tuple[Carrier, bytes]
"""The TCP connection of one side, and what came on it for the other before they were joined."""
Over = Callable[[Session, bool, str, tuple[int, int]], object]
"""Told of a session that is over: whether by its initiator, why, and the bytes each way."""


class JoinedSessions:
    """What flows through the server; ``over`` is told of each session that ends."""

    def __init__(self, shared: Shared, over: Over) -> None:
        self._poller = shared.poller
        self._over = over
        self._relays: dict[Session, Relay | CarrierRelay] = {}
        self._quiet = QuietRelays(shared.reactor, lambda: self._relays.values())
        self._lent: dict[Session, TlsCarrier] = {}
        self._bytes_of_ended = 0
        self._idle: list[Deferred[None]] = []

    def join(self, session: Session, initiator: Side, target: Side) -> None:
        """Pass the bytes of the two on from now on."""
        near, to_target = initiator
        far, to_initiator = target

        def ended(relay: Relay | CarrierRelay, sent: int, received: int, outcome: str) -> None:
            # What came before they were joined is not the relay's to count.
            counts = (sent + len(to_target), received + len(to_initiator))
            self._ended(session, relay, counts, outcome)

        relay = join(self._poller, near, far, ended, to_a=to_initiator, to_b=to_target)
        self._relays[session] = relay
        relay.start()

    def _ended(
        self,
        session: Session,
        relay: Relay | CarrierRelay,
        counts: tuple[int, int],
        outcome: str,
    ) -> None:
        self._relays.pop(session, None)
        self._bytes_of_ended += sum(counts)
        by_initiator = relay.left_by_a is not False
        who = session.origin or "the browser" if by_initiator else session.peer
        reason = f"{outcome}, {who} left first" if relay.left_by_a is not None else outcome
        self._over(session, by_initiator, reason, counts)
        if not self._relays:
            idle, self._idle = self._idle, []
            for done in idle:
                done.callback(None)

    def lend(self, session: Session, carrier: TlsCarrier) -> None:
        """The server itself speaks on ``carrier`` until `returned`."""
        self._lent[session] = carrier

    def returned(self, session: Session) -> None:
        """It does not any more."""
        self._lent.pop(session, None)

    def cut(self, session: Session, reason: str) -> None:
        """End it, if anything of it flows."""
        relay = self._relays.get(session)
        if relay is not None:
            relay.abort(reason)
        carrier = self._lent.pop(session, None)
        if carrier is not None:
            carrier.abort()

    def flowed(self, session: Session) -> tuple[int, int]:
        """Bytes from the initiator and from the target so far."""
        relay = self._relays.get(session)
        return (relay.bytes_ab, relay.bytes_ba) if relay is not None else (0, 0)

    @property
    def bytes_relayed(self) -> int:
        """Of all sessions, since the start."""
        flowing = sum(relay.bytes_ab + relay.bytes_ba for relay in self._relays.values())
        return self._bytes_of_ended + flowing

    def drain(self) -> Deferred[None]:
        """Fires when the last is over; one through which nothing passes is ended."""
        done: Deferred[None] = Deferred()
        if self._relays:
            self._idle.append(done)
            self._quiet.start()
        else:
            done.callback(None)
        return done

    def close(self) -> None:
        """End everything now."""
        self._quiet.stop()
        for relay in list(self._relays.values()):
            relay.abort("the server has stopped")
        for carrier in list(self._lent.values()):
            carrier.abort()
        self._lent.clear()
