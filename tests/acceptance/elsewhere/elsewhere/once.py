"""A front end: ``--once [HOST:]PORT=DESTINATION``, with Twisted protocols."""

from __future__ import annotations

import socket
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import ITunnel
from tunnelkit.local.listening import ListeningService
from tunnelkit.policy.settings import Settings


@attrs.frozen
class Config:
    """A port, and where it leads."""

    port: int
    destination: str
    greeting: str


def configure(settings: Settings) -> list[Config]:
    """See `IFrontEnd`."""
    given = settings.one("once-greeting")
    greeting = given.text if given is not None else ""
    return [
        Config(port, destination, greeting)
        for port, destination in (value.parsed(_parse) for value in settings.all("once"))
    ]


def _parse(text: str) -> tuple[int, str]:
    port, equals, destination = text.partition("=")
    if not equals or not port.isdigit():
        raise ConfigError(f"'{text}': expected PORT=DESTINATION")
    return int(port), destination


def needs(config: Config) -> list[str]:
    """See `IFrontEnd`."""
    return [config.destination]


def make_service(reactor: Any, tunnel: ITunnel, policy: Any, config: Config) -> IService:
    """See `IFrontEnd`."""
    factory = Factory.forProtocol(lambda: Client(tunnel, config))
    factory.noisy = False

    def accepted(sock: socket.socket, client: tuple[str, int]) -> None:
        reactor.adoptStreamConnection(sock.fileno(), socket.AF_INET, factory)
        sock.close()

    service: Any = ListeningService(reactor, policy, "tcp", "127.0.0.1", config.port, accepted)
    service.description = f"once {service.address} to {config.destination}"
    return IService(service)


class Client(Protocol):
    """Somebody who has come in."""

    transport: Any

    def __init__(self, tunnel: ITunnel, config: Config) -> None:
        self._tunnel = tunnel
        self._config = config
        self._far: Any = None

    def connectionMade(self) -> None:
        """Open the channel."""
        self.transport.pauseProducing()
        endpoint: Any = self._tunnel.channel_to(self._config.destination)
        far = Factory.forProtocol(lambda: Far(self.transport))
        endpoint.connect(far).addCallbacks(self._opened, lambda _: self.transport.loseConnection())

    def _opened(self, far: Any) -> None:
        self._far = far
        self.transport.write(self._config.greeting.encode())
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """On to the far side."""
        self._far.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The channel ends too."""
        if self._far is not None:
            self._far.transport.loseConnection()


class Far(Protocol):
    """The channel."""

    def __init__(self, near: Any) -> None:
        self._near = near

    def dataReceived(self, data: bytes) -> None:
        """Back to the client."""
        self._near.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client goes too."""
        self._near.loseConnection()
