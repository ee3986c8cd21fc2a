"""Tables of trusted sockets: what an end publishes, and what it knows of its peer (rows T1 to T3).

The inside keeps a `SocketTable` with where each name leads, and sends its
`announcement` whenever it changes. The outside keeps another one per control
session, filled by `take`; no inside address is in it, because none travels.
An entry is valid from when it is put in until its time; both sides look at
the time themselves, so that none needs the other to let an entry expire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import attrs

from tunnelkit.errors import LocalProtocolError

MAX_SERVICES = 128
"""Entries of one table."""
MAX_NAMES_SIZE = 8192
"""Bytes of all names of a table together; so it fits into one message."""
LONGEST_TTL = 10 * 365 * 86400.0
"""Seconds; the most that a message can say."""


def is_trusted_socket(service: str) -> bool:
    """Whether a service of that name has to be in the table; ``@dns`` and the like need not."""
    return not service.startswith("@")


@attrs.frozen
class TrustedSocket:
    """One entry."""

    name: str
    until: float | None = None
    """Time of the caller's clock at which it ends; None: no end is known."""
    listen: int | None = None
    """Port that the outside is asked to open, 1 to 65535."""
    destination: str = ""
    """Where it leads, on the inside; it is told to nobody. Empty: known by the name alone."""

    def is_valid(self, now: float) -> bool:
        """Whether it may be used."""
        return self.until is None or now < self.until


class Offered(Protocol):
    """An entry as it travels."""

    @property
    def name(self) -> str:
        """What the service is called."""

    @property
    def ttl(self) -> float | None:
        """Seconds left; None: no end is known."""

    @property
    def listen(self) -> int | None:
        """Port that the outside is asked to open."""


Offer = TypeVar("Offer", bound=Offered)


class SocketTable:
    """Entries by name, at most 128."""

    def __init__(self) -> None:
        self._entries: dict[str, TrustedSocket] = {}

    def __iter__(self) -> Iterator[TrustedSocket]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    # -- the inside -------------------------------------------------------

    def add(self, entry: TrustedSocket) -> None:
        """Put an entry in, in place of one with the same name.

        Raises `LocalProtocolError` if the table has no room for it.
        """
        if not is_trusted_socket(entry.name):
            raise LocalProtocolError(f"{entry.name} is a name of the protocol's own")
        names = {*self._entries, entry.name}
        if len(names) > MAX_SERVICES:
            raise LocalProtocolError(f"more than {MAX_SERVICES} services are published")
        if sum(len(name.encode()) for name in names) > MAX_NAMES_SIZE:
            raise LocalProtocolError(
                f"the names of all services are longer than {MAX_NAMES_SIZE} bytes"
            )
        self._entries[entry.name] = entry

    def withdraw(self, name: str) -> bool:
        """Take an entry out; False if there was none."""
        return self._entries.pop(name, None) is not None

    def announcement(
        self, now: float, make: Callable[[str, float | None, int | None], Offer]
    ) -> tuple[Offer, ...]:
        """The whole table of ``now``; ``make(name, ttl, listen)`` puts an entry as it travels,
        ``ttl`` in seconds, None where no end is known."""
        return tuple(
            make(
                entry.name,
                None
                if entry.until is None
                else min(round(max(0.0, entry.until - now), 3), LONGEST_TTL),
                entry.listen,
            )
            for entry in self._entries.values()
            if entry.is_valid(now)
        )

    # -- the outside ------------------------------------------------------

    def take(self, services: Iterable[Offered], now: float) -> bool:
        """Let the table be what has arrived ``now``; False if nothing but times has changed."""
        before = {(entry.name, entry.listen) for entry in self._entries.values()}
        self._entries = {
            service.name: TrustedSocket(
                service.name, None if service.ttl is None else now + service.ttl, service.listen
            )
            for service in services
            if service.ttl is None or service.ttl > 0
        }
        return before != {(entry.name, entry.listen) for entry in self._entries.values()}

    # -- both -------------------------------------------------------------

    def get(self, name: str, now: float) -> TrustedSocket | None:
        """The entry of that name, if it is valid ``now``."""
        entry = self._entries.get(name)
        return entry if entry is not None and entry.is_valid(now) else None

    def next_deadline(self) -> float | None:
        """When the next entry ends; None: none does."""
        return min(
            (entry.until for entry in self._entries.values() if entry.until is not None),
            default=None,
        )

    def expire(self, now: float) -> bool:
        """Drop what has ended; False if nothing has."""
        ended = [entry.name for entry in self._entries.values() if not entry.is_valid(now)]
        for name in ended:
            del self._entries[name]
        return bool(ended)
