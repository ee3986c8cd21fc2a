"""A client of a Communication Server as a role: asks by name, publishes, or both (S2, S4, S10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from zope.interface import implementer_only

from tunnelkit.core.lstp.mux import MuxConfig
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.egress.resolve import SystemResolver
from tunnelkit.egress.site import SiteDialler
from tunnelkit.errors import ConfigError
from tunnelkit.frontends.forward.udp import UdpForward
from tunnelkit.interfaces import IEndService, IRenewsKeys, ISteered, IUnlocks
from tunnelkit.net.channels.end import TunnelEnd
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.net.secureproxy.control import greet, look_up
from tunnelkit.net.secureproxy.end import SecureProxyEnd
from tunnelkit.net.secureproxy.rendezvous import (
    InitiatorRendezvous,
    MemberRendezvous,
    TargetRendezvous,
)
from tunnelkit.net.secureproxy.sites import Sites
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.policy.access_log import AccessLog
from tunnelkit.policy.destination import ForwardSpec
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import (
    USHER_SESSIONS,
    count,
    end_parts,
)
from tunnelkit.roles.end import EndService
from tunnelkit.roles.end_config import EndConfig
from tunnelkit.roles.secure_proxy_link import (
    NO_SERVER_CA,
    LinkConfig,
    asked_for,
    configure_link,
    resource,
)
from tunnelkit.roles.secure_proxy_resources import (
    DEFAULT_RESOURCE,
    Published,
    published_resources,
    with_tunnel,
)
from tunnelkit.roles.secure_proxy_targets import (
    bound_ports,
    named_targets,
    split_group_forwards,
)
from tunnelkit.version import __version__
from tunnelkit.wire.secureproxy import Presence
from tunnelkit.wire.usher import Version

TUNNEL = "secure-proxy"
"""What logs call the tunnels: a session has no name."""
SPARES = 2


@attrs.frozen(kw_only=True)
class SecureProxyClientConfig(EndConfig):
    """What a client is told."""

    link: LinkConfig
    """The way to the Communication Server."""
    target: str | None = None
    """Whom to ask for a session: a name, or ``group:`` and a group's; None: nobody."""
    further_targets: frozenset[str] = frozenset()
    """Names that ports here lead to, beside that one."""
    resource: str = DEFAULT_RESOURCE
    group_forwards: tuple[tuple[str, ForwardSpec], ...] = ()
    """UDP ports whose datagrams go to every member of a group, ``group:NAME``."""
    published: tuple[Published, ...] = ()
    max_sessions: int = USHER_SESSIONS
    """Channels that another client may have open at once."""
    spares: int = SPARES
    """Connections ahead for browsers of each site that is passed on unopened."""
    proxy_header: bool = False
    """Begin what browsers send to web servers inside with a PROXY header."""


