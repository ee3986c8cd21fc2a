"""The LSTP middle: who waits, who is paired with whom, who has to go (rows L1, L8, L12; X7).

A `Lobby` knows every connection of one middle. It is told what happens and
answers with commands for whoever owns the sockets:

    connected -> receive ... -> `Send` (keepalives) ... -> `Send`, `Pair` -> flowing -> lost
                              \\-> `Send` (ERROR), `Close`

It reads the setup and nothing else: from `Pair` on the owner of the sockets
copies bytes, and tells only when the first ones pass and when the pair ends.
"""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable

from tunnelkit.core.lstp.cascade import REDIAL_DELAY, Dial, Upstream
from tunnelkit.core.lstp.middle_connection import (
    TABLE,
    Close,
    MiddleConnection,
    Pair,
    Send,
    State,
)
from tunnelkit.core.lstp.middle_queues import DeadlineQueue
from tunnelkit.core.lstp.nameplates import Nameplates, nameplate_of
from tunnelkit.core.lstp.pairs import FIRST_BYTES_LIMIT, Pairs
from tunnelkit.core.lstp.setup import SILENCE_LIMIT, check_hops, complementary, new_nonce
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.lstp import (
    MAX_HOPS,
    MIDDLE,
    CommonUniqueInfo,
    Error,
    Hop,
    PropertyExchange,
    TopologyExchange,
    encode,
)

__all__ = [
    "TABLE",
    "Upstream",
    "Close",
    "Command",
    "Dial",
    "Lobby",
    "MiddleConnection",
    "Pair",
    "Send",
    "State",
]

Command = Send | Close | Pair | Dial

SETUP_LIMIT = 10.0
"""Seconds from the connection to its complete setup, absolute."""
KEEPALIVE_INTERVAL = 15.0
"""Seconds between the empty PROPERTY_EXCHANGE messages to an end that waits."""
MAX_WAITING = 10_000
MAX_WAITING_PER_ROLE = 4
"""Waiting ends of one ``common`` and role."""
MAX_IN_SETUP = 1000
"""Connections that have not sent their setup yet; a crowd that comes back at once must fit."""

KEEPALIVE = encode(PropertyExchange())


