"""What the client end and the server end of LSTP have in common: all but the name of the role."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.application.service import IService
from twisted.internet.defer import Deferred

from tunnelkit.core.lstp.compression import AVAILABLE, NONE
from tunnelkit.core.lstp.mux import MuxConfig
from tunnelkit.egress.publish import (
    Publisher,
    PublishSpec,
    check_publications,
    parse_publish,
)
from tunnelkit.errors import ConfigError
from tunnelkit.frontends.published_ports import PublishedPorts
from tunnelkit.net.dial.via import Via
from tunnelkit.net.lstp.meeting import (
    InHouseRendezvous,
    LstpParty,
    LstpRendezvous,
    MiddleRendezvous,
)
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.net.sockets.context import Shared
from tunnelkit.policy.destination import parse_host_port, parse_open_listen
from tunnelkit.policy.identity import Identity
from tunnelkit.policy.rules import parse_network
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import (
    admission_token,
    count,
    end_parts,
    proxies,
    require_rule,
    require_use,
    to_tunnel_name,
)
from tunnelkit.roles.end import EndService
from tunnelkit.roles.end_config import EndConfig
from tunnelkit.roles.lstp_middle import LstpMiddleConfig, LstpMiddleService
from tunnelkit.roles.lstp_rendezvous import meet_as
from tunnelkit.roles.way_out import WayOut
from tunnelkit.version import __version__
from tunnelkit.wire.lstp import BOTH, CLIENT_END, SERVER_END, derive_common

LSTP = "lstp"
"""What ``--protocol`` calls it."""


@attrs.frozen(kw_only=True)
class LstpEndConfig(EndConfig):
    """What one end of LSTP is told."""

    role: str
    """``client-end``, ``server-end`` or ``both``."""
    middle: tuple[str, int] | LstpMiddleConfig
    """Host and port at which the ends meet, or a middle in this process (row L9)."""
    tunnel: str
    """The tunnel's name; with the identity's secret it makes the rendezvous id."""
    via: Via = ()
    """The way out."""
    admission_token: str | None = attrs.field(default=None, repr=False)
    """What the middle asks for."""
    connections: int = 1
    """Connections that carry the tunnel's channels."""
    max_channels: int = 1024
    """Channels that the other end may have open at once."""
    compress: bool = False
    """Offer compression to the other end."""
    publish: tuple[PublishSpec, ...] = ()
    """Services that the other end may use while they are valid (row T1)."""


class LstpEndService(EndService):
    """One running end of LSTP."""

    def __init__(self, reactor: Any, role: str, config: LstpEndConfig) -> None:
        self._lstp = config
        self.protocol = LstpProtocol(
            MuxConfig(
                max_channels=config.max_channels,
                keepalive=config.keepalive,
                software=f"tunnelkit/{__version__}",
                compression=AVAILABLE if config.compress else (NONE,),
            ),
            Shared.of(reactor).budget,
            config.connections,
        )
        super().__init__(reactor, role, config, config.tunnel, {LSTP: self.protocol})
        self._tunnel_name = config.tunnel
        self._middle: LstpMiddleService | None = None
        party = LstpParty(
            derive_common(config.identity.rendezvous_secret, config.tunnel),
            config.identity.name,
            config.role,
            admission=config.admission_token,
        )
        self._publisher = Publisher(
            reactor, self._egress, self.protocol.published, self.protocol.announce
        )
        self._published_ports = PublishedPorts(reactor, self.policy)
        for part in (self._publisher, self._published_ports):
            IService(part).setServiceParent(self)
        self._publisher.replace(config.publish)
        self.protocol.on_services = self._published_ports.changed
        self._rendezvous, whereto = self._meeting_place(config, party)
        self.run(self._rendezvous, f"tunnel {config.tunnel} at {whereto}")

    def reload(self, config: LstpEndConfig) -> list[str]:
        """See `EndService.reload`; also what is published, the admission token, and who its own
        middle admits."""
        changes = super().reload(config)
        changes += self._publisher.replace(config.publish)
        self._published_ports.settle()
        if self._middle is not None and isinstance(config.middle, LstpMiddleConfig):
            changes += self._middle.reload(config.middle)
        elif self._rendezvous.party.admission != config.admission_token:
            changes.append("another admission token")
        # One that waits has been admitted already.
        party = self._rendezvous.party
        self._rendezvous.become(attrs.evolve(party, admission=config.admission_token))
        return changes

    @property
    def published(self) -> list[str]:
        """See `EndService`."""
        return [spec.name for spec in self._lstp.publish]

    @property
    def advice(self) -> str:
        """See `EndService`: the middle cannot know what the two should have in common."""
        here = {CLIENT_END: "client", SERVER_END: "server"}.get(self._lstp.role)
        other = "server" if self._lstp.role == CLIENT_END else "client"
        roles = f"that the other is a {other} end, as this is a {here} end, " if here else ""
        return (
            f"compare at both ends --middle, --tunnel, {roles}and that both identities are of one "
            "`tunnelkit keys init`, whose secret they share"
        )

    def stopService(self) -> Deferred[Any]:
        """See `EndService`; its own middle has as long."""
        if self._middle is not None:
            self._middle.grace = self.grace
        return super().stopService()

    def identity_changed(self, identity: Identity) -> None:
        """See `EndService`."""
        meet_as(self._rendezvous, identity, self._tunnel_name)

    def _meeting_place(
        self, config: LstpEndConfig, party: LstpParty
    ) -> tuple[MiddleRendezvous, str]:
        """How to meet the other end, and that in words."""
        if isinstance(config.middle, LstpMiddleConfig):
            self._middle = middle = LstpMiddleService(self.shared.reactor, "", config.middle)
            IService(middle).setServiceParent(self)
            rendezvous = InHouseRendezvous(self.shared, middle.factory, party)
            return rendezvous, f"its own middle, listening on {middle.addresses}"
        way = WayOut(self.shared.reactor, config.via, "middle", config.middle)
        return LstpRendezvous(self.shared, way, party), way.describe()


