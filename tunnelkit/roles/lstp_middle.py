"""The LSTP middle as a role: its ports, and the factory that pairs what comes in (L1, L12)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from tunnelkit.core.lstp.middle import Lobby
from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IRoleService, ISteered
from tunnelkit.net.dial.via import Via
from tunnelkit.net.lstp.middle import LstpMiddleFactory, MiddleStatus
from tunnelkit.net.role_status import RoleStatus
from tunnelkit.net.sockets.descriptors import for_strangers
from tunnelkit.net.sockets.tcp import Listener, format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.traffic import Traffic
from tunnelkit.policy.acl import Policy
from tunnelkit.policy.destination import parse_host_port, parse_open_listen
from tunnelkit.policy.rules import parse_network
from tunnelkit.policy.settings import Settings
from tunnelkit.policy.special import Network
from tunnelkit.roles.configure import admission_token, count, proxies, to_name
from tunnelkit.roles.end import GRACE
from tunnelkit.roles.ready import tell_ready
from tunnelkit.roles.thrown_out import tell_thrown_out
from tunnelkit.roles.way_out import WayOut

_log = Logger()


@attrs.frozen
class LstpMiddleConfig:
    """What a middle is told. No key: it cannot read what passes."""

    listen: tuple[tuple[str, int], ...]
    """Address and port of each listener; port 0 is any free one."""
    name: str
    """Its name in topologies."""
    admit: tuple[Network, ...] = ()
    """Networks that ends may come from; empty: all."""
    admission_token: str | None = attrs.field(default=None, repr=False)
    """What an end has to show; None: nothing."""
    next_middle: tuple[str, int] | None = None
    """Host and port of the next middle of a cascade."""
    via: Via = ()
    """The way to it."""
    max_waiting: int = 10_000
    """Ends that wait at once."""
    max_waiting_per_address: int = 10_000
    """Of those, from one address."""
    max_in_setup: int = 200
    """Connections at once whose setup is not complete."""


@attrs.frozen(kw_only=True)
class LstpMiddleStatus(MiddleStatus, RoleStatus):
    """What a middle is doing, at one moment."""

    listening: str
    """Where, and where it looks for partners that are not here."""


@implementer(IRoleService, ISteered)
class LstpMiddleService(Service):
    """One running middle; its ports are bound when it is made (`ConfigError` if one is taken)."""

    def __init__(self, reactor: Any, name: str, config: LstpMiddleConfig) -> None:
        """``name``: the role for the ready line; empty: part of another role, which says so."""
        self._reactor = reactor
        self._role = name
        self.grace = GRACE
        """See `IRoleService`."""
        lobby = Lobby(
            config.name,
            format_address(config.listen[0]),
            admission=config.admission_token,
            cascades=config.next_middle is not None,
            # A descriptor each: the rest is for pairs.
            max_waiting=min(config.max_waiting, for_strangers() // 2),
            max_waiting_per_address=config.max_waiting_per_address,
            max_in_setup=min(config.max_in_setup, for_strangers() // 4),
        )
        way = None
        if config.next_middle is not None:
            way = WayOut(reactor, config.via, "next middle", config.next_middle)
        self.factory = LstpMiddleFactory(reactor, lobby, admit=config.admit, next_middle=way)
        self._next = f"; {way.describe()}" if way is not None else ""
        self._listeners: list[Listener] = []
        own = Policy().own
        try:
            for address, port in config.listen:
                self._listeners.append(self.factory.listen(own(address, port, "tcp")))
        except ConfigError:
            self._close_listeners()
            raise
        # Where the port was to be any free one, it is known only now.
        lobby.address = self._listeners[0].address

    @property
    def addresses(self) -> str:
        """Where it listens, and where partners are looked for that are not here."""
        return ", ".join(listener.address for listener in self._listeners) + self._next

    def commands(self) -> dict[str, Callable[[], dict[str, object]]]:
        """What a running middle can be told (row O2)."""
        return {}

    def status(self) -> LstpMiddleStatus:
        """What the middle is doing."""
        found = attrs.asdict(self.factory.status())
        return LstpMiddleStatus(role=self._role, listening=self.addresses, **found)

    def traffic(self) -> Iterator[Traffic]:
        """See `ISteered`."""
        return self.factory.traffic()

    def end_one(self, number: str) -> bool:
        """See `ISteered`."""
        return self.factory.end_one(number)

    def throw_out(self, who: str, seconds: float) -> int:
        """See `ISteered`: by address, since a middle can prove no name."""
        ended = self.factory.throw_out(who, seconds)
        tell_thrown_out(who, seconds, ended)
        return ended

    def startService(self) -> None:
        """Say that the middle is there."""
        Service.startService(self)
        if self._role:
            tell_ready(self._role, f"listening on {self.addresses}")

    def stopService(self) -> Deferred[None]:
        """Take nobody new; fires when the pairs have ended, after ``grace`` seconds at most."""
        Service.stopService(self)
        self._close_listeners()
        drained = self.factory.shut_down()
        timer = Timer(self._reactor, self.factory.abort_pairs)
        timer.start(self.grace)

        def done(result: None) -> None:
            timer.stop()

        return drained.addCallback(done)

    def reload(self, config: LstpMiddleConfig) -> list[str]:
        """Take over who may come in from now on; what has changed, in words (row O3)."""
        changes = []
        if self.factory.admission.networks != config.admit:
            self.factory.admission.networks = config.admit
            networks = ", ".join(map(str, config.admit)) or "everywhere"
            changes.append(f"ends are admitted from {networks}")
        if self.factory.lobby.admission != config.admission_token:
            self.factory.lobby.admission = config.admission_token
            changes.append("another admission token")
        return changes

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()


config_class = LstpMiddleConfig


def configure(settings: Settings, starting: bool) -> LstpMiddleConfig:
    """See `IProxyRole`."""
    settings.required("listen", "[HOST:]PORT on which ends are awaited, e.g. 0.0.0.0:7000")
    name, following = settings.one("name"), settings.one("next")
    if following is None and settings.all("via"):
        settings.all("via")[0].wrong("there is nowhere to go", "--next HOST:PORT as well")
    return LstpMiddleConfig(
        listen=tuple(given.parsed(parse_open_listen) for given in settings.all("listen")),
        name=name.parsed(to_name) if name else to_name(socket.gethostname() or "middle"),
        admit=tuple(given.parsed(parse_network) for given in settings.all("admit")),
        admission_token=admission_token(settings),
        next_middle=following.parsed(parse_host_port) if following else None,
        via=proxies(settings),
        max_waiting=count(settings, "max-waiting", 10_000, 1, 1_000_000),
        max_waiting_per_address=count(settings, "max-waiting-per-address", 10_000, 1, 1_000_000),
        max_in_setup=count(settings, "max-in-setup", 200, 1, 100_000),
    )


def make_service(reactor: Any, config: LstpMiddleConfig) -> LstpMiddleService:
    """See `IProxyRole`."""
    return LstpMiddleService(reactor, "lstp-middle", config)
