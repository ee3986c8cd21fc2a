"""DNS: a port here whose questions the far side's resolver answers (row F4).

    UDP, TCP -> `tunnelkit.frontends.dns.questions` -> channel to ``service:@dns``

Ordinary questions are cached for as long as the records of the answer allow;
everything else (updates, signed messages) passes as it is.
"""

from __future__ import annotations

import socket
from collections import deque
from functools import partial
from typing import Any

import attrs
from twisted.application.service import IService, MultiService, Service
from twisted.logger import Logger

from tunnelkit.core.dns_exchange import Server
from tunnelkit.egress.resolver_files import parse_server
from tunnelkit.errors import ConfigError, RemoteProtocolError
from tunnelkit.frontends.dns.link import OffersChannels
from tunnelkit.frontends.dns.questions import Questions
from tunnelkit.local.listening import ListeningService
from tunnelkit.local.stream import SocketStream
from tunnelkit.net.sockets.datagram_port import Address, DatagramPort
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import BindError, format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.sockets.udp import bind_udp
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import DNS_SERVICE, TCP, UDP, Destination, parse_listen, to_host
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings
from tunnelkit.wire import dns

_log = Logger()

LARGEST_UDP = 4096
"""Bytes of an answer over UDP, whatever the client says it takes."""
CLIENTS = 256
"""TCP clients at once; the one that has been there for longest has to go."""
IDLE = 10.0
"""Seconds after which a TCP client that asks nothing is sent away."""
ASKED_AT_ONCE = 64
"""Questions of one TCP client that are being answered at a time."""
_ANY_PORT_TRIES = 16


@attrs.frozen
class DnsConfig:
    """Where to listen, for UDP and TCP, and for which names."""

    address: str
    port: int
    suffixes: tuple[str, ...] = ()
    """Domains whose names the far side answers for; empty: all names."""
    servers: tuple[Server, ...] = ()
    """Resolvers for the other names; empty: those of this machine."""


class Dns(MultiService):
    """One DNS port: TCP and UDP of the same number."""

    def __init__(
        self, reactor: Any, tunnel: OffersChannels, policy: PolicyHolder, config: DnsConfig
    ) -> None:
        MultiService.__init__(self)
        self._questions = Questions(reactor, tunnel, policy, config.suffixes, config.servers)
        tries = 1 if config.port else _ANY_PORT_TRIES
        while True:
            tcp = _TcpPort(reactor, self._questions, policy, config)
            port = int(tcp.address.rpartition(":")[2])
            try:
                udp = _UdpPort(reactor, self._questions, policy, config.address, port)
                break
            except BindError:
                tcp.stopService()
                tries -= 1
                if not tries:
                    raise
        self.description = f"dns {tcp.address}"
        """For the role's ready line."""
        IService(tcp).setServiceParent(self)
        IService(udp).setServiceParent(self)

    def stopService(self) -> Any:
        """Close the ports, and the channel."""
        self._questions.close()
        return MultiService.stopService(self)


class _UdpPort(Service):
    """The UDP half of a port; bound at once, like a `ListeningService`."""

    def __init__(
        self, reactor: Any, questions: Questions, policy: PolicyHolder, address: str, port: int
    ) -> None:
        self._questions = questions
        self._policy = policy
        sock = bind_udp(policy.own(address, port, UDP))
        self._port = DatagramPort(Poller.of(reactor), sock, self._received)
        self._own = (UDP, address, port)
        policy.listeners.add(*self._own)

    def startService(self) -> None:
        """Take datagrams."""
        Service.startService(self)
        self._port.start()

    def stopService(self) -> None:
        """Close the port."""
        Service.stopService(self)
        self._port.close()
        self._policy.listeners.discard(*self._own)

    def _received(self, query: bytes, client: Address) -> None:
        if not self._policy.admits(client[0]):
            _log.debug("DNS: not admitted: {client} (--from)", client=format_address(client))
            return
        try:
            question = dns.parse_question(query)
        except RemoteProtocolError:
            return  # an answer to it might start a quarrel between two servers
        reply = partial(self._send, client, query, question)
        self._questions.ask(query, question, reply, (client[0], dns.id_of(query)))

    def _send(self, client: Address, query: bytes, question: dns.Question, answer: bytes) -> None:
        if len(answer) > min(question.udp_size, LARGEST_UDP):
            answer = dns.truncated(answer, query)
        self._port.write(answer, client)


