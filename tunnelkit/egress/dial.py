"""The far side's answer to channel requests: resolve, authorize, connect (P2, X1, X2, X10).

    request -> budget of the peer -> resolve -> for each address: authorize, connect -> attach

Every address is authorized by the policy of that moment, immediately before
its connect, and only that address is connected to.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.decision import Decision
from tunnelkit.egress.resolve import Resolver, SystemResolver, interleaved
from tunnelkit.errors import Code, ConfigError, DialError, DialTimeout, NotAuthorized
from tunnelkit.net.channels.channel import LocalSide
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.channels.udp_flow import DatagramSink, UdpFlow
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import connect_tcp, connect_unix, format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import SERVICE, TCP, UNIX, Destination, parse_destination
from tunnelkit.policy.printable import printable

_log = Logger()

LIMIT = 10.0
"""Seconds from the request to the answer, waiting and resolving included."""
STAGGER = 0.25
"""Seconds before the next address is tried beside the ones under way (RFC 8305)."""
DIALS_PER_PEER = 64
"""Dials in flight for one peer; more wait their turn."""
ABORTED_BURST = 100.0
ABORTED_RATE = 33.0
"""Requests that their opener may abort before the answer: at once, and a second (X10)."""

# What the opener is told: no more than the code says.
_REASONS = {
    Code.REFUSED: "connection refused",
    Code.UNREACHABLE: "it cannot be reached from there",
    Code.TIMED_OUT: "no answer in time",
    Code.NOT_ALLOWED: "not allowed there",
    Code.NO_SUCH_HOST: "no such host",
    Code.NO_SUCH_SERVICE: "no such service",
    Code.LIMIT: "too many requests at once",
    Code.PROTOCOL: "not a destination",
    Code.SHUTDOWN: "the far side is shutting down",
}
# Of several addresses' failures the one that says most about the service is reported.
_TELLING = (Code.REFUSED, Code.RESET, Code.TIMED_OUT, Code.LIMIT, Code.UNREACHABLE)


class EgressRequest(Protocol):
    """A channel that the far side asks for."""

    on_gone: Callable[[], None] | None
    """Called once if the opener aborts the request, or the tunnel is lost, before the answer."""

    @property
    def peer(self) -> str:
        """Verified name of who asks."""

    @property
    def destination(self) -> str:
        """As it came; nobody has looked at it."""

    @property
    def gone(self) -> bool:
        """Answered, aborted or lost: nobody waits for an answer."""

    def attach(self, side: LocalSide, bound: str) -> object:
        """Answer: connected; ``bound`` is the socket's own address."""

    def attach_flow(self, sink: DatagramSink) -> UdpFlow:
        """Answer a request for ``udp``: ``sink`` takes the datagrams."""

    def refuse(self, code: Code, reason: str) -> object:
        """Answer: no."""


class Authorizer(Protocol):
    """What allows a connection, see `Policy.authorize`."""

    def authorize(
        self,
        peer: str,
        action: str,
        protocol: str,
        address: str,
        port: int,
        host: str | None = None,
    ) -> Decision:
        """Raises `NotAuthorized`."""


Handler = Callable[[EgressRequest, Destination], object]
"""Answers requests for one kind of destination; asks the policy itself before it dials."""
MakeSide = Callable[[socket.socket], LocalSide]
"""Makes a connected socket the application's side of a channel."""


class Egress:
    """Answers the requests of all tunnels of an end; an instance is the tunnels' acceptor.

    It connects ``tcp`` and ``unix`` destinations itself. ``handlers``, and those
    of `answer_with`, are for others: the key is a kind (``x11``, ``udp``, ``listen``,
    ``service``) or one whole destination (``service:@dns``).
    """

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        policy: PolicyHolder,
        resolver: Resolver | None = None,
        handlers: Mapping[str, Handler] | None = None,
        limit: float = LIMIT,
    ) -> None:
        self.reactor = reactor
        self.poller = poller
        self.policy = policy
        self.resolver: Resolver = SystemResolver(reactor) if resolver is None else resolver
        self.limit = limit
        self._handlers = dict(handlers or {})
        self._plain: MakeSide = partial(SocketSide, poller)
        self._budgets: dict[str, _Budget] = {}

    def __call__(self, request: EgressRequest) -> None:
        """Answer ``request``, now or within the limit."""
        try:
            destination = parse_destination(request.destination)
        except ConfigError as error:
            refuse(request, Code.PROTOCOL, str(error))
            return
        kind = destination.kind
        handler = self._handlers.get(str(destination)) or self._handlers.get(kind)
        if handler is not None:
            handler(request, destination)
        elif kind in (TCP, UNIX):
            self.dial(request, destination)
        else:
            code = Code.NO_SUCH_SERVICE if kind == SERVICE else Code.NOT_ALLOWED
            refuse(request, code, f"nothing here answers {kind}")

    def answer_with(self, key: str, handler: Handler) -> None:
        """Leave a kind of destination, or one whole destination, to ``handler`` from now on."""
        self._handlers[key] = handler

    def dial(
        self,
        request: EgressRequest,
        destination: Destination,
        make_side: MakeSide | None = None,
        policy: Authorizer | None = None,
    ) -> None:
        """Connect to a ``tcp``, ``unix`` or ``x11`` destination, and answer with what
        ``make_side`` makes of the socket (default: the plain one).

        ``policy`` is asked instead of the one of the moment, if something else than the rules
        has allowed this destination.
        """
        budget = self._budgets.get(request.peer)
        if budget is None:
            budget = self._budgets[request.peer] = _Budget(self.reactor)
        if budget.may_ask():
            budget.enter(
                _Dial(self, budget, request, destination, make_side or self._plain, policy)
            )
        else:
            refuse(request, Code.LIMIT, "too many requests aborted before the answer")

    def close(self) -> None:
        """Refuse everything that has not been answered."""
        for budget in self._budgets.values():
            budget.close()


