"""One request on its way to a connected socket, and how many of a peer's may be (X1, X2, X10)."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.egress.denials import Denials
from tunnelkit.egress.names import Names
from tunnelkit.egress.requests import EXHAUSTED, Authorizer, EgressRequest, refuse
from tunnelkit.egress.resolve import interleaved
from tunnelkit.errors import Code, DialError, DialTimeout, NotAuthorized
from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import connect_tcp, connect_unix, format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.destination import TCP, UNIX, Destination
from tunnelkit.policy.printable import printable

_log = Logger()

STAGGER = 0.25
"""Seconds before the next address is tried beside the ones under way (RFC 8305)."""
DIALS_PER_PEER = 64
"""Dials in flight for one peer; more wait their turn."""
ABORTED_BURST = 100.0
ABORTED_RATE = 33.0
"""Requests that their opener may abort before the answer: at once, and a second (X10)."""

# Of several addresses' failures the one that says most about the service is reported.
_TELLING = (Code.REFUSED, Code.RESET, Code.TIMED_OUT, Code.LIMIT, Code.UNREACHABLE)

MakeSide = Callable[[socket.socket], LocalSide]
"""Makes a connected socket the application's side of a channel."""


@attrs.frozen
class Way:
    """What all dials of an end go by."""

    reactor: Any
    poller: Poller
    names: Names
    denials: Denials
    limit: float
    """Seconds from the request to the answer."""


class Dialling(Protocol):
    """What is on its way to an answer."""

    def start(self) -> None:
        """It is this one's turn."""

    def fail(self, code: Code, why: str) -> None:
        """Refuse the request."""


class DialBudget:
    """One peer's dials, those under way, at most ``most``, and those that wait."""

    def __init__(self, reactor: Any, most: int = DIALS_PER_PEER) -> None:
        self._reactor = reactor
        self._most = most
        self._dialling: set[Dialling] = set()
        self._waiting: deque[Dialling] = deque()
        self._starting = False
        self._tokens = ABORTED_BURST
        self._at: float = reactor.seconds()

    def may_ask(self) -> bool:
        """False while too many of the peer's requests have been aborted."""
        if self._tokens >= ABORTED_BURST:
            return True
        now: float = self._reactor.seconds()
        self._tokens = min(ABORTED_BURST, self._tokens + (now - self._at) * ABORTED_RATE)
        self._at = now
        return self._tokens >= 1

    def enter(self, dial: Dialling) -> None:
        """Start the dial now or when it is its turn."""
        self._waiting.append(dial)
        self._start()

    def leave(self, dial: Dialling, aborted: bool) -> None:
        """A dial is over."""
        self._dialling.discard(dial)
        if aborted:
            if self._tokens >= ABORTED_BURST:
                self._at = self._reactor.seconds()
            self._tokens -= 1
        self._start()

    def close(self) -> None:
        """Refuse them all."""
        pending = [*self._dialling, *self._waiting]
        self._waiting.clear()
        for dial in pending:
            dial.fail(Code.SHUTDOWN, "shutting down")

    def _start(self) -> None:
        # Dials that end at once call leave() from within start(): a loop, no recursion.
        if self._starting:
            return
        self._starting = True
        while self._waiting and len(self._dialling) < self._most:
            dial = self._waiting.popleft()
            self._dialling.add(dial)
            dial.start()
        self._starting = False


