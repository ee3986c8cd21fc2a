"""What a domain proxy knows of the mappings that operators' proxies announce (rows W5, W7).

A mapping is known by the address and port from which its MAP came: the device's DTLS comes from
there too. `TABLE` says what can become of one::

        MAPPED   announced; datagrams from there are a device's
        ENDING   END has been sent, and is repeated; hellos from there are not answered, so that
                 there is silence and END can take effect
        GONE     over
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum, auto
from typing import NamedTuple

from tunnelkit.core.table import step
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.wtls_map import MapDatagram, MapType, decode, encode

Address = tuple[str, int]


class State(Enum):
    """See the module's docstring."""

    MAPPED = "mapped"
    ENDING = "ending"
    GONE = "gone"


class Input(Enum):
    """What can happen to a mapping."""

    MAP = auto()
    END_OK = auto()
    OWN_END = auto()
    """There is nothing more for this device here."""
    UNANSWERED = auto()
    TTL = auto()


class Action(Enum):
    """What is done."""

    ANSWER = auto()
    SEND_END = auto()
    IGNORE = auto()
    FORGET = auto()


_S, _I, _A = State, Input, Action

TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (_S.MAPPED, _I.MAP): (_A.ANSWER, _S.MAPPED),
    (_S.MAPPED, _I.END_OK): (_A.IGNORE, _S.MAPPED),
    (_S.MAPPED, _I.OWN_END): (_A.SEND_END, _S.ENDING),
    (_S.MAPPED, _I.TTL): (_A.FORGET, _S.GONE),
    (_S.ENDING, _I.MAP): (_A.ANSWER, _S.ENDING),
    (_S.ENDING, _I.END_OK): (_A.FORGET, _S.GONE),
    (_S.ENDING, _I.OWN_END): (_A.IGNORE, _S.ENDING),
    (_S.ENDING, _I.UNANSWERED): (_A.IGNORE, _S.MAPPED),
    (_S.ENDING, _I.TTL): (_A.FORGET, _S.GONE),
}

END_REPEATS = (1.0, 2.0, 4.0)
"""Seconds after the first END at which it is repeated."""
END_GIVE_UP = 8.0
REMEMBERED = 10_000
"""Tokens."""
REMEMBERED_FOR = 60.0
"""Seconds behind a token's time to live."""


class Send(NamedTuple):
    """Send this datagram."""

    address: Address
    data: bytes


class Announced(NamedTuple):
    """A device comes through this address; ``seconds`` are left."""

    address: Address
    seconds: int


class Over(NamedTuple):
    """The mapping at this address is over."""

    address: Address


Event = Send | Announced | Over


class _Known:
    __slots__ = ("address", "ended_at", "ends_at", "repeat", "state", "token")

    def __init__(self, address: Address, token: bytes) -> None:
        self.address = address
        self.token = token
        self.state = State.MAPPED
        self.ends_at = 0.0
        self.ended_at = 0.0
        self.repeat = 0

    @property
    def due(self) -> float:
        if self.state is State.ENDING:
            behind = (*END_REPEATS, END_GIVE_UP)[self.repeat]
            return min(self.ends_at, self.ended_at + behind)
        return self.ends_at


class Mappings:
    """All mappings that a domain proxy has been told of; ``key`` is the map key, 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._live: dict[Address, _Known] = {}
        self._tokens: OrderedDict[bytes, tuple[Address, float]] = OrderedDict()
        """Token: where it came from, and until when it is remembered."""
        self.dropped = 0
        """Datagrams that were forged, late, or for nobody."""

    def receive(self, address: Address, data: bytes | memoryview, now: float) -> list[Event]:
        """A datagram that begins like a MAP datagram. What is wrong with it is only counted."""
        try:
            datagram = decode(data, self._key)
        except RemoteProtocolError:
            self.dropped += 1
            return []
        known = self._live.get(address)
        mine = known is not None and known.token == datagram.token
        if datagram.type is MapType.MAP:
            return self._announced(address, datagram, known if mine else None, now)
        if datagram.type is MapType.END_OK and known is not None and mine:
            return self._happened(known, Input.END_OK, now)
        self.dropped += 1
        return []

    @property
    def count(self) -> int:
        """Mappings that are live."""
        return len(self._live)

    def seconds_left(self, address: Address, now: float) -> float | None:
        """What is left to the mapping at ``address``; None: none is known there."""
        known = self._live.get(address)
        return None if known is None else max(0.0, known.ends_at - now)

    def is_ending(self, address: Address) -> bool:
        """Whether hellos from there are not to be answered now."""
        known = self._live.get(address)
        return known is not None and known.state is State.ENDING

    def end(self, address: Address, now: float) -> list[Event]:
        """There is nothing more here for the device at ``address``: say so, if it is mapped."""
        known = self._live.get(address)
        return [] if known is None else self._happened(known, Input.OWN_END, now)

    def next_deadline(self) -> float | None:
        """When `deadline_passed` has to be called."""
        return min((known.due for known in self._live.values()), default=None)

    def deadline_passed(self, now: float) -> list[Event]:
        """What is due now."""
        events: list[Event] = []
        for known in [known for known in self._live.values() if known.due <= now]:
            if known.ends_at <= now:
                events += self._happened(known, Input.TTL, now)
            elif known.repeat < len(END_REPEATS):
                known.repeat += 1
                events.append(self._say(known, MapType.END, now))
            else:
                events += self._happened(known, Input.UNANSWERED, now)
        return events

    def _announced(
        self, address: Address, datagram: MapDatagram, known: _Known | None, now: float
    ) -> list[Event]:
        _, remembered = self._tokens.get(datagram.token, (address, now))
        if not datagram.ttl or (known is None and remembered > now):
            # Seen from another address, or after its time.
            self.dropped += 1
            return []
        events: list[Event] = []
        if known is None:
            if address in self._live:
                # The same socket for another device: the one before is over.
                events += self._happened(self._live[address], Input.TTL, now)
            known = self._live[address] = _Known(address, datagram.token)
        known.ends_at = now + datagram.ttl
        self._remember(known)
        events += self._happened(known, Input.MAP, now)
        events.append(Send(address, encode(datagram.answer(MapType.MAP_OK), self._key)))
        events.append(Announced(address, datagram.ttl))
        return events

    def _remember(self, known: _Known) -> None:
        self._tokens[known.token] = (known.address, known.ends_at + REMEMBERED_FOR)
        self._tokens.move_to_end(known.token)
        while len(self._tokens) > REMEMBERED:
            oldest, (where, _) = self._tokens.popitem(last=False)
            if where in self._live and self._live[where].token == oldest:
                del self._live[where]

    def _happened(self, known: _Known, happened: Input, now: float) -> list[Event]:
        action, known.state = step(TABLE, known.state, happened)
        if action is Action.SEND_END:
            known.ended_at, known.repeat = now, 0
            return [self._say(known, MapType.END, now)]
        if action is Action.FORGET:
            del self._live[known.address]
            return [Over(known.address)]
        return []

    def _say(self, known: _Known, kind: MapType, now: float) -> Send:
        left = max(0, min(0xFFFF, int(known.ends_at - now)))
        return Send(known.address, encode(MapDatagram(kind, known.token, left), self._key))