def refuse(request: EgressRequest, code: Code, why: str) -> None:
    """Answer no; ``why`` is for the log, the opener is told what ``code`` says."""
    _log.debug(
        "Refused {peer} the destination {destination}: {why}",
        peer=printable(request.peer),
        destination=printable(request.destination),
        why=printable(why),
    )
    request.refuse(code, _REASONS.get(code, str(code)))


class _Budget:
    """One peer's dials, those under way and those that wait."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._dialling: set[_Dial] = set()
        self._waiting: deque[_Dial] = deque()
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

    def enter(self, dial: _Dial) -> None:
        """Start the dial now or when it is its turn."""
        self._waiting.append(dial)
        self._start()

    def leave(self, dial: _Dial, aborted: bool) -> None:
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
        while self._waiting and len(self._dialling) < DIALS_PER_PEER:
            dial = self._waiting.popleft()
            self._dialling.add(dial)
            dial.start()
        self._starting = False


class _Dial:
    """One request on its way to a connected socket."""

    __slots__ = (
        "_addresses",
        "_attempts",
        "_budget",
        "_deadline",
        "_destination",
        "_egress",
        "_failures",
        "_make_side",
        "_name",
        "_over",
        "_policy",
        "_request",
        "_resolving",
        "_timer",
    )

    def __init__(
        self,
        egress: Egress,
        budget: _Budget,
        request: EgressRequest,
        destination: Destination,
        make_side: MakeSide,
        policy: Authorizer | None,
    ) -> None:
        self._egress = egress
        self._budget = budget
        self._request = request
        self._destination = destination
        self._make_side = make_side
        self._policy = policy
        self._deadline: float = egress.reactor.seconds() + egress.limit
        self._name: str | None = None
        self._resolving: Deferred[Sequence[str]] | None = None
        self._addresses: deque[str] = deque()
        self._attempts: list[Deferred[socket.socket]] = []
        self._failures: list[tuple[Code, str]] = []
        self._timer = Timer(egress.reactor, self._try_next)
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
            self._resolving = self._egress.resolver(self._name)
            self._resolving.addTimeout(remaining, self._egress.reactor)
            self._resolving.addCallbacks(self._resolved, self._unresolved)

    def fail(self, code: Code, why: str) -> None:
        """Refuse the request."""
        if not self._over:
            if code is Code.NOT_ALLOWED:
                _log.warn("Not allowed: {why}", why=why)
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
        now: float = self._egress.reactor.seconds()
        return self._deadline - now

    def _resolved(self, addresses: Sequence[str]) -> None:
        self._resolving = None
        if not addresses:
            self.fail(Code.NO_SUCH_HOST, f"{self._name}: no addresses")
            return
        self._addresses.extend(interleaved(addresses))
        self._try_next()

    def _unresolved(self, failure: Failure) -> None:
        self._resolving = None
        error = failure.value
        if isinstance(error, DialError):
            self.fail(error.code, str(error))
        elif failure.check(CancelledError, DeferredTimeout):
            self.fail(Code.TIMED_OUT, f"{self._name}: no answer from the resolver")
        else:
            _log.failure("Resolving {name} failed", failure, name=printable(self._name or ""))
            self.fail(Code.INTERNAL, f"{self._name}: the resolver failed")

    def _try_next(self) -> None:
        """Begin with the next address that is allowed; fail if none is left or under way."""
        self._timer.stop()
        while self._addresses and not self._over:
            attempt = self._attempt(self._addresses.popleft())
            if attempt is None:
                continue
            self._attempts.append(attempt)
            attempt.addCallbacks(
                self._connected,
                self._attempt_failed,
                callbackArgs=(attempt,),
                errbackArgs=(attempt,),
            )
            if attempt in self._attempts and self._addresses:
                self._timer.start(STAGGER)
            return
        if not self._attempts and not self._over:
            self.fail(*self._most_telling())

    def _attempt(self, address: str) -> Deferred[socket.socket] | None:
        """Authorize and connect; None if that address is not allowed or time is up."""
        egress, where = self._egress, self._destination
        remaining = self._remaining()
        if remaining <= 0:
            self._failures.append((Code.TIMED_OUT, "no time left"))
            return None
        try:
            decision = (self._policy or egress.policy).authorize(
                self._request.peer, "connect", where.kind, address, where.port, self._name
            )
        except NotAuthorized as error:
            self._failures.append((Code.NOT_ALLOWED, str(error)))
            return None
        connect = connect_unix if decision.protocol == UNIX else connect_tcp
        return connect(egress.poller, decision, remaining)

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

    def _connected(self, sock: socket.socket, attempt: Deferred[socket.socket]) -> None:
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
        self._request.attach(side, bound)

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
