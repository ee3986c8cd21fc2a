"""The far side of DNS: service ``@dns``, answered by this machine's resolvers (row F4, rule X18).

Each question goes out from a fresh UDP socket that takes datagrams from the
resolver only, with a fresh id; an answer that does not repeat the question is
not looked at. A truncated answer is asked for again over TCP.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.core.types import Decision
from tunnelkit.errors import Code, ConfigError, DialError, NotAuthorized, RemoteProtocolError
from tunnelkit.frontends.egress import ChannelRequest, Egress
from tunnelkit.frontends.socket_stream import SocketStream
from tunnelkit.net.poll import Poller
from tunnelkit.net.protocol_side import ChannelTransport, TunnelAddress
from tunnelkit.net.sockets import connect_tcp
from tunnelkit.net.udp_sockets import connect_udp
from tunnelkit.policy.destination import (
    SERVICE,
    TCP,
    UDP,
    Destination,
    split_host_port,
    to_port,
)
from tunnelkit.policy.printable import printable
from tunnelkit.wire import dns

_log = Logger()

LIMIT = 4.5
"""Seconds for one question, a little less than the asking side waits."""
PATIENCE = 1.5
"""Seconds for one resolver, before the next one is asked as well."""
LOOKUPS = 512
"""Questions under way at once, of all peers; more fail."""
LOOKUPS_PER_CHANNEL = 128
"""Of these, of one channel; more wait in it."""
CHANNELS_PER_PEER = 16
LARGEST_UDP_QUERY = 1232
RESOLV_CONF = "/etc/resolv.conf"
PORT = 53
MOST_SERVERS = 3

Server = tuple[str, int]
"""Address and port of a resolver."""


class SystemServers:
    """The ``nameserver`` lines of a resolv.conf, read again when the file changes."""

    def __init__(self, path: str = RESOLV_CONF) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._servers: tuple[Server, ...] = ()

    def __call__(self) -> Sequence[Server]:
        """Resolvers in order; this machine's own if there are none (see resolv.conf(5))."""
        try:
            state = os.stat(self._path)
            seen = (state.st_mtime_ns, state.st_ino)
            if seen != self._seen:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._servers = tuple(_nameservers(file.read(1 << 16)))
                self._seen = seen
        except OSError:
            self._seen, self._servers = None, ()
        return self._servers or (("127.0.0.1", PORT),)


def _nameservers(text: str) -> list[Server]:
    servers = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            servers.append((words[1], PORT))
    return servers[:MOST_SERVERS]


def parse_server(text: str) -> Server:
    """``ADDRESS[:PORT]`` of a resolver; IPv6 in brackets before a port. Raises `ConfigError`."""
    try:
        return str(ip_address(text)), PORT
    except ValueError:
        pass
    host, port = split_host_port(text)
    try:
        return str(ip_address(host)), to_port(port)
    except ValueError:
        raise ConfigError(
            f"'{printable(text, 80)}' is not a resolver: expected ADDRESS or ADDRESS:PORT"
        ) from None


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

    def answer(self, request: ChannelRequest, destination: Destination) -> None:
        """A `tunnelkit.frontends.egress.Handler`."""
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

    transport: Any

    def __init__(self, egress: DnsEgress, peer: str) -> None:
        self._egress = egress
        self._peer = peer
        self._messages = dns.Messages()
        self._waiting: deque[bytes] = deque()
        self._lookups: set[_Lookup] = set()
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
            lookup = _Lookup(egress, query)
            self._lookups.add(lookup)
            lookup.start(partial(self._answered, lookup))

    def _answered(self, lookup: _Lookup, answer: bytes) -> None:
        if lookup in self._lookups:
            self._lookups.remove(lookup)
            self._egress.lookups -= 1
            self._reply(answer)
            self._look_up()

    def _reply(self, answer: bytes) -> None:
        self.transport.write(dns.framed(answer))


