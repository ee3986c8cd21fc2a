"""A host name on its way to addresses, as a stub resolver goes (RFC 1034, 5.3.1; rule X23).

    hosts file -> each name that it may mean (search, ndots): A and AAAA at once -> addresses

Sans-IO, and an `tunnelkit.core.dns_exchange.Asker` like a single question.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from itertools import count

from tunnelkit.core.dns_exchange import Ask, Drop, Exchange
from tunnelkit.core.resolver_files import ResolverSettings
from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire import dns
from tunnelkit.wire.dns_addresses import AAAA, A, address_query, read_addresses

LIMIT = 10.0
"""Seconds for one name, whatever resolv.conf says."""
PATIENCE = 0.05
"""Seconds that IPv6 addresses may come later than IPv4 ones (RFC 8305, section 3)."""

LOOPBACK = ("::1", "127.0.0.1")


class Outcome(enum.Enum):
    """What came of a name."""

    FOUND = "addresses"
    NO_SUCH_HOST = "there is no such name, or it has no addresses"
    FAILED = "the resolvers could not say"
    TIMED_OUT = "no resolver has answered in time"


class Resolution:
    """One name. Over when ``outcome`` is there; ``addresses`` then are IPv6 first."""

    def __init__(
        self,
        host: str,
        settings: ResolverSettings,
        hosts: Mapping[str, tuple[str, ...]],
        now: float,
        limit: float = LIMIT,
    ) -> None:
        self.outcome: Outcome | None = None
        self.addresses: tuple[str, ...] = ()
        self._settings = settings
        self._deadline = now + limit
        self._patience: float | None = None
        self._numbers = count()
        self._questions: dict[int, Exchange] = {}
        """By the kind of record that is asked for."""
        self._by_try: dict[int, Exchange] = {}
        self._commands: list[Ask | Drop] = []
        self._has_failed = False
        name = host.lower().removesuffix(".")
        known = hosts.get(name, LOOPBACK if _is_localhost(name) else ())
        self._candidates = deque(settings.candidates(host.lower()))
        if known:
            self._end(Outcome.FOUND, known)
        else:
            self._ask_for_next(now)

    @property
    def over(self) -> bool:
        """See `Asker`."""
        return self.outcome is not None

    def commands(self) -> list[Ask | Drop]:
        """See `Asker`."""
        commands, self._commands = self._commands, []
        return commands

    def received(self, number: int, message: bytes, now: float) -> None:
        """See `Asker`."""
        exchange = self._by_try.get(number)
        if exchange is not None:
            exchange.received(number, message, now)
            self._look(now)

    def failed(self, number: int, now: float) -> None:
        """See `Asker`."""
        exchange = self._by_try.get(number)
        if exchange is not None:
            exchange.failed(number, now)
            self._look(now)

    def next_deadline(self) -> float | None:
        """See `Asker`."""
        if self.over:
            return None
        times = [exchange.next_deadline() for exchange in self._questions.values()]
        return min(time for time in (*times, self._patience, self._deadline) if time is not None)

    def deadline_passed(self, now: float) -> None:
        """See `Asker`."""
        if self.over:
            return
        if now >= self._deadline or (self._patience is not None and now >= self._patience):
            for exchange in self._questions.values():
                exchange.stop()
        else:
            for exchange in self._questions.values():
                exchange.deadline_passed(now)
        self._look(now)

    # -- one name after the other ------------------------------------------

    def _ask_for_next(self, now: float) -> None:
        left = self._deadline - now
        while self._candidates and left > 0:
            name = self._candidates.popleft()
            try:
                queries = {kind: address_query(name, kind) for kind in (A, AAAA)}
            except LocalProtocolError:
                continue  # too long with that domain behind it
            self._patience = None
            self._questions = {kind: self._exchange(queries[kind], now, left) for kind in queries}
            self._look(now)
            return
        self._end(Outcome.FAILED if self._has_failed else Outcome.NO_SUCH_HOST)

    def _exchange(self, query: bytes, now: float, left: float) -> Exchange:
        settings = self._settings
        tries = settings.attempts * len(settings.servers)
        return Exchange(
            query,
            settings.servers,
            now,
            min(left, settings.timeout * tries),
            interval=settings.timeout,
            rounds=settings.attempts,
            over_tcp=settings.over_tcp,
            numbers=self._numbers,
        )

    def _look(self, now: float) -> None:
        """Take over what the questions want done; go on if they are over."""
        for exchange in self._questions.values():
            for command in exchange.commands():
                self._commands.append(command)
                if isinstance(command, Ask):
                    self._by_try[command.number] = exchange
                else:
                    del self._by_try[command.number]
        if self.over or not self._questions:
            return
        found = {kind: self._found(kind) for kind in self._questions}
        if not all(exchange.over for exchange in self._questions.values()):
            if found[A] and self._patience is None:
                self._patience = now + PATIENCE
            return
        addresses = (*found[AAAA], *found[A])
        if addresses:
            self._end(Outcome.FOUND, addresses)
            return
        exchanges, self._questions = list(self._questions.values()), {}
        codes = [None if one.answer is None else dns.code_of(one.answer) for one in exchanges]
        if None in codes:
            # Whoever is silent now will be silent about the other names.
            silent = now >= self._deadline or any(one.timed_out for one in exchanges)
            self._end(Outcome.TIMED_OUT if silent else Outcome.FAILED)
            return
        self._has_failed |= any(code not in (dns.NOERROR, dns.NXDOMAIN) for code in codes)
        self._ask_for_next(now)

    def _found(self, kind: int) -> list[str]:
        exchange = self._questions[kind]
        if not exchange.over or exchange.answer is None:
            return []
        if dns.code_of(exchange.answer) != dns.NOERROR:
            return []
        try:
            return read_addresses(exchange.answer, kind)
        except RemoteProtocolError:
            self._has_failed = True
            return []

    def _end(self, outcome: Outcome, addresses: tuple[str, ...] = ()) -> None:
        self.outcome = outcome
        self.addresses = addresses


def _is_localhost(name: str) -> bool:
    """Whether ``name`` stands for this machine everywhere, and is no resolver's business
    (RFC 6761, section 6.3)."""
    return name == "localhost" or name.endswith(".localhost")
