"""What an end is asked for and asks another one for itself: gate to gate (row U18).

    request -> what it means -> a pattern for it? -> no: the egress connects
                                                  -> yes: a channel of the next tunnel, joined

The names of the ends on the way go with the wish, so that it cannot go round.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tunnelkit.core.decision import Decision
from tunnelkit.egress.dial import LIMIT, Egress
from tunnelkit.egress.dialling import DialBudget
from tunnelkit.egress.joined_channels import ChannelJoint
from tunnelkit.egress.requests import refuse
from tunnelkit.errors import ChannelRefused, Code, ConfigError
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.destination import Destination, parse_destination
from tunnelkit.policy.onward import OnwardRules

OPENINGS_PER_PEER = 16
"""Wishes of one peer that the next end has not answered; more wait their turn. To the next end
they are all one peer's."""
ANSWER_LIMIT = 2 * LIMIT
"""Seconds from a request to the answer: the next end has `LIMIT` for its own."""


class Onward:
    """Answers the requests of all tunnels of an end in place of its ``egress``, which has all that
    no pattern is for. ``tunnel`` leads to the end named ``next_name``; ``name`` is the own one."""

    def __init__(self, egress: Egress, tunnel: Tunnel, name: str, next_name: str) -> None:
        self.rules = OnwardRules()
        """May be replaced."""
        self.tunnel = tunnel
        self.reactor: Any = egress.reactor
        self._egress = egress
        self._name = name
        self._next_name = next_name
        self._budgets: dict[str, DialBudget] = {}

    def __call__(self, request: ChannelRequest) -> None:
        """Answer ``request``, now or within the limit."""
        try:
            destination = self._egress.maps.meant(parse_destination(request.destination))
        except ConfigError as error:
            refuse(request, Code.PROTOCOL, str(error))
            return
        decision = self.rules.decide(request.peer, destination)
        if decision is None:
            self._egress(request)
        elif request.peer == self._next_name:
            # Over a protocol that cannot say so, this is how a ring of two would look.
            refuse(request, Code.REFUSED, "it came from where it would go", told="ring")
        else:
            budget = self._budgets.get(request.peer)
            if budget is None:
                budget = DialBudget(self.reactor, OPENINGS_PER_PEER)
                self._budgets[request.peer] = budget
            if budget.may_ask():
                way = (*request.via, self._name)
                budget.enter(_Opening(self, budget, request, destination, decision, way))
            else:
                refuse(request, Code.LIMIT, "too many requests aborted before the answer")

    def close(self) -> None:
        """Refuse everything that has not been answered."""
        for budget in self._budgets.values():
            budget.close()


class _Opening:
    """One request until the next end has answered.

    Who gives up before has his channel there reset only once it is answered: to the next end all
    requests that are given up are this end's, and it stops listening to whoever has many.
    """

    def __init__(
        self,
        onward: Onward,
        budget: DialBudget,
        request: ChannelRequest,
        destination: Destination,
        decision: Decision,
        via: tuple[str, ...],
    ) -> None:
        self._onward = onward
        self._budget = budget
        self._request = request
        self._destination = destination
        self._decision = decision
        self._via = via
        self._timer = Timer(onward.reactor, self._too_late)
        self._failed = False
        """It was refused here."""
        self._near, self._far = ChannelJoint.pair(request.peer)

    def start(self) -> None:
        """It is this one's turn."""
        if self._request.gone:
            self._budget.leave(self, aborted=True)
            return
        self._timer.start(ANSWER_LIMIT)
        tunnel, destination = self._onward.tunnel, str(self._destination)
        opening: Deferred[str] = tunnel.open(destination, self._far, self._via)
        opening.addCallbacks(self._opened, self._refused)

    def fail(self, code: Code, why: str) -> None:
        """Refuse the request."""
        if not self._request.gone:
            self._failed = True
            refuse(self._request, code, why)
            self._far.give_up(code, why)

    def _opened(self, bound: str) -> None:
        self._over()
        if self._request.gone:
            self._far.give_up(Code.RESET, "nobody waits for it any more")
        else:
            self._request.attach(self._near, bound, self._decision.rule)

    def _refused(self, failure: Failure) -> None:
        self._over()
        error = failure.value
        code, reason = Code.INTERNAL, "it failed on the way"
        if isinstance(error, ChannelRefused):
            code, reason = error.code, error.reason
        if not self._request.gone:
            # Why it was refused there is for who asks; how this end reaches that one is not.
            refuse(self._request, code, reason, told=reason if code is Code.REFUSED else "")

    def _over(self) -> None:
        self._timer.stop()
        self._budget.leave(self, aborted=self._request.gone and not self._failed)

    def _too_late(self) -> None:
        self.fail(Code.TIMED_OUT, "no answer from the next gate in time")