class Lobby:
    """Everybody at one middle, from accept to the end of the pairing.

    ``name`` and ``address`` make the middle's own hop; ``admission`` is the token
    that an end must show, or None; with ``cascades`` there is a next middle to
    ask for partners (`tunnelkit.core.lstp.cascade`). Every verb returns the commands it caused,
    in the order in which they are to be done; nothing that a peer sends makes one raise. Times are
    seconds of one clock that never goes back.

    When a limit for all is reached, whoever shares an address with most others
    gives way, so that no single address can keep the rest of the world out.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        admission: str | None = None,
        cascades: bool = False,
        max_waiting: int = MAX_WAITING,
        max_waiting_per_address: int = MAX_WAITING,
        max_in_setup: int = MAX_IN_SETUP,
        make_nonce: Callable[[], str] = new_nonce,
    ) -> None:
        self._name = name
        self.address = address
        """What it says of where it is; may be replaced at any time."""
        self.admission = admission
        """It may be replaced at any time; who is in stays in."""
        self._cascades = cascades
        self._max_waiting = max_waiting
        self._max_waiting_per_address = max_waiting_per_address
        self._max_in_setup = max_in_setup
        self._make_nonce = make_nonce
        self._in_setup = DeadlineQueue(SETUP_LIMIT)
        self._waiting = DeadlineQueue(KEEPALIVE_INTERVAL)
        self._pairs = Pairs()
        self._asking = DeadlineQueue(SILENCE_LIMIT)
        """Connections to the next middle that wait there."""
        self._to_redial = DeadlineQueue(REDIAL_DELAY)
        """Waiting ends whose connection to the next middle was lost."""
        self._queues = (
            self._in_setup,
            self._waiting,
            self._pairs.fresh,
            self._asking,
            self._to_redial,
        )
        self._meetings: dict[str, list[MiddleConnection]] = {}
        """The waiting ends by ``common``, in order of arrival."""
        self._nameplates = Nameplates()

    # -- for status -------------------------------------------------------

    @property
    def in_setup(self) -> int:
        """Connections whose setup is not complete."""
        return len(self._in_setup)

    @property
    def waiting(self) -> int:
        """Ends that wait for a partner."""
        return len(self._waiting)

    @property
    def pairs(self) -> int:
        """Pairs of ends that are connected."""
        return self._pairs.count

    # -- verbs ------------------------------------------------------------

    def connected(self, connection: MiddleConnection, now: float) -> list[Command]:
        """A connection has been accepted. May close another one to make room."""
        self._in_setup.add(connection, now)
        if len(self._in_setup) <= self._max_in_setup:
            return []
        busiest = self._in_setup.busiest()
        # Not the oldest: who comes often enough would push out whoever needs a round trip.
        crowd = [other for other in self._in_setup if other.counted == busiest]
        return self._refuse(random.choice(crowd), Code.LIMIT, "too many connections in setup")

    def receive(
        self, connection: MiddleConnection, data: bytes | bytearray | memoryview, now: float
    ) -> list[Command]:
        """Bytes came from a connection that is not paired."""
        if connection.state is State.ENDED:
            return []
        if connection.state is State.PAIRED:
            raise LocalProtocolError("the bytes of a pair are not for the lobby")
        try:
            arrived = connection.receive(data)
            if arrived is None:
                return []
            if isinstance(arrived, Error):
                self._forget(connection)
                return [Close(connection, arrived.code, "the end gave up")]
            info, topology = arrived
            self._check_topology(topology)
        except RemoteProtocolError as error:
            return self._refuse(connection, error.code, str(error))
        return self._admit(connection, info, now)

    def flowing(self, connection: MiddleConnection) -> None:
        """The first bytes have passed between ``connection`` and its partner, either way."""
        self._pairs.flowing(connection)

    def lost(self, connection: MiddleConnection, now: float) -> list[Command]:
        """A connection is gone, for whatever reason; a pair ends with its first one.

        The owner of the sockets closes the other one of a pair.
        """
        if connection.state is State.PAIRED:
            self._pairs.end(connection, now)
        else:
            self._forget(connection)
        return []

    def all_waiting(self) -> tuple[MiddleConnection, ...]:
        """The ends that wait for a partner; ``setup_info()`` is what they say of themselves."""
        return tuple(self._waiting)

    def send_away(self, connection: MiddleConnection, reason: str) -> list[Command]:
        """Send one away who is not paired."""
        return self._refuse(connection, Code.NOT_ALLOWED, reason)

    def shut_down(self) -> list[Command]:
        """Send everybody away who is not paired (ERROR ``shutdown``)."""
        commands: list[Command] = []
        for connection in [*self._in_setup, *self._waiting]:
            commands += self._refuse(connection, Code.SHUTDOWN, "the middle is shutting down")
        return commands

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called; None: not before something happens."""
        deadlines = [
            deadline for queue in self._queues if (deadline := queue.next_deadline()) is not None
        ]
        return min(deadlines, default=None)

    def deadline_passed(self, now: float) -> list[Command]:
        """Keepalives that are due, and the end of those who let a time limit pass."""
        commands: list[Command] = []
        for connection in self._in_setup.due(now):
            commands += self._refuse(
                connection, Code.TIMED_OUT, f"no setup within {SETUP_LIMIT:.0f} seconds"
            )
        for connection in self._waiting.due(now):
            self._waiting.again(connection, now)
            commands.append(Send(connection, KEEPALIVE))
        for connection in self._pairs.silent(now):
            commands += self._give_up_pair(connection, now)
        for connection in self._asking.due(now):
            assert isinstance(connection, Upstream)
            commands += self._give_up_asking(connection, "nothing came from it", now)
        for connection in self._to_redial.due(now):
            self._to_redial.remove(connection)
            commands.append(Dial(connection))
        return commands

    # -- cascades ---------------------------------------------------------

    def reached(self, waiting: MiddleConnection, owner: object, now: float) -> list[Send]:
        """The next middle has been dialled for ``waiting``; ``owner`` holds the socket.

        Without a command the connection is not wanted any more: close it.
        """
        if waiting.state is not State.WAITING or waiting.upstream is not None:
            return []
        hop = Hop(self._name, MIDDLE, self.address, self._make_nonce())
        upstream = Upstream(waiting, hop, owner)
        upstream.state = State.WAITING
        waiting.upstream = upstream
        self._asking.add(upstream, now)
        return [Send(upstream, waiting.setup_with(hop))]

    def missed(self, waiting: MiddleConnection, now: float) -> list[Command]:
        """The next middle could not be reached, or the connection to it is gone."""
        if waiting.upstream is not None:
            self._asking.remove(waiting.upstream)
            waiting.upstream.state = State.ENDED
            waiting.upstream = None
        if waiting.state is State.WAITING and waiting not in self._to_redial:
            self._to_redial.add(waiting, now)
        return []

    def answered(
        self, upstream: Upstream, data: bytes | bytearray | memoryview, now: float
    ) -> list[Command]:
        """Bytes came from the next middle."""
        waiting = upstream.waiting
        if upstream.state is not State.WAITING:
            return []
        try:
            partner = upstream.answer(data)
        except RemoteProtocolError as error:
            return self._give_up_asking(upstream, str(error), now)
        if partner is None:
            self._asking.again(upstream, now)
            return []
        if isinstance(partner, Error):
            if partner.code in (Code.SHUTDOWN, Code.RESET):
                return self._give_up_asking(upstream, partner.reason, now)
            # A ring, or a path too long: waiting would not help.
            return [
                Close(upstream, partner.code, partner.reason),
                *self._refuse(waiting, partner.code, partner.reason),
            ]
        commands: list[Command] = [
            Send(waiting, upstream.setup_with(upstream.hop) + upstream.leftover),
            Pair(waiting, upstream, waiting.setup_info().unique, partner.unique),
        ]
        self._make_pair(waiting, upstream, now)
        return commands

    def _give_up_asking(self, upstream: Upstream, reason: str, now: float) -> list[Command]:
        self.missed(upstream.waiting, now)
        return [Close(upstream, Code.UNREACHABLE, reason)]

    # -- setup ------------------------------------------------------------

    def _check_topology(self, message: TopologyExchange) -> None:
        """Refuse a wrong token, and a path that cannot be or goes round in a ring."""
        if self.admission is not None and not hmac.compare_digest(
            (message.admission or "").encode("utf-8"), self.admission.encode("utf-8")
        ):
            raise RemoteProtocolError("no valid admission token", code=Code.NOT_ALLOWED)
        check_hops(message.hops, MAX_HOPS - 1)
        if any(hop.name == self._name for hop in message.hops[1:]):
            raise RemoteProtocolError("this middle is on the path already: the middles form a ring")

    def _admit(
        self, connection: MiddleConnection, info: CommonUniqueInfo, now: float
    ) -> list[Command]:
        """The setup is complete: pair it, or let it wait."""
        commands: list[Command] = []
        queue = self._meetings.get(info.common, [])
        same = [other for other in queue if other.setup_info().role == info.role]
        plate = nameplate_of(info.common)
        if plate is not None:
            why = self._nameplates.refusal(plate, connection.counted, bool(same), now)
            if why:
                return self._refuse(connection, Code.CROWDED, why)
        older = [other for other in same if other.setup_info().unique == info.unique]
        for other in older:
            commands += self._refuse(other, Code.RESET, "replaced by a newer connection")
        candidates = [
            other
            for other in queue
            if other not in older and complementary(other.setup_info().role, info.role)
        ]
        if candidates:
            # min() takes the first of equals: the one that has waited longest.
            partner = min(
                candidates, key=lambda other: self._pairs.suspects.count(other.counted, now)
            )
            return commands + self._pair(partner, connection, now)
        if len(same) - len(older) >= MAX_WAITING_PER_ROLE:
            return self._refuse(connection, Code.LIMIT, "too many ends wait in this role")
        return commands + self._let_wait(connection, info.common, now)

    def _let_wait(self, connection: MiddleConnection, common: str, now: float) -> list[Command]:
        commands: list[Command] = []
        held = self._waiting.addresses.get(connection.counted, 0)
        if held >= self._max_waiting_per_address:
            return self._refuse(connection, Code.LIMIT, "too many ends wait from this address")
        if len(self._waiting) >= self._max_waiting:
            busiest = self._waiting.busiest()
            if self._waiting.addresses[busiest] <= held + 1:
                return self._refuse(connection, Code.LIMIT, "too many ends wait")
            crowd = [other for other in self._waiting if other.counted == busiest]
            commands = self._refuse(crowd[-1], Code.LIMIT, "too many ends wait from this address")
        self._in_setup.remove(connection)
        self._waiting.add(connection, now)
        self._meetings.setdefault(common, []).append(connection)
        if nameplate_of(common) is not None:
            self._nameplates.waits(connection.counted)
        if self._cascades:
            commands.append(Dial(connection))
        return commands

    def _refuse(self, connection: MiddleConnection, code: Code, reason: str) -> list[Command]:
        """ERROR, then close."""
        self._forget(connection)
        return [
            Send(connection, encode(Error(code, reason, fatal=True))),
            Close(connection, code, reason),
        ]

    def _forget(self, connection: MiddleConnection) -> None:
        """Drop everything about a connection that is not paired."""
        self._in_setup.remove(connection)
        if self._waiting.remove(connection):
            common = connection.setup_info().common
            queue = self._meetings[common]
            queue.remove(connection)
            if not queue:
                del self._meetings[common]
            if nameplate_of(common) is not None:
                self._nameplates.waits_no_more(connection.counted)
        self._to_redial.remove(connection)
        if connection.upstream is not None:
            # Whoever owns its socket closes it with this one, or copies its bytes from now on.
            self._asking.remove(connection.upstream)
            connection.upstream.state = State.ENDED
            connection.upstream = None
        connection.state = State.ENDED
        connection.strip()

    # -- pairs ------------------------------------------------------------

    def _pair(self, first: MiddleConnection, second: MiddleConnection, now: float) -> list[Command]:
        """``first`` was waiting, ``second`` has just come. One hop, the same towards both."""
        hop = Hop(self._name, MIDDLE, self.address, self._make_nonce())
        commands: list[Command] = [
            Send(first, second.setup_with(hop)),
            Send(second, first.setup_with(hop)),
            Pair(first, second, first.setup_info().unique, second.setup_info().unique),
        ]
        self._make_pair(first, second, now)
        return commands

    def _make_pair(self, first: MiddleConnection, second: MiddleConnection, now: float) -> None:
        plate = nameplate_of(first.setup_info().common)
        if plate is not None:
            self._nameplates.met(plate, now)
        for connection in (first, second):
            self._forget(connection)
        self._pairs.begin(first, second, now)

    def _give_up_pair(self, connection: MiddleConnection, now: float) -> list[Command]:
        partner = self._pairs.end(connection, now)
        reason = f"nothing passed within {FIRST_BYTES_LIMIT:.0f} seconds"
        return [
            Close(connection, Code.TIMED_OUT, reason),
            Close(partner, Code.TIMED_OUT, reason),
        ]
