"""The Usher gate as a role: takes portals in, or relays them further inside.

Rows U7, U9, U14, U17; what it asks of a gate of its own is in `usher_onward` (U18).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.internet.defer import Deferred, gatherResults

from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.egress.tls_relay import UsherRelay
from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IRendezvous
from tunnelkit.local.listening import ListeningService
from tunnelkit.net.channels.end import TunnelEnd
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.usher.meeting import GateRendezvous
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.destination import TCP, parse_host_port, parse_open_listen
from tunnelkit.policy.identity import Identity
from tunnelkit.policy.printable import printable
from tunnelkit.policy.rules import parse_network
from tunnelkit.policy.settings import Settings
from tunnelkit.policy.special import Network
from tunnelkit.roles import usher_onward
from tunnelkit.roles.configure import (
    USHER_SESSIONS,
    count,
    end_parts,
    require_rule,
    to_server_name,
)
from tunnelkit.roles.end import EndService
from tunnelkit.roles.end_config import EndConfig
from tunnelkit.roles.end_status import EndStatus
from tunnelkit.roles.usher_onward import OnwardConfig, OnwardTunnel
from tunnelkit.version import __version__

TUNNEL = "usher"
"""What logs call the tunnels: Usher gives them no name."""


@attrs.frozen(kw_only=True)
class UsherGateConfig(EndConfig):
    """What a gate is told."""

    listen: tuple[tuple[str, int], ...]
    """Address and port of each listener; port 0 is any free one."""
    admit: tuple[Network, ...] = ()
    """Networks that portals may come from; empty: all."""
    relays: Mapping[str, tuple[str, int]] = attrs.field(factory=dict)
    """Gates further inside: server name -> host and port."""
    bastions: tuple[Network, ...] = ()
    """Networks of bastions, which limit by themselves how many come through them (X26)."""
    onward: OnwardConfig | None = None
    """The next gate, and what is asked of it."""
    max_sessions: int = 10_000
    """Sessions that one portal may have open at once."""


class UsherGateService(EndService):
    """One running gate."""

    dials = False

    def __init__(self, reactor: Any, role: str, config: UsherGateConfig) -> None:
        mux = UsherConfig(
            max_sessions=config.max_sessions,
            keepalive=config.keepalive,
            software=f"tunnelkit/{__version__}",
            name=config.identity.name,
        )
        self._next = config.onward
        self._onward: OnwardTunnel | None = None
        protocol = UsherProtocol(mux, Shared.of(reactor).budget)
        super().__init__(reactor, role, config, TUNNEL, {"usher": protocol})
        self._listen = config.listen
        self._admit = PolicyHolder(Policy(sources=config.admit))
        self._bastions = PolicyHolder(Policy(sources=config.bastions))
        self._rendezvous = GateRendezvous(self.shared)
        enter = self._rendezvous.enter
        self._relay: UsherRelay | None = None
        if config.relays:
            self._relay = UsherRelay(self.shared, self.policy, config.relays, enter)
            IService(self._relay).setServiceParent(self)
        keys = ["pinned keys"] if config.pins else []
        names = sorted({*config.peers, *config.relays})
        onward = f"; {self._onward.describe()}" if self._onward is not None else ""
        self.run(self._rendezvous, f"for {' '.join(keys + names)}{onward}")

    def acceptor(self) -> Callable[[ChannelRequest], None]:
        """With a next gate some of what portals want is for that one."""
        if self._next is None:
            return super().acceptor()
        name = self._config.identity.name
        self._onward = OnwardTunnel(self.shared, self._egress, self.protocols, name, self._next)
        return self._onward.accept

    def make_end(
        self, rendezvous: IRendezvous, peers: frozenset[str], on_ready: Callable[[], None]
    ) -> TunnelEnd:
        """One that knows which addresses are bastions."""
        end = super().make_end(rendezvous, peers, on_ready)
        end.unproved.is_bastion = self._is_bastion
        return end

    def _is_bastion(self, host: str) -> bool:
        bastions = self._bastions.current
        return bool(bastions.sources) and bastions.admits(host)

    def open_ports(self) -> None:
        """The gate's own ports first."""
        accept = self._relay.accept if self._relay is not None else self._rendezvous.accept
        for address, port in self._listen:
            entrance = _Entrance(
                self._reactor,
                self.policy,
                TCP,
                address,
                port,
                accept,
                admits=self._admit.admits,
                option="--admit",
            )
            if self._relay is not None:
                self._relay.entrances.add(TCP, address, entrance.port)
            IService(entrance).setServiceParent(self)
        super().open_ports()

    def status(self) -> EndStatus:
        """See `EndService`; the way to the next gate comes behind those of the portals."""
        status = super().status()
        if self._onward is None:
            return status
        before = max((hop.tunnel for hop in status.hops), default=0)
        onward = self._onward.tunnel.status().hops
        return attrs.evolve(
            status,
            where=f"{status.where} ({self._onward.state()})",
            hops=(*status.hops, *(attrs.evolve(hop, tunnel=before + 1) for hop in onward)),
        )

    def begin(self) -> None:
        """See `EndService`; the next gate is dialled, too."""
        super().begin()
        if self._onward is not None:
            self._onward.start(self.context)

    @property
    def keys_stay(self) -> str:
        """See `EndService`."""
        return "the next gate knows this one by its key too" if self._next is not None else ""

    @property
    def advice(self) -> str:
        """See `EndService`."""
        return (
            "compare --gate at the portals with the address here, and look whether a firewall "
            "lets them through; who is refused is in this log"
        )

    def stopService(self) -> Deferred[Any]:
        """See `EndService`; what is relayed, or goes onward, has as long."""
        if self._relay is not None:
            self._relay.grace = self.grace
        stopped = super().stopService()
        if self._onward is None:
            return stopped
        return gatherResults([stopped, self._onward.stop(self.grace)])

    def identity_changed(self, identity: Identity) -> None:
        """See `EndService`."""
        if self._onward is not None:
            self._onward.use(self.context)

    def reload(self, config: UsherGateConfig) -> list[str]:
        """See `EndService.reload`; also from where portals may come."""
        changes = super().reload(config)
        if self._admit.current.sources != config.admit:
            self._admit.replace((), config.admit)
            networks = ", ".join(map(str, config.admit)) or "everywhere"
            changes.append(f"portals are admitted from {networks}")
        if self._bastions.current.sources != config.bastions:
            self._bastions.replace((), config.bastions)
            networks = ", ".join(map(str, config.bastions)) or "nowhere"
            changes.append(f"bastions are at {networks}")
        onward = config.onward.rules if config.onward is not None else ()
        if self._onward is not None and self._onward.use_rules(onward):
            changes.append(f"patterns of what goes onward: {len(onward)}")
        return changes