class Dial:
    """One request on its way to a connected socket."""

    __slots__ = (
        "_addresses",
        "_attempts",
        "_budget",
        "_deadline",
        "_denied",
        "_destination",
        "_failures",
        "_make_side",
        "_name",
        "_over",
        "_policy",
        "_remedy",
        "_request",
        "_resolving",
        "_timer",
        "_way",
    )

    def __init__(
        self,
        way: Way,
        budget: DialBudget,
        request: EgressRequest,
        destination: Destination,
        make_side: MakeSide,
        policy: Authorizer,
    ) -> None:
        self._way = way
        self._budget = budget
        self._request = request
        self._destination = destination
        self._make_side = make_side
        self._policy = policy
        self._deadline: float = way.reactor.seconds() + way.limit
        self._name: str | None = None
        self._resolving: Deferred[Sequence[str]] | None = None
        self._addresses: deque[str] = deque()
        self._attempts: list[Deferred[socket.socket]] = []
        self._failures: list[tuple[Code, str]] = []
        self._denied = "no-permission"
        self._remedy = ""
        """Why it is not allowed, if it is not: in one word."""
        self._timer = Timer(way.reactor, self._try_next)
        self._over = False

    def start(self) -> None:
        """It is this dial's turn."""
        remaining = self._remaining()
        if self._request.gone:
            self._end(aborted=True)
            return
        self._request.on_gone = self._gone
        if remaining <= 0:
            self.fail(Code.LIMIT, "waited too long for other dials")
        elif self._needs_no_resolver:
            self._addresses.append(self._destination.host)
            self._try_next()
        else:
            self._name = self._destination.host
            where = self._destination
            self._resolving = self._way.names.resolve(
                self._policy, self._request.peer, "connect", where.kind, where.host, where.port
            )
            self._resolving.addTimeout(remaining, self._way.reactor)
            self._resolving.addCallbacks(self._resolved, self._unresolved)

    def fail(self, code: Code, why: str) -> None:
        """Refuse the request."""
        if not self._over:
            if code is Code.NOT_ALLOWED:
                self._way.denials.tell(self._request.peer, why, self._denied, self._remedy)
            self._end(aborted=False)
            refuse(self._request, code, why)

    @property
    def _needs_no_resolver(self) -> bool:
        where = self._destination
        # A display of this machine has no host at all; the policy knows its socket.
        return where.kind == UNIX or not where.host or where.is_address

    def _gone(self) -> None:
        self._end(aborted=True)

    def _remaining(self) -> float:
        now: float = self._way.reactor.seconds()
        return self._deadline - now

    def _resolved(self, addresses: Sequence[str]) -> None:
        self._resolving = None
        self._addresses.extend(interleaved(addresses))
        self._try_next()

    def _unresolved(self, failure: Failure) -> None:
        self._resolving = None
        error = failure.value
        if isinstance(error, DialError):
            self.fail(error.code, str(error))
        elif isinstance(error, NotAuthorized):
            self._denied, self._remedy = error.reason, error.remedy
            self.fail(Code.NOT_ALLOWED, str(error))
        elif failure.check(CancelledError, DeferredTimeout):
            self.fail(Code.TIMED_OUT, f"{self._name}: no answer from the resolver")
        else:
            _log.failure("Resolving {name} failed", failure, name=printable(self._name or ""))
            self.fail(Code.INTERNAL, f"{self._name}: the resolver failed")

    def _try_next(self) -> None:
        """Begin with the next address that is allowed; fail if none is left or under way."""
        self._timer.stop()
        while self._addresses and not self._over:
            begun = self._attempt(self._addresses.popleft())
            if begun is None:
                continue
            attempt, rule = begun
            self._attempts.append(attempt)
            attempt.addCallbacks(
                self._connected,
                self._attempt_failed,
                callbackArgs=(attempt, rule),
                errbackArgs=(attempt,),
            )
            if attempt in self._attempts and self._addresses:
                self._timer.start(STAGGER)
            return
        if not self._attempts and not self._over:
            code, why = self._most_telling()
            if code is Code.LIMIT:  # from the operating system: no dial has begun
                self._way.denials.exhausted(why)
                self._end(aborted=False)
                refuse(self._request, code, why, told=EXHAUSTED)
            else:
                self.fail(code, why)

    def _attempt(self, address: str) -> tuple[Deferred[socket.socket], str] | None:
        """Authorize and connect, and the rule that allows it; None if that address is not allowed
        or time is up."""
        where = self._destination
        remaining = self._remaining()
        if remaining <= 0:
            self._failures.append((Code.TIMED_OUT, "no time left"))
            return None
        try:
            decision = self._policy.authorize(
                self._request.peer, "connect", where.kind, address, where.port, self._name
            )
        except NotAuthorized as error:
            self._denied, self._remedy = error.reason, error.remedy
            self._failures.append((Code.NOT_ALLOWED, str(error)))
            return None
        connect = connect_unix if decision.protocol == UNIX else connect_tcp
        return connect(self._way.poller, decision, remaining), decision.rule

    def _most_telling(self) -> tuple[Code, str]:
        ranks = {code: rank for rank, code in enumerate(_TELLING)}
        return min(self._failures, key=lambda failure: ranks.get(failure[0], len(ranks)))

    def _attempt_failed(self, failure: Failure, attempt: Deferred[socket.socket]) -> None:
        self._attempts.remove(attempt)
        if self._over:
            return
        error = failure.value
        if isinstance(error, DialTimeout):
            self._failures.append((Code.TIMED_OUT, str(error)))
        elif isinstance(error, DialError):
            self._failures.append((error.code, str(error)))
        else:
            _log.failure("Connecting failed", failure)
            self._failures.append((Code.INTERNAL, "internal error"))
        self._try_next()

    def _connected(self, sock: socket.socket, attempt: Deferred[socket.socket], rule: str) -> None:
        self._attempts.remove(attempt)
        if self._over:
            sock.close()
            return
        if sock.family == socket.AF_UNIX:
            bound = f"{UNIX}:{format_address(sock.getpeername())}"
        else:
            bound = f"{TCP}:{format_address(sock.getsockname())}"
        side = self._make_side(sock)
        self._end(aborted=False)
        self._request.attach(side, bound, rule)

    def _end(self, aborted: bool) -> None:
        """Give up whatever is under way, and the place in the budget."""
        if self._over:
            return
        self._over = True
        self._timer.stop()
        for attempt in list(self._attempts):
            attempt.cancel()
        if self._resolving is not None:
            self._resolving.cancel()
        self._budget.leave(self, aborted)