@implementer_only(IEndService, ISteered, IUnlocks, IRenewsKeys)
class SecureProxyClientService(EndService):
    """One running client."""

    end: SecureProxyEnd

    def __init__(self, reactor: Any, role: str, config: SecureProxyClientConfig) -> None:
        software = f"tunnelkit/{__version__}"
        budget = Shared.of(reactor).budget
        lstp = MuxConfig(
            max_channels=config.max_sessions, keepalive=config.keepalive, software=software
        )
        usher = UsherConfig(
            max_sessions=config.max_sessions, keepalive=config.keepalive, software=software
        )
        protocols = {
            "lstp": LstpProtocol(lstp, budget),
            "usher": UsherProtocol(usher, budget, (Version.V1_1,)),
        }
        super().__init__(reactor, role, config, TUNNEL, protocols)
        self._client = config
        way = config.link.way(reactor)
        self._link = config.link.link(self.shared, way, self.identity)
        name = config.identity.name
        resolver = SystemResolver(self.shared.reactor)
        sites = Sites(
            self._link,
            {
                one.resource.name: SiteDialler(self.shared.poller, self.policy, resolver, *one.site)
                for one in config.published
                if one.site is not None
            },
            proxy_header=config.proxy_header,
        )
        self._ready_told = False
        self._further: dict[str, TunnelEnd] = {}
        """Those that ask for the targets of front ends."""
        asks = []
        target = published = None
        if config.target is not None:
            asks.append(self._asks_for(config.target, config.peers))
        if config.published:
            resources = tuple(one.resource for one in config.published)
            published = TargetRendezvous(
                self._link, name, resources, config.peers, sites, config.spares
            )
            # What the server announces is compared with the certificate.
            target = self.make_end(published, frozenset(), self._first_ready)
        groups = {group for group, _ in config.group_forwards}
        members = {
            group: [self._member(group, name) for name in sorted(config.peers)] for group in groups
        }
        for group, spec in config.group_forwards:
            first, *others = (each.tunnel for each in members[group])
            forward: IService = UdpForward(reactor, first, self.policy, spec, others=others)
            forward.setServiceParent(self)
        asks += [each for group in members.values() for each in group]
        end = SecureProxyEnd(self.shared.reactor, asks, target, published, sites)
        for each in config.further_targets:
            self._further[each] = self._asks_for(each, frozenset({each}))
            end.add(self._further[each])
        asked = f" for {config.target}/{config.resource}" if config.target else ""
        shown = ", ".join(one.resource.name for one in config.published)
        publishes = f" publishing {shown}" if shown else ""
        self.run_end(end, f"{way.describe()}{asked}{publishes}")
        self._hurry = Timer(self.shared.reactor, sites.close)

    def _asks_for(self, target: str, peers: frozenset[str]) -> TunnelEnd:
        """An end that asks for ``target``."""
        own, resource = self._client.identity.name, self._client.resource
        rendezvous = InitiatorRendezvous(self._link, own, target, resource)
        return self.make_end(rendezvous, peers, self._first_ready)

    def _member(self, group: str, name: str) -> TunnelEnd:
        """An end with a tunnel of its own to one member of a group."""
        link, own = self._link, self._client.identity.name
        return TunnelEnd(
            MemberRendezvous(link, own, group, name, self._client.resource),
            self.protocols,
            tunnel=Tunnel(self.shared, TUNNEL, self._egress, AccessLog.of(self._reactor)),
            context=self.context,
            peers=(name,),
            on_ready=self._first_ready,
        )

    def _first_ready(self) -> None:
        if not self._ready_told:
            self._ready_told = True
            self.told_ready()

    def look_up(self, target: str) -> Deferred[Presence]:
        """Who is there: a name, or ``group:`` and a group's; fails with `RemoteProtocolError`."""
        return look_up(self._link, target)

    def greet(self) -> Deferred[str]:
        """Go to the server without registering: who it says it is, and who this is; fails with
        `TunnelkitError`."""
        said = greet(self._link)
        return said.addCallback(
            lambda welcome: f"{welcome.server} lets this client in, from {welcome.observed}"
        )

    def commands(self) -> dict[str, Callable[[], dict[str, object]]]:
        """See `EndService`; and what browsers that were passed on unopened began with."""
        return {**super().commands(), "hellos": self._hellos}

    def _hellos(self) -> dict[str, object]:
        return {"hellos": [attrs.asdict(pair) for pair in self.end.sites.hellos.pairs()]}

    def reload(self, config: SecureProxyClientConfig) -> list[str]:
        """See `EndService`; forwards to groups stay as they are."""
        changes = super().reload(config)
        wanted = config.further_targets
        for gone in self._further.keys() - wanted:
            self.end.remove(self._further.pop(gone), self.grace)
            changes.append(f"{gone} is not asked for any more")
        for new in sorted(wanted - self._further.keys()):
            self._further[new] = self._asks_for(new, frozenset({new}))
            self.end.add(self._further[new])
            changes.append(f"asks for {new} too")
        if config.group_forwards != self._client.group_forwards:
            changes.append("forwards to groups only after a restart")
        return changes

    @property
    def keys_stay(self) -> str:
        """See `EndService`."""
        if self._client.link.login is not None:
            return ""
        return "the Communication Server knows this end by its key too: expected --login there"

    @property
    def advice(self) -> str:
        """See `EndService`."""
        return (
            "compare --server at both clients, the names asked for with those that the clients' "
            "certificates have, and both with the server's policy"
        )

    def stopService(self) -> Deferred[Any]:
        """See `EndService`."""
        self._hurry.start(self.grace)
        stopped = super().stopService()

        def done(result: Any) -> Any:
            self._hurry.stop()
            return result

        return stopped.addBoth(done)

    def identity_changed(self, identity: Any) -> None:
        """The keys are perhaps new."""
        self._client.link.renew(self._link, identity)


config_class = SecureProxyClientConfig


def configure(settings: Settings, starting: bool) -> SecureProxyClientConfig:
    """See `IProxyRole`."""
    link = configure_link(settings)
    group_forwards, settings = split_group_forwards(settings)
    parts = end_parts(settings, by_name=True)
    if group_forwards and not parts["peers"]:
        raise ConfigError(
            "--forward to a group: any member may come: expected --peer for each one that is "
            "welcome"
        )
    target = asked_for(settings)
    if target is not None and not parts["peers"]:
        parts["peers"] = frozenset({target})
    if not (link.authorities or parts["identity"].credentials.authorities):
        raise ConfigError(NO_SERVER_CA)
    published = with_tunnel(published_resources(settings), bool(parts["rules"]))
    targets = named_targets(parts["front_ends"])
    peers = parts["peers"].union(parts["pins"].values())
    callers = peers if published else frozenset()
    parts["front_ends"] = bound_ports(parts["front_ends"], target, peers, callers)
    config = SecureProxyClientConfig(
        link=link,
        target=target,
        further_targets=targets - {target},
        resource=resource(settings),
        group_forwards=group_forwards,
        published=published,
        max_sessions=count(settings, "max-channels", USHER_SESSIONS, 1, 32_767),
        spares=count(settings, "spares", SPARES, 0, 4),
        proxy_header=settings.flag("site-proxy-header"),
        **parts,
    )
    useful = config.front_ends or config.published or group_forwards
    if starting and target is None and not useful:
        raise ConfigError(
            "this client would be of no use: expected --target NAME with a port here, or "
            "--allow PATTERN of what others may reach from here, or --publish"
        )
    return config


def make_service(reactor: Any, config: SecureProxyClientConfig) -> SecureProxyClientService:
    """See `IEndRole`."""
    return SecureProxyClientService(reactor, "secure-proxy-client", config)
