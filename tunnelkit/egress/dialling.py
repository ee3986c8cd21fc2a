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

from tunnelkit.core.decision import Decision
from tunnelkit.egress.denials import Denials
from tunnelkit.egress.names import Names
from tunnelkit.egress.requests import EXHAUSTED, Authorizer, EgressRequest, refuse
from tunnelkit.egress.resolve import interleaved
from tunnelkit.errors import Code, DialError, NotAuthorized
from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.net.sockets.connect import Attempt
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.destination import UNIX, Destination
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
        if self._waiting or len(self._dialling) >= self._most:
            self._waiting.append(dial)
        else:
            self._dialling.add(dial)
            dial.start()

    def leave(self, dial: Dialling, aborted: bool) -> None:
        """A dial is over."""
        self._dialling.discard(dial)
        if aborted:
            if self._tokens >= ABORTED_BURST:
                self._at = self._reactor.seconds()
            self._tokens -= 1
        if self._waiting:
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
        "_stagger",
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
        self._attempts: list[Attempt] = []
        self._failures: list[tuple[Code, str]] = []
        self._denied = "no-permission"
        self._remedy = ""
        """Why it is not allowed, if it is not: in one word."""
        self._stagger: Timer | None = None
        """Until the next address is tried."""
        self._over = False

    def start(self) -> None:
        """It is this dial's turn."""
        remaining = self._deadline - self._way.reactor.seconds()
        if self._request.gone:
            self._end(aborted=True)
            return
        self._request.on_gone = self._gone
        where = self._destination
        if remaining <= 0:
            self.fail(Code.LIMIT, "waited too long for other dials")
        elif where.kind == UNIX or not where.host or where.is_address:
            # A display of this machine has no host at all; the policy knows its socket.
            self._addresses.append(where.host)
            self._try_next()
        else:
            self._name = where.host
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

    def _gone(self) -> None:
        self._end(aborted=True)

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
        if self._stagger is not None:
            self._stagger.stop()
        while self._addresses and not self._over:
            address = self._addresses.popleft()
            remaining = self._deadline - self._way.reactor.seconds()
            if remaining <= 0:
                self._failures.append((Code.TIMED_OUT, "no time left"))
                continue
            decision = self._authorized(address)
            if decision is not None:
                attempt = Attempt(self._way.poller, decision, self)
                self._attempts.append(attempt)
                # What it comes to, perhaps at once, tries the next one.
                attempt.start(remaining)
                if attempt in self._attempts and self._addresses:
                    if self._stagger is None:
                        self._stagger = Timer(self._way.reactor, self._try_next)
                    self._stagger.start(STAGGER)
                return
        if not self._attempts and not self._over:
            code, why = self._most_telling()
            if code is Code.LIMIT:  # from the operating system: no dial has begun
                self._way.denials.exhausted(why)
                self._end(aborted=False)
                refuse(self._request, code, why, told=EXHAUSTED)
            else:
                self.fail(code, why)

    def _authorized(self, address: str) -> Decision | None:
        """Authorize one address, just before it is connected to; None if it is not allowed."""
        where = self._destination
        try:
            return self._policy.authorize(
                self._request.peer, "connect", where.kind, address, where.port, self._name
            )
        except NotAuthorized as error:
            self._denied, self._remedy = error.reason, error.remedy
            self._failures.append((Code.NOT_ALLOWED, str(error)))
            return None

    def _most_telling(self) -> tuple[Code, str]:
        ranks = {code: rank for rank, code in enumerate(_TELLING)}
        return min(self._failures, key=lambda failure: ranks.get(failure[0], len(ranks)))

    # -- AttemptOwner -----------------------------------------------------

    def failed(self, attempt: Attempt, error: DialError) -> None:
        """See `AttemptOwner`."""
        self._attempts.remove(attempt)
        self._failures.append((error.code, str(error)))
        self._try_next()

    def connected(self, attempt: Attempt, sock: socket.socket, near: Any) -> None:
        """See `AttemptOwner`."""
        self._attempts.remove(attempt)
        decision = attempt.decision
        if decision.protocol == UNIX:
            near = decision.address
        bound = f"{decision.protocol}:{format_address(near)}"
        self._end(aborted=False)
        self._request.attach(self._make_side(sock), bound, decision.rule)

    def _end(self, aborted: bool) -> None:
        """Give up whatever is under way, and the place in the budget."""
        if self._over:
            return
        self._over = True
        if self._stagger is not None:
            self._stagger.stop()
        for attempt in self._attempts:
            attempt.cancel()
        if self._resolving is not None:
            self._resolving.cancel()
        self._budget.leave(self, aborted)
