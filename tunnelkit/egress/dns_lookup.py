"""One DNS question on its way through this machine's resolvers (row F4, rule X18).

It goes out from a fresh UDP socket that takes datagrams from the resolver
only, with a fresh id; an answer that does not repeat the question is not
looked at. A truncated answer is asked for again over TCP.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections import deque
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from tunnelkit.core.decision import Decision
from tunnelkit.errors import ConfigError, DialError, RemoteProtocolError
from tunnelkit.local.stream import SocketStream
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import connect_tcp
from tunnelkit.net.sockets.udp import connect_udp
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import TCP, UDP, split_host_port, to_port
from tunnelkit.policy.printable import printable
from tunnelkit.wire import dns

LIMIT = 4.5
"""Seconds for one question, a little less than the asking side waits."""
PATIENCE = 1.5
"""Seconds for one resolver, before the next one is asked as well."""
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


class Lookup:
    """One question on its way through the resolvers."""

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        policy: PolicyHolder,
        servers: Sequence[Server],
        query: bytes,
    ) -> None:
        self.poller = poller
        self._reactor = reactor
        self._policy = policy
        self._query = query
        self._own_id = dns.id_of(query)
        self._servers = deque(servers)
        self._deadline: float = reactor.seconds() + LIMIT
        self._tries: list[_UdpTry | _TcpTry] = []
        self._timer: IDelayedCall | None = None
        self._fallback: bytes | None = None
        self._answered: Callable[[bytes], object] | None = None

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
        left = self._deadline - self._reactor.seconds()
        if left <= 0 or (not self._servers and not self._tries):
            self._finish(self._fallback)
            return
        wait = left
        if self._servers:
            self._try(self._servers.popleft(), len(self._query) > LARGEST_UDP_QUERY)
            wait = min(left, PATIENCE) if self._servers else left
        if self._answered is not None and self._timer is None:
            self._timer = self._reactor.callLater(wait, self._next)

    def _try(self, server: Server, over_tcp: bool) -> None:
        query = dns.with_id(self._query, secrets.randbits(16))
        try:
            if over_tcp:
                left = max(0.0, self._deadline - self._reactor.seconds())
                # The owner of this machine has configured its resolvers; the service is the rule.
                decision = self._policy.own(*server, TCP, "connect")
                one = _TcpTry(self, server, query)
                self._tries.append(one)
                one.start(decision, left)
            else:
                decision = self._policy.own(*server, UDP, "sendto")
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
        self._timer = self._reactor.callLater(0, self._next)

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

    def __init__(self, lookup: Lookup, server: Server, query: bytes, sock: socket.socket) -> None:
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

    def __init__(self, lookup: Lookup, server: Server, query: bytes) -> None:
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
