"""The far side of DNS: channels to the service ``@dns``, for whom a rule allows it (row F4)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from functools import partial

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.core.dns_exchange import Server
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.dns_lookup import Lookup, Servers
from tunnelkit.egress.dns_names import AskedNames
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.errors import Code, NotAuthorized, RemoteProtocolError
from tunnelkit.net.channels.protocol_side import ChannelTransport, TunnelAddress
from tunnelkit.policy.destination import SERVICE, Destination
from tunnelkit.wire import dns

_log = Logger()

LOOKUPS_PER_PEER = 256
"""Questions of one peer under way at once; more fail."""
LOOKUPS_PER_CHANNEL = 128
"""Of these, of one channel; more wait in it."""
CHANNELS_PER_PEER = 16


class DnsEgress:
    """Answers requests for ``service:@dns`` at ``egress``, if a rule allows that service to the
    peer. ``servers`` are asked in order; empty: those of this machine, see `Servers`."""

    def __init__(self, egress: Egress, servers: Sequence[Server] = ()) -> None:
        self.reactor = egress.reactor
        self.poller = egress.poller
        self.policy = egress.policy
        self._denials = egress.denials
        self.lookups: Counter[str] = Counter()
        self.servers = Servers(egress.policy, servers)
        self._channels: Counter[str] = Counter()
        egress.answer_with(f"{SERVICE}:@dns", self.answer)

    def answer(self, request: EgressRequest, destination: Destination) -> None:
        """A `tunnelkit.egress.dial.Handler`."""
        rule = self.rule_for(request.peer)
        if not rule:
            request.refuse(Code.NOT_ALLOWED, "not allowed there")
        elif self._channels[request.peer] >= CHANNELS_PER_PEER:
            request.refuse(Code.LIMIT, "too many requests at once")
        else:
            self._channels[request.peer] += 1
            near, far = TunnelAddress("", str(destination)), TunnelAddress(request.peer, "")
            transport = ChannelTransport(_Asking(self, request.peer), near, far)
            transport.begin()
            request.attach(transport, "", rule)

    def rule_for(self, peer: str) -> str:
        """The rule of this moment that lets ``peer`` ask; empty if none does."""
        try:
            return self.policy.authorize(peer, "connect", SERVICE, "@dns", 0).rule
        except NotAuthorized as error:
            self._denials.not_authorized(peer, error)
            return ""

    def gone(self, peer: str) -> None:
        """A channel of ``peer`` is over."""
        self._channels[peer] -= 1
        if not self._channels[peer]:
            del self._channels[peer]


@implementer(IHalfCloseableProtocol)
class _Asking(Protocol):
    """One channel: queries come, answers go, in any order."""

    transport: ChannelTransport

    def __init__(self, egress: DnsEgress, peer: str) -> None:
        self._egress = egress
        self._peer = peer
        self._names = AskedNames(egress.reactor, peer)
        self._messages = dns.Messages()
        self._waiting: deque[bytes] = deque()
        self._lookups: set[Lookup] = set()
        self._full = False
        self._ended = False
        self._gone = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        try:
            self._waiting.extend(self._messages.receive(data))
        except RemoteProtocolError:
            self.transport.abortConnection()
            return
        self._look_up()

    def readConnectionLost(self) -> None:
        self._ended = True
        self._end_if_done()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._names.tell()
        self._waiting.clear()
        for lookup in list(self._lookups):
            lookup.stop()
        self._forget(len(self._lookups))
        self._lookups.clear()
        self._egress.gone(self._peer)

    # -- producer of answers: with too many unsent, no more queries are taken --

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        self._look_up()

    def stopProducing(self) -> None:
        self._full = True

    # -- lookups ----------------------------------------------------------

    def _look_up(self) -> None:
        while (
            self._waiting
            and not self._full
            and not self._gone
            and len(self._lookups) < LOOKUPS_PER_CHANNEL
        ):
            self._start(self._waiting.popleft())
        if not self._gone:
            if self._waiting:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self._ended and not self._waiting and not self._lookups:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _start(self, query: bytes) -> None:
        egress = self._egress
        if not egress.rule_for(self._peer):
            self._reply(dns.failure(query, dns.REFUSED))
        elif egress.lookups[self._peer] >= LOOKUPS_PER_PEER:
            self._reply(dns.failure(query, dns.SERVFAIL))
        else:
            egress.lookups[self._peer] += 1
            lookup = Lookup(egress.reactor, egress.poller, egress.policy, egress.servers(), query)
            self._lookups.add(lookup)
            lookup.start(partial(self._answered, lookup, query))

    def _answered(self, lookup: Lookup, query: bytes, answer: bytes) -> None:
        if lookup in self._lookups:
            self._lookups.remove(lookup)
            self._forget(1)
            self._names.note(query, answer)
            self._reply(answer)
            self._look_up()

    def _forget(self, count: int) -> None:
        lookups = self._egress.lookups
        lookups[self._peer] -= count
        if not lookups[self._peer]:
            del lookups[self._peer]

    def _reply(self, answer: bytes) -> None:
        self.transport.write(dns.framed(answer))
