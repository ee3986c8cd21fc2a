"""The far side of DNS: channels to the service ``@dns``, for whom a rule allows it (row F4)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.egress.dial import Egress, EgressRequest
from tunnelkit.egress.dns_lookup import Lookup, Server, SystemServers
from tunnelkit.errors import Code, NotAuthorized, RemoteProtocolError
from tunnelkit.net.channels.protocol_side import ChannelTransport, TunnelAddress
from tunnelkit.policy.destination import SERVICE, UDP, Destination
from tunnelkit.wire import dns

_log = Logger()

LOOKUPS = 512
"""Questions under way at once, of all peers; more fail."""
LOOKUPS_PER_CHANNEL = 128
"""Of these, of one channel; more wait in it."""
CHANNELS_PER_PEER = 16


class DnsEgress:
    """Answers requests for ``service:@dns`` at ``egress``, if a rule allows that service to the
    peer. ``servers`` are asked in order; empty: those of this machine, see `SystemServers`."""

    def __init__(self, egress: Egress, servers: Sequence[Server] = ()) -> None:
        self.reactor = egress.reactor
        self.poller = egress.poller
        self.policy = egress.policy
        self.lookups = 0
        self._servers: Callable[[], Sequence[Server]] = (
            (lambda: servers) if servers else SystemServers()
        )
        self._channels: Counter[str] = Counter()
        egress.answer_with(f"{SERVICE}:@dns", self.answer)

    def answer(self, request: EgressRequest, destination: Destination) -> None:
        """A `tunnelkit.egress.dial.Handler`."""
        if not self.allowed(request.peer):
            request.refuse(Code.NOT_ALLOWED, "not allowed there")
        elif self._channels[request.peer] >= CHANNELS_PER_PEER:
            request.refuse(Code.LIMIT, "too many requests at once")
        else:
            self._channels[request.peer] += 1
            near, far = TunnelAddress("", str(destination)), TunnelAddress(request.peer, "")
            transport = ChannelTransport(_Asking(self, request.peer), near, far)
            transport.begin()
            request.attach(transport, "")

    def allowed(self, peer: str) -> bool:
        """Whether the policy of this moment lets ``peer`` ask."""
        try:
            self.policy.authorize(peer, "connect", SERVICE, "@dns", 0)
        except NotAuthorized as error:
            _log.warn("Not allowed: {why}", why=str(error))
            return False
        return True

    def gone(self, peer: str) -> None:
        """A channel of ``peer`` is over."""
        self._channels[peer] -= 1
        if not self._channels[peer]:
            del self._channels[peer]

    def servers(self) -> Sequence[Server]:
        """Resolvers to ask; never this process, which would ask the other end in turn."""
        listeners = self.policy.listeners
        return [
            (address, port)
            for address, port in self._servers()
            if not listeners.may_have(UDP, port)
            or not listeners.covers(UDP, ip_address(address.partition("%")[0]), port)
        ]


@implementer(IHalfCloseableProtocol)
class _Asking(Protocol):
    """One channel: queries come, answers go, in any order."""

    transport: ChannelTransport

    def __init__(self, egress: DnsEgress, peer: str) -> None:
        self._egress = egress
        self._peer = peer
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
        self._waiting.clear()
        for lookup in list(self._lookups):
            lookup.stop()
        self._egress.lookups -= len(self._lookups)
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
        if not egress.allowed(self._peer):
            self._reply(dns.failure(query, dns.REFUSED))
        elif egress.lookups >= LOOKUPS:
            self._reply(dns.failure(query, dns.SERVFAIL))
        else:
            egress.lookups += 1
            lookup = Lookup(egress.reactor, egress.poller, egress.policy, egress.servers(), query)
            self._lookups.add(lookup)
            lookup.start(partial(self._answered, lookup))

    def _answered(self, lookup: Lookup, answer: bytes) -> None:
        if lookup in self._lookups:
            self._lookups.remove(lookup)
            self._egress.lookups -= 1
            self._reply(answer)
            self._look_up()

    def _reply(self, answer: bytes) -> None:
        self.transport.write(dns.framed(answer))