config_class = LstpEndConfig


def configure_end(settings: Settings, role: str, starting: bool) -> LstpEndConfig:
    """The configuration of the client end or the server end, as ``role`` says."""
    tunnel = settings.required("tunnel", "NAME, the same at both ends")
    end = end_parts(settings)
    role = BOTH if settings.flag("both") else role
    config = LstpEndConfig(
        role=role,
        middle=meeting_place(settings, end["identity"].name),
        tunnel=tunnel.parsed(to_tunnel_name),
        via=proxies(settings),
        admission_token=admission_token(settings),
        connections=count(settings, "connections", 1, 1, 16),
        compress=settings.flag("compress"),
        max_channels=count(settings, "max-channels", 1024, 1, 65_536),
        publish=publications(settings),
        **end,
    )
    if config.protocols and all(maker.name != LSTP for maker in config.protocols):
        for name in ("publish", "connections", "compress"):
            if given := settings.one(name):
                given.wrong("none of the protocols has this", f"--protocol {LSTP} too")
    if starting and not config.publish:
        if role in (SERVER_END, BOTH):
            require_rule(config)
        else:
            require_use(config)
    return config


def publications(settings: Settings) -> tuple[PublishSpec, ...]:
    """The services that ``--publish`` names (row T1)."""
    specs: list[PublishSpec] = []
    for given in settings.all("publish"):
        specs.append(given.parsed(parse_publish))
        try:
            check_publications(specs)
        except ConfigError as error:
            raise ConfigError(f"{given.where}: {error}") from None
    return tuple(specs)


def meeting_place(settings: Settings, name: str) -> tuple[str, int] | LstpMiddleConfig:
    """The middle to dial, or the one that this end is itself (row L9)."""
    own = settings.all("listen")
    if not own:
        expected = "HOST:PORT of the middle, e.g. middle.example:7000 (or --listen to be one)"
        return settings.required("middle", expected).parsed(parse_host_port)
    for other in ("middle", "via"):
        if given := settings.all(other):
            given[0].wrong("this end is its own middle", f"--listen or --{other}, not both")
    return LstpMiddleConfig(
        listen=tuple(given.parsed(parse_open_listen) for given in own),
        name=f"{name}-middle",
        admit=tuple(given.parsed(parse_network) for given in settings.all("admit")),
        admission_token=admission_token(settings),
    )


def make_protocol(reactor: Any) -> LstpProtocol:
    """LSTP's messages for an end of another kind, see `IProtocolMaker`."""
    config = MuxConfig(software=f"tunnelkit/{__version__}")
    return LstpProtocol(config, Shared.of(reactor).budget)