class _TcpPort(ListeningService):
    """The TCP half of a port."""

    def __init__(
        self, reactor: Any, questions: Questions, policy: PolicyHolder, config: DnsConfig
    ) -> None:
        ListeningService.__init__(
            self, reactor, policy, TCP, config.address, config.port, self._enter
        )
        self.reactor = reactor
        self.questions = questions
        self._clients: dict[_Client, None] = {}

    def stopService(self) -> None:
        """Close the port, and send everybody away."""
        ListeningService.stopService(self)
        for client in list(self._clients):
            client.leave()

    def _enter(self, sock: socket.socket, client: tuple[str, int]) -> None:
        if len(self._clients) >= CLIENTS:
            next(iter(self._clients)).leave()
        self._clients[_Client(self, sock)] = None

    def forget(self, client: _Client) -> None:
        """The client has gone."""
        self._clients.pop(client, None)


class _Client:
    """One TCP client."""

    def __init__(self, port: _TcpPort, sock: socket.socket) -> None:
        self._port = port
        self._messages = dns.Messages()
        self._waiting: deque[bytes] = deque()
        self._asked = 0
        self._ended = False
        self._idle = Timer(port.reactor, self.leave)
        self._idle.start(IDLE)
        self._stream = SocketStream(port.poller, sock, self)

    def leave(self) -> None:
        """Close; what has not been answered will not be."""
        self._forget()
        self._stream.close()

    # -- SocketStream -----------------------------------------------------

    def stream_received(self, data: bytes) -> None:
        """Queries, whole or in pieces."""
        try:
            self._waiting.extend(self._messages.receive(data))
        except RemoteProtocolError:
            self.leave()
            return
        self._ask()

    def stream_ended(self) -> None:
        """No more queries; the answers are still wanted."""
        self._ended = True
        self._finish_if_done()

    def stream_lost(self) -> None:
        """The client has gone."""
        self._forget()

    def stream_drained(self) -> None:
        """The client takes answers again."""
        self._ask()

    # -- questions --------------------------------------------------------

    def _ask(self) -> None:
        while (
            self._waiting
            and self._asked < ASKED_AT_ONCE
            and not self._stream.full
            and not self._stream.closed
        ):
            query = self._waiting.popleft()
            try:
                question = dns.parse_question(query)
            except RemoteProtocolError:
                self.leave()
                return
            self._asked += 1
            self._port.questions.ask(query, question, self._answer)
        if not self._stream.closed:
            if self._waiting:
                self._stream.pause()
            else:
                self._stream.resume()

    def _answer(self, answer: bytes) -> None:
        self._asked -= 1
        if self._stream.closed:
            return
        self._idle.start(IDLE)
        self._stream.write(dns.framed(answer))
        if self._waiting:
            self._port.poller.after_batch(self._ask)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._ended and not self._asked and not self._waiting:
            self._forget()
            self._stream.finish()

    def _forget(self) -> None:
        self._idle.stop()
        self._port.forget(self)


def configure(settings: Settings) -> list[DnsConfig]:
    """``--dns [HOST:]PORT[,suffix=DOMAIN]...``; see `IFrontEnd`."""
    servers = tuple(given.parsed(parse_server) for given in settings.all("dns-server"))
    found = [given.parsed(parse_dns) for given in settings.all("dns")]
    return [attrs.evolve(one, servers=servers) if one.suffixes else one for one in found]


def parse_dns(text: str) -> DnsConfig:
    """``[HOST:]PORT[,suffix=DOMAIN]...``. Raises `ConfigError`."""
    listen, *words = text.split(",")
    suffixes = []
    for word in words:
        key, equals, domain = word.partition("=")
        if key != "suffix" or not equals:
            raise ConfigError(
                f"'{printable(word, 80)}' is not known; expected [HOST:]PORT,suffix=DOMAIN"
            )
        host = to_host(domain.removeprefix(".").removesuffix("."))
        if Destination(TCP, host).is_address:
            raise ConfigError(f"'{printable(domain, 80)}' is an address; expected a domain")
        suffixes.append(host)
    return DnsConfig(*parse_listen(listen), tuple(suffixes))


def needs(config: DnsConfig) -> tuple[str, ...]:
    """See `IFrontEnd`."""
    return (DNS_SERVICE,)


def make_service(reactor: Any, tunnel: Any, policy: Any, config: DnsConfig) -> IService:
    """One server; raises `ConfigError` if its port is taken."""
    service: IService = Dns(reactor, tunnel, policy, config)
    return service