class _Lookup:
    """One question on its way through the resolvers."""

    def __init__(self, egress: DnsEgress, query: bytes) -> None:
        self._egress = egress
        self._query = query
        self._own_id = dns.id_of(query)
        self._servers = deque(egress.servers())
        self._deadline: float = egress.reactor.seconds() + LIMIT
        self._tries: list[_UdpTry | _TcpTry] = []
        self._timer: IDelayedCall | None = None
        self._fallback: bytes | None = None
        self._answered: Callable[[bytes], object] | None = None

    @property
    def poller(self) -> Poller:
        """For the tries."""
        return self._egress.poller

    def start(self, answered: Callable[[bytes], object]) -> None:
        """Ask the first resolver; ``answered`` is called once, maybe at once."""
        self._answered = answered
        self._next()

    def stop(self) -> None:
        """Give up, without an answer."""
        self._answered = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for one in self._tries:
            one.stop()

    def _next(self) -> None:
        self._timer = None
        left = self._deadline - self._egress.reactor.seconds()
        if left <= 0 or (not self._servers and not self._tries):
            self._finish(self._fallback)
            return
        wait = left
        if self._servers:
            self._try(self._servers.popleft(), len(self._query) > LARGEST_UDP_QUERY)
            wait = min(left, PATIENCE) if self._servers else left
        if self._answered is not None and self._timer is None:
            self._timer = self._egress.reactor.callLater(wait, self._next)

    def _try(self, server: Server, over_tcp: bool) -> None:
        query = dns.with_id(self._query, secrets.randbits(16))
        try:
            if over_tcp:
                left = max(0.0, self._deadline - self._egress.reactor.seconds())
                # The owner of this machine has configured its resolvers; the service is the rule.
                decision = self._egress.policy.own(*server, TCP, "connect")
                one = _TcpTry(self, server, query)
                self._tries.append(one)
                one.start(decision, left)
            else:
                decision = self._egress.policy.own(*server, UDP, "sendto")
                self._tries.append(_UdpTry(self, server, query, connect_udp(decision)))
        except DialError:
            self.failed(None)

    def failed(self, one: _UdpTry | _TcpTry | None) -> None:
        """A try has come to nothing: go on with the next resolver now."""
        if one in self._tries:
            self._tries.remove(one)
        if self._answered is None:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._egress.reactor.callLater(0, self._next)

    def received(self, one: _UdpTry | _TcpTry, server: Server, answer: bytes) -> None:
        """A resolver has answered."""
        self._tries.remove(one)
        if dns.is_truncated(answer) and isinstance(one, _UdpTry):
            self._fallback = answer
            self._try(server, True)
        elif answer[3] & 0x0F in (dns.SERVFAIL, dns.REFUSED) and (self._servers or self._tries):
            self._fallback = answer
            self.failed(None)
        else:
            self._finish(answer)

    def _finish(self, answer: bytes | None) -> None:
        answered = self._answered
        self.stop()
        if answered is None:
            return
        if answer is None:
            answered(dns.failure(self._query, dns.SERVFAIL))
        else:
            answered(dns.with_id(answer, self._own_id))


class _UdpTry:
    """A question to one resolver by datagram."""

    def __init__(self, lookup: _Lookup, server: Server, query: bytes, sock: socket.socket) -> None:
        self._lookup = lookup
        self._server = server
        self._query = query
        self._socket = sock
        lookup.poller.add(sock.fileno(), self, True, False)
        try:
            sock.send(query)
        except OSError as error:
            self.stop()
            raise DialError(str(error)) from None

    def stop(self) -> None:
        """Close."""
        if self._socket.fileno() >= 0:
            self._lookup.poller.remove(self._socket.fileno())
            self._socket.close()

    def readable(self) -> None:
        """An answer, or word that nobody is there."""
        try:
            answer = self._socket.recv(dns.MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            self.stop()
            self._lookup.failed(self)
            return
        if dns.answers(answer, self._query):
            self.stop()
            self._lookup.received(self, self._server, answer)

    def writable(self) -> None:
        """Never asked for."""


class _TcpTry:
    """A question to one resolver over TCP."""

    def __init__(self, lookup: _Lookup, server: Server, query: bytes) -> None:
        self._lookup = lookup
        self._server = server
        self._query = query
        self._messages = dns.Messages()
        self._stream: SocketStream | None = None
        self._connecting: Deferred[socket.socket] | None = None

    def start(self, decision: Decision, limit: float) -> None:
        """Connect, then ask."""
        self._connecting = connect_tcp(self._lookup.poller, decision, limit)
        self._connecting.addCallbacks(self._connected, self._failed)

    def stop(self) -> None:
        """Close."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if self._stream is not None:
            self._stream.close()

    def _connected(self, sock: socket.socket) -> None:
        self._connecting = None
        self._stream = SocketStream(self._lookup.poller, sock, self)
        self._stream.write(dns.framed(self._query))

    def _failed(self, failure: Failure) -> None:
        if self._connecting is not None:
            self._connecting = None
            self._lookup.failed(self)

    def stream_received(self, data: bytes) -> None:
        """The answer, whole or in pieces."""
        try:
            messages = self._messages.receive(data)
        except RemoteProtocolError:
            self.stream_ended()
            return
        for answer in messages:
            if dns.answers(answer, self._query):
                self.stop()
                self._lookup.received(self, self._server, answer)
                return

    def stream_ended(self) -> None:
        """The resolver has closed without an answer."""
        self.stop()
        self._lookup.failed(self)

    def stream_lost(self) -> None:
        """The same, less politely."""
        self._lookup.failed(self)

    def stream_drained(self) -> None:
        """The query is so short that nothing waits for this."""
