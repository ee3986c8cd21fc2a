"""Host names to addresses with sockets of our own: no thread waits, and all can be given up (X23).

The default resolver of everything that looks up names for a peer. It honours
the hosts file and resolv.conf (``nameserver``, ``search``, ``ndots``, ``timeout``,
``attempts``, ``rotate``, ``use-vc``), not nsswitch.conf: `SystemResolver` does.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv6Network, ip_address
from itertools import count
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from tunnelkit.core.stub_resolver import LIMIT, Outcome, Resolution
from tunnelkit.egress.dns_lookup import without_own
from tunnelkit.egress.dns_sockets import Asking
from tunnelkit.egress.resolve import interleaved
from tunnelkit.egress.resolver_files import ResolverFiles
from tunnelkit.errors import Code, DialError, DialTimeout
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.special import Address

_DISCARD = 9
_IPV4_PRECEDENCE = 35
_PRECEDENCES = (
    # RFC 6724, section 2.1: the networks that IPv4 is compared with
    (IPv6Network("::1/128"), 50),
    (IPv6Network("2002::/16"), 30),
    (IPv6Network("2001::/32"), 5),
    (IPv6Network("fc00::/7"), 3),
    (IPv6Network("::/96"), 1),
    (IPv6Network("fec0::/10"), 1),
    (IPv6Network("3ffe::/16"), 1),
)
_OTHER_PRECEDENCE = 40

_FAILURES = {
    Outcome.NO_SUCH_HOST: (DialError, Code.NO_SUCH_HOST),
    Outcome.FAILED: (DialError, Code.UNREACHABLE),
    Outcome.TIMED_OUT: (DialTimeout, Code.TIMED_OUT),
}


class StubResolver:
    """A `tunnelkit.egress.resolve.Resolver`; a Deferred of it that is cancelled stops asking."""

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        policy: PolicyHolder,
        files: ResolverFiles | None = None,
        limit: float = LIMIT,
    ) -> None:
        self._reactor = reactor
        self._poller = poller
        self._policy = policy
        self._files = ResolverFiles() if files is None else files
        self._limit = limit
        self._turn = count()

    def __call__(self, host: str) -> Deferred[Sequence[str]]:
        """The addresses of ``host``, best first; fails with a `DialError`."""
        settings = self._files.settings()
        servers = without_own(self._policy, settings.servers)
        if settings.rotate and servers:
            first = next(self._turn) % len(servers)
            servers = (*servers[first:], *servers[:first])
        now: float = self._reactor.seconds()
        resolution = Resolution(
            host, attrs.evolve(settings, servers=servers), self._files.hosts(), now, self._limit
        )
        asking = Asking(self._reactor, self._poller, self._policy, lambda: over())
        done: Deferred[Sequence[str]] = Deferred(lambda _: asking.stop())

        def over() -> None:
            assert resolution.outcome is not None
            if resolution.outcome is Outcome.FOUND:
                done.callback(interleaved(in_order(resolution.addresses)))
            else:
                kind, code = _FAILURES[resolution.outcome]
                done.errback(kind(f"{host}: {resolution.outcome.value}", hop=host, code=code))

        asking.start(resolution)
        return done


def in_order(
    addresses: Sequence[str], is_reachable: Callable[[str], bool] | None = None
) -> list[str]:
    """Best first: those that there is a way to, then by the precedence of RFC 6724."""
    reachable = _is_reachable if is_reachable is None else is_reachable
    return sorted(addresses, key=lambda text: (not reachable(text), -_precedence(ip_address(text))))


def _precedence(address: Address) -> int:
    if address.version == 4:
        return _IPV4_PRECEDENCE
    found = (precedence for network, precedence in _PRECEDENCES if address in network)
    return next(found, _OTHER_PRECEDENCE)


def _is_reachable(address: str) -> bool:
    """Whether this machine has a route there; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, _DISCARD))
        except OSError:
            return False
        return True
