"""Names looked up for peers: only with a rule, a few at a time, each peer in its turn (X23).

    rule that can admit the name? -> the peer's turn -> resolver -> addresses

A peer learns that a name does not exist only if a rule is for that name.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.python.failure import Failure

from tunnelkit.egress.resolve import THREADS, Resolver, SystemResolver
from tunnelkit.egress.stub_resolver import StubResolver
from tunnelkit.errors import Code, DialError, NotAuthorized
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder, Prospect
from tunnelkit.policy.destination import LISTEN
from tunnelkit.policy.printable import printable
from tunnelkit.policy.remedy import allow_option

PER_PEER = 8
THREADS_PER_PEER = 4


class Foresight(Protocol):
    """What knows which names can come to anything, see `tunnelkit.policy.acl.Policy`."""

    def prospect(self, peer: str, action: str, protocol: str, host: str, port: int) -> Prospect:
        """See `tunnelkit.policy.acl.Policy.prospect`."""


@attrs.frozen
class Places:
    """How many look-ups may be under way."""

    per_peer: int = PER_PEER
    in_all: int | None = None
    """None: as many as the peers have."""
    can_stop: bool = True
    """Whether a look-up that is not wanted any more gives its place back before it ends."""


STUB = Places()
SYSTEM = Places(THREADS_PER_PEER, THREADS, can_stop=False)

_ATTRIBUTE = "_tunnelkit_names"


def use_system_resolver(reactor: Any) -> None:
    """Have every `Names.of` of this process ask the system's resolver from now on."""
    if getattr(reactor, _ATTRIBUTE, None) is None:
        setattr(reactor, _ATTRIBUTE, Names(SystemResolver(reactor), SYSTEM))


class Names:
    """Looks up names for all peers of an end."""

    def __init__(self, resolver: Resolver, places: Places = STUB) -> None:
        self._resolver = resolver
        self._places = places
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[_Wanted]] = {}
        self._starting = False

    @staticmethod
    def of(reactor: Any, poller: Poller, policy: PolicyHolder) -> Names:
        """With the resolver that this process uses; its threads are all ends' together."""
        system: Names | None = getattr(reactor, _ATTRIBUTE, None)
        return Names(StubResolver(reactor, poller, policy)) if system is None else system

    @property
    def running(self) -> int:
        """Look-ups under way."""
        return self._running.total()

    def resolve(
        self,
        policy: Foresight,
        peer: str,
        action: str,
        protocol: str,
        host: str,
        port: int,
    ) -> Deferred[Sequence[str]]:
        """The addresses of ``host``, of which each has to be authorized still.

        Fails with `NotAuthorized` if no rule can admit any of them, without having asked; with
        the same, whatever there is not, if only rules for addresses can; with a `DialError`.
        """
        prospect = policy.prospect(peer, action, protocol, host, port)
        shown = printable(f"{action} {protocol} {host}:{port}")
        if prospect is Prospect.NONE:
            why = f"no rule allows {printable(peer)} to {shown}, wherever that name leads"
            kind = LISTEN if action == "bind" else protocol
            return fail(NotAuthorized(why, remedy=allow_option(kind, host, port)))
        looked_up = self.look_up(peer, host)
        looked_up.addCallback(_some, host)
        if prospect is not Prospect.BY_NAME:
            looked_up.addErrback(_hide, f"no rule allows {printable(peer)} {shown} by its name")
        return looked_up

    def look_up(self, peer: str, host: str) -> Deferred[Sequence[str]]:
        """The addresses of ``host`` in ``peer``'s turn, without asking any rule."""
        wanted = _Wanted(self, peer, host)
        self._waiting.setdefault(peer, deque()).append(wanted)
        self._start()
        return wanted.done

    def left(self, wanted: _Wanted) -> None:
        """A look-up that has not begun is not wanted any more."""
        waiting = self._waiting.get(wanted.peer)
        if waiting is not None and wanted in waiting:
            waiting.remove(wanted)
            if not waiting:
                del self._waiting[wanted.peer]

    def ended(self, peer: str) -> None:
        """A look-up has given its place back."""
        self._running[peer] -= 1
        if not self._running[peer]:
            del self._running[peer]
        self._start()

    def begin(self, wanted: _Wanted) -> None:
        """It is its turn."""
        wanted.begin(self._resolver(wanted.host), self._places.can_stop)

    def _start(self) -> None:
        # Look-ups that end at once call ended() from within begin(): a loop, no recursion.
        if self._starting:
            return
        self._starting = True
        while (peer := self._next_peer()) is not None:
            waiting = self._waiting[peer]
            wanted = waiting.popleft()
            if not waiting:
                del self._waiting[peer]
            self._running[peer] += 1
            self.begin(wanted)
        self._starting = False

    def _next_peer(self) -> str | None:
        """Of those who wait and may, the one with the fewest under way."""
        places = self._places
        if places.in_all is not None and self._running.total() >= places.in_all:
            return None
        able = (peer for peer in self._waiting if self._running[peer] < places.per_peer)
        return min(able, key=lambda peer: self._running[peer], default=None)


class _Wanted:
    """One look-up, waiting or under way."""

    __slots__ = ("_begun", "_can_stop", "_names", "_over", "done", "host", "peer")

    def __init__(self, names: Names, peer: str, host: str) -> None:
        self.peer = peer
        self.host = host
        self.done: Deferred[Sequence[str]] = Deferred(self._cancelled)
        self._names = names
        self._begun: Deferred[Sequence[str]] | None = None
        self._can_stop = True
        self._over = False

    def begin(self, looking_up: Deferred[Sequence[str]], can_stop: bool) -> None:
        """``looking_up`` has begun."""
        self._begun = looking_up
        self._can_stop = can_stop
        looking_up.addBoth(self._ended)

    def _ended(self, result: Sequence[str] | Failure) -> None:
        self._names.ended(self.peer)
        if self._over:
            return
        self._over = True
        if isinstance(result, Failure):
            self.done.errback(result)
        else:
            self.done.callback(result)

    def _cancelled(self, done: Deferred[Sequence[str]]) -> None:
        self._over = True
        if self._begun is None:
            self._names.left(self)
        elif self._can_stop:
            self._begun.cancel()
        done.errback(CancelledError())


def _some(addresses: Sequence[str], host: str) -> Sequence[str]:
    if not addresses:
        raise DialError(f"{host}: no addresses", hop=host, code=Code.NO_SUCH_HOST)
    return addresses


def _hide(failure: Failure, why: str) -> Failure:
    """A name that does not exist looks like one that leads to where no rule allows."""
    error = failure.value
    if isinstance(error, DialError) and error.code is Code.NO_SUCH_HOST:
        return Failure(NotAuthorized(f"{why}, and: {printable(str(error))}"))
    return failure
