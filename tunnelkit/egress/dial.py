"""The far side's answer to channel requests: resolve, authorize, connect (P2, X1, X2, X10).

    request -> what it means -> budget of the peer -> resolve
            -> for each address: authorize, connect -> attach

Every address is authorized by the policy of that moment, immediately before
its connect, and only that address is connected to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tunnelkit.egress.denials import Denials
from tunnelkit.egress.dialling import Dial, DialBudget, MakeSide, Way
from tunnelkit.egress.names import Names
from tunnelkit.egress.requests import Authorizer, EgressRequest, refuse
from tunnelkit.errors import Code, ConfigError
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import SERVICE, TCP, UNIX, Destination, parse_destination
from tunnelkit.policy.mapping import Maps

LIMIT = 10.0
"""Seconds from the request to the answer, waiting and resolving included."""

Handler = Callable[[EgressRequest, Destination], object]
"""Answers requests for one kind of destination; asks the policy itself before it dials."""


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
        names: Names | None = None,
        handlers: Mapping[str, Handler] | None = None,
        limit: float = LIMIT,
    ) -> None:
        self.reactor = reactor
        self.poller = poller
        self.policy = policy
        self.names = names = Names.of(reactor, poller, policy) if names is None else names
        self.maps = Maps()
        """What requests mean; may be replaced."""
        self.denials = Denials(reactor)
        self.limit = limit
        self._way = Way(reactor, poller, names, self.denials, limit)
        self._handlers: dict[str, Handler] = {}
        self._apart: set[str] = set()
        """Kinds of which whole destinations have a handler of their own."""
        for key, handler in (handlers or {}).items():
            self.answer_with(key, handler)
        self._plain: MakeSide = partial(SocketSide, poller)
        self._budgets: dict[str, DialBudget] = {}

    def __call__(self, request: EgressRequest) -> None:
        """Answer ``request``, now or within the limit."""
        try:
            destination = self.maps.meant(parse_destination(request.destination))
        except ConfigError as error:
            refuse(request, Code.PROTOCOL, str(error))
            return
        kind = destination.kind
        handler = self._handlers.get(kind)
        if kind in self._apart:
            handler = self._handlers.get(str(destination)) or handler
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
        kind, _, whole = key.partition(":")
        if whole:
            self._apart.add(kind)

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
            budget = self._budgets[request.peer] = DialBudget(self.reactor)
        if budget.may_ask():
            make_side, policy = make_side or self._plain, policy or self.policy
            budget.enter(Dial(self._way, budget, request, destination, make_side, policy))
        else:
            refuse(request, Code.LIMIT, "too many requests aborted before the answer")

    def close(self) -> None:
        """Refuse everything that has not been answered."""
        for budget in self._budgets.values():
            budget.close()
        self.denials.close()
