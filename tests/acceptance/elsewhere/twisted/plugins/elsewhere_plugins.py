"""What this package adds to tunnelkit: a front end, a rendezvous, a channel protocol, a role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.protocol import Factory, Protocol
from twisted.plugin import IPlugin
from zope.interface import implementer

from tunnelkit.errors import ConfigError
from tunnelkit.frontends.registry import FrontEndMaker
from tunnelkit.interfaces import IProxyRole, IRoleService
from tunnelkit.net.role_status import RoleStatus
from tunnelkit.policy.settings import Option, Settings
from tunnelkit.roles.registry import ProtocolMaker, RendezvousMaker


@attrs.frozen
class Config:
    """What it is told."""

    port: int
    word: str


@implementer(IPlugin, IProxyRole)
class WordRole:
    """See `IProxyRole`."""

    name = "elsewhere-word"
    description = "Says a word."
    synopsis = "--at PORT [options]"
    longdesc = "Says a word to all who connect."
    options = (
        Option("at", "PORT", "of 127.0.0.1 where it is said"),
        Option("word", "WORD", "to say (default: hello)", live=True),
    )
    config_class = Config

    def configure(self, settings: Settings, starting: bool) -> Config:
        """See `IProxyRole`."""
        word = settings.one("word")
        return Config(
            settings.required("at", "PORT to say it at").parsed(_to_port),
            word.text if word is not None else "hello",
        )

    def make_service(self, reactor: Any, config: Config) -> WordService:
        """See `IProxyRole`."""
        return WordService(reactor, config)


def _to_port(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"'{text}' is no port: expected a number")
    return int(text)


@attrs.frozen(kw_only=True)
class WordStatus(RoleStatus):
    """What the role says of itself."""

    word: str


@implementer(IRoleService)
class WordService(Service):
    """See `IRoleService`."""

    grace = 30.0

    def __init__(self, reactor: Any, config: Config) -> None:
        self.config = config
        factory = Factory.forProtocol(lambda: Says(self.config.word))
        self._port = reactor.listenTCP(config.port, factory, interface="127.0.0.1")

    def status(self) -> WordStatus:
        """See `IRoleService`."""
        return WordStatus(role="elsewhere-word", word=self.config.word)

    def commands(self) -> Mapping[str, Callable[[], Mapping[str, object]]]:
        """See `IRoleService`."""
        return {}

    def reload(self, config: Config) -> list[str]:
        """See `IRoleService`."""
        changes = [f"the word is {config.word}"] if config.word != self.config.word else []
        self.config = attrs.evolve(self.config, word=config.word)
        return changes

    def stopService(self) -> Any:
        """Say nothing any more."""
        Service.stopService(self)
        return self._port.stopListening()


class Says(Protocol):
    """One who has connected."""

    transport: Any

    def __init__(self, word: str) -> None:
        self._word = word

    def connectionMade(self) -> None:
        """Say it."""
        self.transport.write(self._word.encode())
        self.transport.loseConnection()


once = FrontEndMaker(
    "once",
    "elsewhere.once",
    (
        Option("once", "PORT=DESTINATION", "a way there", repeatable=True, live=True),
        Option("once-greeting", "TEXT", "that clients are greeted with", live=True),
    ),
)

board = RendezvousMaker(
    "board",
    "elsewhere.board",
    (
        Option("board", "PATH", "of the socket where the ends meet"),
        Option("board-keeper", "", "be the one that listens there"),
    ),
)

frames = ProtocolMaker("frames", "elsewhere.frames")

word = WordRole()
