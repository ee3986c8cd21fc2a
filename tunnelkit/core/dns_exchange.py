"""One DNS question on its way through resolvers: whom to ask when, and which answer counts.

    ask A --- interval --- ask B --- interval --- ask A again ...       until one answers

A lost datagram costs one interval. Each try has an id of its own, and the
sockets' owner gives it a port of its own; answers to earlier tries are taken as
long as the question is open. A truncated answer is asked for over TCP.

Sans-IO: ``commands`` says what is to be done, ``received`` and ``failed`` tell what
came of it.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Protocol

import attrs

from tunnelkit.wire import dns

INTERVAL = 1.5
"""Seconds for one try, before the next one goes out as well."""
ROUNDS = 3
"""How often each resolver is asked."""
LARGEST_UDP_QUERY = 1232
"""Bytes of a query that goes by datagram."""

Server = tuple[str, int]
"""Address and port of a resolver."""


@attrs.frozen
class Ask:
    """Send ``message`` to ``server`` from a fresh socket; call it ``number`` from now on."""

    number: int
    server: Server
    over_tcp: bool
    message: bytes


@attrs.frozen
class Drop:
    """The socket of try ``number`` is not needed any more."""

    number: int


class Asker(Protocol):
    """What the owner of the sockets serves: one question, or several."""

    @property
    def over(self) -> bool:
        """Whether the outcome is there."""

    def commands(self) -> list[Ask | Drop]:
        """What is to be done, in order; each is told once."""

    def received(self, number: int, message: bytes, now: float) -> None:
        """``message`` has come at the socket of try ``number``, from the resolver asked."""

    def failed(self, number: int, now: float) -> None:
        """The socket of try ``number`` is of no use: refused, closed, unreachable."""

    def next_deadline(self) -> float | None:
        """When to call `deadline_passed`; None once it is over."""

    def deadline_passed(self, now: float) -> None:
        """That time has come."""


class Exchange:
    """One question. ``query`` is complete but for its id; ``limit`` is in seconds from ``now``.

    Over when ``answer`` is there, or when nobody has one (then it is the best that was said, or
    None). ``numbers`` numbers the tries.
    """

    def __init__(
        self,
        query: bytes,
        servers: Sequence[Server],
        now: float,
        limit: float,
        *,
        interval: float = INTERVAL,
        rounds: int = ROUNDS,
        over_tcp: bool = False,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.over = False
        self.answer: bytes | None = None
        self.timed_out = False
        """Whether it is over because its time was."""
        self._query = query
        self._to_ask = deque(list(servers) * rounds)
        self._interval = interval
        self._over_tcp = over_tcp or len(query) > LARGEST_UDP_QUERY
        self._numbers = count() if numbers is None else numbers
        self._limit = now + limit
        self._tries: dict[int, Ask] = {}
        self._useless: set[Server] = set()
        """Resolvers that have said that they cannot help."""
        self._commands: list[Ask | Drop] = []
        self._next = now
        self._go_on(now)

    def commands(self) -> list[Ask | Drop]:
        """See `Asker`."""
        commands, self._commands = self._commands, []
        return commands

    def received(self, number: int, message: bytes, now: float) -> None:
        """See `Asker`: an answer, or what pretends to be one, which is not looked at further."""
        one = self._tries.get(number)
        if one is None or not dns.answers(message, one.message):
            return
        if dns.is_truncated(message) and not one.over_tcp:
            self.answer = message
            self._drop(number)
            self._ask(one.server, over_tcp=True)
        elif dns.code_of(message) in (dns.SERVFAIL, dns.REFUSED):
            self.answer = message
            self.failed(number, now)
        else:
            self.answer = message
            self.stop()

    def failed(self, number: int, now: float) -> None:
        """See `Asker`: go on with the next resolver now."""
        one = self._tries.get(number)
        if one is not None:
            self._useless.add(one.server)
            self._drop(number)
            self._go_on(now)

    def next_deadline(self) -> float | None:
        """See `Asker`."""
        if self.over:
            return None
        return min(self._next, self._limit) if self._to_ask else self._limit

    def deadline_passed(self, now: float) -> None:
        """See `Asker`: ask again, or give up."""
        if self.over:
            return
        if now >= self._limit:
            self.timed_out = True
            self.stop()
        elif now >= self._next:
            self._go_on(now)

    def stop(self) -> None:
        """Be over, with the answer that there is."""
        self.over = True
        for number in list(self._tries):
            self._drop(number)

    def _go_on(self, now: float) -> None:
        while self._to_ask:
            server = self._to_ask.popleft()
            if server not in self._useless:
                self._ask(server, self._over_tcp)
                self._next = now + self._interval
                return
        if not self._tries:
            self.stop()

    def _ask(self, server: Server, over_tcp: bool) -> None:
        message = dns.with_id(self._query, secrets.randbits(16))
        one = Ask(next(self._numbers), server, over_tcp, message)
        self._tries[one.number] = one
        self._commands.append(one)

    def _drop(self, number: int) -> None:
        del self._tries[number]
        self._commands.append(Drop(number))