class _Entrance(ListeningService):
    """A port on which portals are awaited."""

    @property
    def description(self) -> str:
        """For the ready line."""
        return f"listening on {self.address}"

    @property
    def port(self) -> int:
        """The real one, also if it was to be any free one."""
        return int(self.address.rpartition(":")[2])


config_class = UsherGateConfig


def configure(settings: Settings, starting: bool) -> UsherGateConfig:
    """See `IProxyRole`; a gate that starts needs a rule, unless it relays or has front ends."""
    settings.required("listen", "[HOST:]PORT on which portals are awaited, e.g. 0.0.0.0:7000")
    for given in settings.all("forward"):
        if ",connection=own" in given.text:
            given.wrong("a gate is dialled, it makes no connections", "no ',connection=own'")
    relays: dict[str, tuple[str, int]] = {}
    for given in settings.all("relay"):
        name, target = given.parsed(parse_relay)
        if name in relays:
            given.wrong(f"{name} is relayed already", "each NAME once")
        relays[name] = target
    config = UsherGateConfig(
        listen=tuple(given.parsed(parse_open_listen) for given in settings.all("listen")),
        admit=tuple(given.parsed(parse_network) for given in settings.all("admit")),
        relays=relays,
        bastions=tuple(given.parsed(parse_network) for given in settings.all("bastion")),
        onward=usher_onward.configure(settings),
        max_sessions=count(settings, "max-channels", USHER_SESSIONS, 1, 32_767),
        **end_parts(settings),
    )
    if config.onward is not None and usher_onward.unpinned(config, config.onward):
        settings.all("onward-peer")[0].wrong("no pinned key is called that", "a --peer-pin too")
    if starting and not (config.relays or config.front_ends or config.onward):
        require_rule(config)
    return config


def parse_relay(text: str) -> tuple[str, tuple[str, int]]:
    """``NAME=HOST:PORT``: the name that portals ask for, and the gate that it stands for."""
    name, equals, target = text.partition("=")
    if not equals:
        raise ConfigError(f"'{printable(text)}' has no '=': expected NAME=HOST:PORT")
    return to_server_name(name), parse_host_port(target)


def make_service(reactor: Any, config: UsherGateConfig) -> UsherGateService:
    """See `IEndRole`."""
    return UsherGateService(reactor, "usher-gate", config)
