"""DTLS servers and clients in one process, joined by a network that the test owns."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tunnelkit.net.tls.dtls_client import DtlsClient
from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.net.tls.dtls_server import DtlsServer
from tunnelkit.testing import ThrowawayCA, throwaway_ca

DEVICE_CA: ThrowawayCA = throwaway_ca()


class Echo(Protocol):
    """Sends back what it gets; remembers how it ended."""

    lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


class Echoes(Factory):
    """The server's side."""

    def __init__(self) -> None:
        self.made: list[Echo] = []
        self.refuses = False

    def buildProtocol(self, addr: IAddress | None) -> Echo | None:
        if self.refuses:
            return None
        echo = Echo()
        self.made.append(echo)
        return echo


class Talker(Protocol):
    """The client's side."""

    def __init__(self) -> None:
        self.up = False
        self.lost: Failure | None = None
        self.heard: list[bytes] = []

    def connectionMade(self) -> None:
        self.up = True

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


def server_context() -> DtlsContext:
    """Of a proxy named ``proxy``."""
    return DtlsContext(DEVICE_CA.credentials("proxy"))


def client_context(name: str | None = None, ca: ThrowawayCA = DEVICE_CA) -> DtlsContext:
    """Of a device; with a certificate if it has a name."""
    return DtlsContext(None if name is None else ca.credentials(name), [DEVICE_CA.certificate])


class World:
    """Many devices at one server, without loss: a datagram arrives when it is sent."""

    def __init__(self, reactor: Any, **limits: Any) -> None:
        self.reactor = reactor
        self.echoes = Echoes()
        self.server = DtlsServer(reactor, server_context(), self.echoes, **limits)
        self.devices: dict[tuple[str, int], Any] = {}
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        """What the server has sent."""
        self.arrived: list[bytes] = []
        """What has come to it."""
        self.mute = False
        """Nothing that the server sends arrives."""
        wire: Any = _Wire(self.write)
        self.server.makeConnection(wire)

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append((data, address))
        device = self.devices.get(address)
        if device is not None and not self.mute:
            self.reactor.callLater(0, device.datagramReceived, data, SERVER)

    def device(
        self,
        address: tuple[str, int],
        context: DtlsContext | None = None,
        session: SSL.Session | None = None,
    ) -> tuple[DtlsClient, Talker]:
        talker = Talker()
        client = DtlsClient(self.reactor, context or client_context(), talker, SERVER, session)
        self.devices[address] = client
        wire: Any = _Wire(lambda data, _: self.arrives(data, address))
        client.makeConnection(wire)
        return client, talker

    def arrives(self, data: bytes, address: tuple[str, int]) -> None:
        self.arrived.append(data)
        self.reactor.callLater(0, self.server.datagramReceived, data, address)


SERVER = ("192.0.2.200", 5684)


class _Wire:
    def __init__(self, write: Any) -> None:
        self.write = write

    def getHost(self) -> None:
        return None
