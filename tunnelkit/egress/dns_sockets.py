"""Questions to this machine's resolvers: the sockets of an `Asker` (rows F4, P2; rule X18).

Each try has a UDP socket of its own, with a port that the kernel draws, which
takes datagrams from the resolver asked only; or a TCP connection.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tunnelkit.core.decision import Decision
from tunnelkit.core.dns_exchange import Ask, Asker
from tunnelkit.errors import DialError, RemoteProtocolError
from tunnelkit.local.stream import SocketStream
from tunnelkit.net.sockets.connect import connect_stream
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.sockets.udp import connect_udp
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import TCP, UDP
from tunnelkit.wire import dns

CONNECT_LIMIT = 10.0
"""Seconds for a connection to a resolver; the question has a deadline of its own."""
DATAGRAMS_PER_EVENT = 16


class Asking:
    """Does what ``asker`` wants until it is over; ``done`` is then called once, maybe at once.

    The owner of this machine has configured its resolvers; whoever makes an
    asker for somebody else has asked the rules.
    """

    def __init__(
        self, reactor: Any, poller: Poller, policy: PolicyHolder, done: Callable[[], object]
    ) -> None:
        self.poller = poller
        self._reactor = reactor
        self._policy = policy
        self._done: Callable[[], object] | None = done
        self._asker: Asker | None = None
        self._tries: dict[int, _UdpTry | _TcpTry] = {}
        self._timer = Timer(reactor, self._time_is_up)
        self._working = False

    def start(self, asker: Asker) -> None:
        """Begin."""
        self._asker = asker
        self._work()

    def stop(self) -> None:
        """Give up; nothing is called any more."""
        self._done = None
        self._asker = None
        self._timer.stop()
        for one in list(self._tries.values()):
            one.stop()
        self._tries.clear()

    def failed(self, number: int) -> None:
        """A try has come to nothing."""
        if self._asker is not None:
            self._asker.failed(number, self._reactor.seconds())
            self._work()

    def received(self, number: int, message: bytes) -> None:
        """Something has come at a try's socket."""
        if self._asker is not None:
            self._asker.received(number, message, self._reactor.seconds())
            self._work()

    def _time_is_up(self) -> None:
        if self._asker is not None:
            self._asker.deadline_passed(self._reactor.seconds())
            self._work()

    def _work(self) -> None:
        if self._working:
            return  # a try that failed at once: the loop below goes on with it
        self._working = True
        while self._asker is not None and (commands := self._asker.commands()):
            for command in commands:
                if isinstance(command, Ask):
                    self._ask(command)
                elif (one := self._tries.pop(command.number, None)) is not None:
                    one.stop()
        self._working = False
        asker, done = self._asker, self._done
        if asker is None or done is None:
            return
        deadline = asker.next_deadline()
        if deadline is None:
            self.stop()
            done()
        else:
            self._timer.start_at(deadline)

    def _ask(self, ask: Ask) -> None:
        try:
            if ask.over_tcp:
                stream = self._tries[ask.number] = _TcpTry(self, ask)
                stream.start(self._policy.own(*ask.server, TCP, "connect"))
            else:
                sock = connect_udp(self._policy.own(*ask.server, UDP, "sendto"))
                self._tries[ask.number] = _UdpTry(self, ask, sock)
        except DialError:
            self.failed(ask.number)


class _UdpTry:
    """A question to one resolver by datagram."""

    def __init__(self, owner: Asking, ask: Ask, sock: socket.socket) -> None:
        self._owner = owner
        self._number = ask.number
        self._socket = sock
        owner.poller.add(sock.fileno(), self, True, False)
        try:
            sock.send(ask.message)
        except OSError as error:
            self.stop()
            raise DialError(str(error)) from None

    def stop(self) -> None:
        """Close."""
        if self._socket.fileno() >= 0:
            self._owner.poller.remove(self._socket.fileno())
            self._socket.close()

    def readable(self) -> None:
        """An answer, or word that nobody is there."""
        for _ in range(DATAGRAMS_PER_EVENT):
            try:
                message = self._socket.recv(dns.MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                self._owner.failed(self._number)
                return
            self._owner.received(self._number, message)
            if self._socket.fileno() < 0:
                return

    def writable(self) -> None:
        """Never asked for."""


class _TcpTry:
    """A question to one resolver over TCP."""

    def __init__(self, owner: Asking, ask: Ask) -> None:
        self._owner = owner
        self._ask = ask
        self._messages = dns.Messages()
        self._stream: SocketStream | None = None
        self._connecting: Deferred[socket.socket] | None = None
        self._over = False

    def start(self, decision: Decision) -> None:
        """Connect, then ask."""
        self._connecting = connect_stream(self._owner.poller, decision, CONNECT_LIMIT)
        self._connecting.addCallbacks(self._connected, self._failed)

    def stop(self) -> None:
        """Close."""
        self._over = True
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if self._stream is not None:
            self._stream.close()

    def _connected(self, sock: socket.socket) -> None:
        self._connecting = None
        self._stream = SocketStream(self._owner.poller, sock, self)
        self._stream.write(dns.framed(self._ask.message))

    def _failed(self, failure: Failure) -> None:
        self._fail()

    def _fail(self) -> None:
        if not self._over:
            self._over = True
            self._owner.failed(self._ask.number)

    def stream_received(self, data: bytes) -> None:
        """The answer, whole or in pieces."""
        try:
            messages = self._messages.receive(data)
        except RemoteProtocolError:
            self._fail()
            return
        for message in messages:
            if not self._over:
                self._owner.received(self._ask.number, message)

    def stream_ended(self) -> None:
        """The resolver has closed without an answer."""
        self._fail()

    def stream_lost(self) -> None:
        """The same, less politely."""
        self._fail()

    def stream_drained(self) -> None:
        """The query is so short that nothing waits for this."""
