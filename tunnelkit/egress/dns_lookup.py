"""One DNS question, as it came, on its way through this machine's resolvers (row F4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from tunnelkit.core.dns_exchange import Exchange, Server
from tunnelkit.egress.dns_sockets import Asking
from tunnelkit.egress.resolver_files import ResolverFiles
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import UDP
from tunnelkit.wire import dns

LIMIT = 4.5
"""Seconds for one question, a little less than the asking side waits."""
PATIENCE = 1.5
"""Seconds for one resolver, before the next one, or the same one again, is asked as well."""


class Servers:
    """The resolvers that a question goes to: ``given``, or if there are none those of
    resolv.conf; never this process, which would ask the other end in turn."""

    def __init__(
        self,
        policy: PolicyHolder,
        given: Sequence[Server] = (),
        files: ResolverFiles | None = None,
    ) -> None:
        self._policy = policy
        self._given = tuple(given)
        self._files = ResolverFiles() if files is None else files

    def __call__(self) -> tuple[Server, ...]:
        """In order, as of now."""
        return without_own(self._policy, self._given or self._files.settings().servers)


def without_own(policy: PolicyHolder, servers: Sequence[Server]) -> tuple[Server, ...]:
    """``servers`` without those that are a listener of this process."""
    listeners = policy.listeners
    return tuple(
        (address, port)
        for address, port in servers
        if not listeners.may_have(UDP, port)
        or not listeners.covers(UDP, ip_address(address.partition("%")[0]), port)
    )


class Lookup:
    """One question on its way; SERVFAIL if nobody has an answer."""

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        policy: PolicyHolder,
        servers: Sequence[Server],
        query: bytes,
    ) -> None:
        self._query = query
        self._exchange = Exchange(query, servers, reactor.seconds(), LIMIT, interval=PATIENCE)
        self._asking = Asking(reactor, poller, policy, self._over)
        self._answered: Callable[[bytes], object] | None = None

    def start(self, answered: Callable[[bytes], object]) -> None:
        """Ask the first resolver; ``answered`` is called once, maybe at once."""
        self._answered = answered
        self._asking.start(self._exchange)

    def stop(self) -> None:
        """Give up, without an answer."""
        self._answered = None
        self._asking.stop()

    def _over(self) -> None:
        answered, answer = self._answered, self._exchange.answer
        if answered is None:
            return
        if answer is None:
            answered(dns.failure(self._query, dns.SERVFAIL))
        else:
            answered(dns.with_id(answer, dns.id_of(self._query)))
