"""From a query to its answer: cached, under way already, or asked for, here or at the far side.

query -> cache -> the same question already under way? -> within the suffixes: the far side
                                                       -> otherwise: this machine's resolvers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from tunnelkit.core.dns_cache import DnsCache
from tunnelkit.core.dns_exchange import Server
from tunnelkit.egress.dns_lookup import Lookup, Servers
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.frontends.dns.link import Answered, DnsLink, OffersChannels
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.wire import dns
from tunnelkit.wire.dns_addresses import encode_name, is_within, read_name

NEAR_LOOKUPS = 512
"""Questions to this machine's resolvers at once; more fail."""
TRIES = 4
"""How often one question is asked for because a client repeats it."""

Reply = Callable[[bytes], object]
Client = tuple[str, int]
"""Host of who asks by datagram, and the id of its query: the same if it asks again."""


@attrs.define
class _Asked:
    """One question that waits for its answer."""

    waiting: list[tuple[bytes, dns.Question, Reply]] = attrs.field(factory=list)
    clients: set[Client] = attrs.field(factory=set)
    tries: int = 0
    under_way: int = 0
    """Tries that have not come to anything yet."""


class Questions:
    """What UDP and TCP have in common.

    ``suffixes``: names within these domains are the far side's; empty: all are. The others are
    asked of ``servers``, or if there are none of those of this machine.
    """

    def __init__(
        self,
        reactor: Any,
        tunnel: OffersChannels,
        policy: PolicyHolder,
        suffixes: Sequence[str] = (),
        servers: Sequence[Server] = (),
    ) -> None:
        self._reactor = reactor
        self._tunnel = tunnel
        self._policy = policy
        self._poller = Poller.of(reactor)
        self._peer = ""
        self._suffixes = [encode_name(suffix) for suffix in suffixes]
        self._servers = Servers(policy, servers)
        self._link = DnsLink(reactor, tunnel)
        self._lookups: set[Lookup] = set()
        self._cache = DnsCache()
        self._asked: dict[bytes, _Asked] = {}

    def ask(
        self, query: bytes, question: dns.Question, reply: Reply, client: Client | None = None
    ) -> None:
        """Give ``reply`` the answer to ``query``, which reads as ``question``.

        A ``client`` that repeats its query has not had an answer for too long: the question is
        asked again for it.
        """
        if question.is_transfer:
            reply(dns.failure(query, dns.REFUSED))
            return
        if not question.plain:
            self._pass(query, question, partial(_pass_on, query, reply))
            return
        if self._tunnel.peer and self._tunnel.peer != self._peer:
            # Another network: what the last one said of its names is not true there.
            self._peer = self._tunnel.peer
            self._cache.clear()
        key = question.key
        known = self._cache.get(key, self._reactor.seconds())
        if known is not None:
            reply(_made_for(known, query, question))
            return
        asked = self._asked.setdefault(key, _Asked())
        asked.waiting.append((query, question, reply))
        again = client is not None and client in asked.clients
        if client is not None:
            asked.clients.add(client)
        if not asked.tries or (again and asked.tries < TRIES):
            asked.tries += 1
            asked.under_way += 1
            self._pass(dns.make_query(question, 0), question, partial(self._answered, key, asked))

    def close(self) -> None:
        """Give up what has not been answered."""
        self._link.close()
        for lookup in list(self._lookups):
            lookup.stop()
        self._lookups.clear()

    def _pass(self, message: bytes, question: dns.Question, answered: Answered) -> None:
        if not self._suffixes or self._is_for_far(question):
            self._link.ask(message, answered)
        elif len(self._lookups) >= NEAR_LOOKUPS:
            answered(None)
        else:
            lookup = Lookup(self._reactor, self._poller, self._policy, self._servers(), message)
            self._lookups.add(lookup)
            lookup.start(partial(self._near_answered, lookup, answered))

    def _is_for_far(self, question: dns.Question) -> bool:
        try:
            name = read_name(question.section, 0)
        except RemoteProtocolError:
            return False  # no question at all
        return any(is_within(name, suffix) for suffix in self._suffixes)

    def _near_answered(self, lookup: Lookup, answered: Answered, answer: bytes) -> None:
        self._lookups.discard(lookup)
        answered(answer)

    def _answered(self, key: bytes, asked: _Asked, answer: bytes | None) -> None:
        asked.under_way -= 1
        if self._asked.get(key) is not asked:
            return  # another try was quicker
        if asked.under_way and (answer is None or dns.code_of(answer) == dns.SERVFAIL):
            return  # perhaps another try comes to more
        if answer is not None:
            self._cache.put(key, answer, self._reactor.seconds())
        del self._asked[key]
        for query, question, reply in asked.waiting:
            if answer is None:
                reply(dns.failure(query, dns.SERVFAIL))
            else:
                reply(_made_for(answer, query, question))


def _pass_on(query: bytes, reply: Reply, answer: bytes | None) -> None:
    if answer is None:
        reply(dns.failure(query, dns.SERVFAIL))
    else:
        reply(dns.with_id(answer, dns.id_of(query)))


def _made_for(answer: bytes, query: bytes, question: dns.Question) -> bytes:
    return dns.with_id(dns.with_question(answer, question.section), dns.id_of(query))
