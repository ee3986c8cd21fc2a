"""A client of a Communication Server as a role: asks by name, publishes, or both (S2, S4, S10)."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from twisted.application.service import IService
from twisted.internet.defer import Deferred

from tunnelkit.core.lstp.mux import MuxConfig
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.egress.resolve import SystemResolver
from tunnelkit.egress.site import SiteDialler
from tunnelkit.errors import ConfigError
from tunnelkit.frontends.forward.udp import UdpForward
from tunnelkit.net.channels.end import TunnelEnd
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.dial.via import Hop
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.net.secureproxy.control import look_up
from tunnelkit.net.secureproxy.end import SecureProxyEnd
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.secureproxy.rendezvous import (
    InitiatorRendezvous,
    MemberRendezvous,
    TargetRendezvous,
)
from tunnelkit.net.secureproxy.sites import Sites
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.context import Credentials, KeyUse, TlsContext
from tunnelkit.net.usher.protocol import UsherProtocol
from tunnelkit.policy.access_log import AccessLog
from tunnelkit.policy.destination import UDP, ForwardSpec, parse_forward, parse_host_port
from tunnelkit.policy.files import read_file
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Given, Settings
from tunnelkit.roles.configure import (
    USHER_SESSIONS,
    count,
    end_parts,
    proxies,
    secret_line,
    to_name,
    to_server_name,
)
from tunnelkit.roles.end import EndConfig, EndService, WayOut
from tunnelkit.roles.secure_proxy_resources import (
    DEFAULT_RESOURCE,
    RESOURCE,
    Published,
    published_resources,
    session_name,
    with_tunnel,
)
from tunnelkit.version import __version__
from tunnelkit.wire.secureproxy import ALPN, GROUP, Login, Presence
from tunnelkit.wire.usher import Version

TUNNEL = "secure-proxy"
"""What logs call the tunnels: a session has no name."""
SPARES = 2
_SYSTEM = "system"


@attrs.frozen(kw_only=True)
class SecureProxyClientConfig(EndConfig):
    """What a client is told."""

    server: tuple[str, int]
    """Host and port of the Communication Server."""
    server_name: str
    """The name that its certificate must have."""
    server_authorities: tuple[x509.Certificate, ...] = ()
    """The CAs that may have issued it; empty: the identity's."""
    login: Login | None = None
    target: str | None = None
    """Whom to ask for a session: a name, or ``group:`` and a group's; None: nobody."""
    resource: str = DEFAULT_RESOURCE
    group_forwards: tuple[tuple[str, ForwardSpec], ...] = ()
    """UDP ports whose datagrams go to every member of a group, ``group:NAME``."""
    published: tuple[Published, ...] = ()
    via: tuple[Hop, ...] | None = ()
    """Proxies on the way out, the first to dial in front; None: as this machine is set up."""
    max_sessions: int = USHER_SESSIONS
    """Channels that another client may have open at once."""
    spares: int = SPARES
    """Connections ahead for browsers of each site that is passed on unopened."""
    binding_required: bool = True
    """Other clients must say which TLS they are in, as this one does."""
    proxy_header: bool = False
    """Begin what browsers send to web servers inside with a PROXY header."""


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
        way = WayOut(reactor, config.via, "server", config.server)
        self._link = ServerLink(
            self.shared,
            way,
            self._server_context(),
            config.server_name,
            software=software,
            login=config.login,
            secret=config.identity.rendezvous_secret,
            binding_required=config.binding_required,
        )
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
        asks = target = published = None
        if config.target is not None:
            initiator = InitiatorRendezvous(self._link, name, config.target, config.resource)
            asks = self.make_end(initiator, config.peers, self._first_ready)
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
        everybody = [each for group in members.values() for each in group]
        end = SecureProxyEnd(asks, target, published, sites, everybody)
        asked = f" for {config.target}/{config.resource}" if config.target else ""
        shown = ", ".join(one.resource.name for one in config.published)
        publishes = f" publishing {shown}" if shown else ""
        self.run_end(end, f"{way.describe()}{asked}{publishes}")
        self._hurry = Timer(self.shared.reactor, sites.close)

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

    def _server_context(self) -> TlsContext:
        """For the TLS with the server."""
        credentials: Credentials = self.context.credentials
        config = self._client
        if config.server_authorities:
            # The list of the revoked is of the identity's CA.
            credentials = attrs.evolve(
                credentials,
                authorities=config.server_authorities,
                check_revocation=False,
                crls=(),
            )
        # Here the roles in TLS are always the same, and public CAs issue for servers only.
        credentials = attrs.evolve(credentials, use=KeyUse.ROLE)
        name = config.server_name if _is_name(config.server_name) else ""
        return TlsContext(credentials, (ALPN,), server_name=name)

    def look_up(self, target: str) -> Deferred[Presence]:
        """Who is there: a name, or ``group:`` and a group's; fails with `RemoteProtocolError`."""
        return look_up(self._link, target)

    def commands(self) -> dict[str, Callable[[], dict[str, object]]]:
        """See `EndService`; and what browsers that were passed on unopened began with."""
        return {**super().commands(), "hellos": self._hellos}

    def _hellos(self) -> dict[str, object]:
        return {"hellos": [attrs.asdict(pair) for pair in self.end.sites.hellos.pairs()]}

    def reload(self, config: SecureProxyClientConfig) -> list[str]:
        """See `EndService`; forwards to groups stay as they are."""
        changes = super().reload(config)
        if config.group_forwards != self._client.group_forwards:
            changes.append("forwards to groups only after a restart")
        return changes

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
        self._link.context = self._server_context()
        self._link.secret = identity.rendezvous_secret


def _is_name(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return True
    return False


config_class = SecureProxyClientConfig


def configure(settings: Settings, starting: bool) -> SecureProxyClientConfig:
    """See `IProxyRole`."""
    server = settings.required("server", "HOST:PORT of the server, e.g. relay.example:443")
    host, port = server.parsed(parse_host_port)
    named = settings.one("server-name")
    group_forwards, settings = _group_forwards(settings)
    parts = end_parts(settings, peer_needed=False)
    if group_forwards and not parts["peers"]:
        raise ConfigError(
            "--forward to a group: any member may come: expected --peer for each one that is "
            "welcome"
        )
    target = _target(settings)
    if target is not None and not parts["peers"]:
        parts["peers"] = frozenset({target})
    published = published_resources(settings)
    resource = settings.one("resource")
    config = SecureProxyClientConfig(
        server=(host, port),
        server_name=host if named is None else named.parsed(to_server_name),
        server_authorities=_server_authorities(settings),
        login=_login(settings),
        target=target,
        resource=DEFAULT_RESOURCE if resource is None else resource.parsed(session_name),
        group_forwards=group_forwards,
        published=with_tunnel(published, bool(parts["rules"])),
        via=proxies(settings),
        max_sessions=count(settings, "max-channels", USHER_SESSIONS, 1, 32_767),
        spares=count(settings, "spares", SPARES, 0, 4),
        binding_required=_binding_required(settings),
        proxy_header=settings.flag("site-proxy-header"),
        **parts,
    )
    if config.front_ends and target is None and not config.published:
        raise ConfigError(
            "--target is missing: expected NAME of the client to which the ports here lead"
        )
    if starting and target is None and not config.published and not group_forwards:
        raise ConfigError(
            "this client would be of no use: expected --target NAME with a port here, or "
            "--allow PATTERN of what others may reach from here, or --publish"
        )
    return config


def _group_forwards(
    settings: Settings,
) -> tuple[tuple[tuple[str, ForwardSpec], ...], Settings]:
    """``--forward PORT=udp:HOST:PORT@group:NAME``, and the settings without these."""
    found: list[tuple[str, ForwardSpec]] = []
    others: list[Given] = []
    for given in settings.all("forward"):
        text, at, group = given.text.partition(f"@{GROUP}")
        if not at:
            others.append(given)
            continue
        specs = Given(text, given.where).parsed(parse_forward)
        if not RESOURCE.fullmatch(group) or any(spec.protocol != UDP for spec in specs):
            given.wrong("only datagrams can go to a group", "PORT=udp:HOST:PORT@group:NAME")
        found += [(f"{GROUP}{group}", spec) for spec in specs]
    values = {name: settings.all(name) for name in settings.names}
    return tuple(found), Settings({**values, "forward": others})


def _target(settings: Settings) -> str | None:
    given = settings.one("target")
    if given is None:
        return None
    target = given.parsed(to_name)
    if target.startswith(GROUP):
        if not RESOURCE.fullmatch(target[len(GROUP) :]):
            given.wrong("not a group's name", "group:NAME, letters, digits, '.', '_' and '-'")
        if not settings.all("peer"):
            given.wrong("any member of a group may come", "--peer for each one that is welcome")
    return target


def _login(settings: Settings) -> Login | None:
    name, file = settings.one("login"), settings.one("login-file")
    if name is None:
        if file is not None:
            file.wrong("nobody logs in", "--login NAME as well")
        return None
    if file is None:
        name.wrong("its password is missing", "--login-file FILE as well")
    return Login(name.parsed(to_name), password=secret_line(file))


def _binding_required(settings: Settings) -> bool:
    given = settings.one("session-binding")
    if given is not None and given.text not in ("required", "optional"):
        given.wrong("not known", "required or optional")
    return given is None or given.text == "required"


def _server_authorities(settings: Settings) -> tuple[x509.Certificate, ...]:
    given = settings.one("server-ca")
    if given is None:
        return ()
    path = _system_authorities() if given.text == _SYSTEM else given.text
    data = read_file(path, f"{given.where} {printable(path)}", 1 << 21)
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        given.wrong("no certificates that can be read", "a PEM file of CAs, or `system`")


def _system_authorities() -> str:
    """The file of the CAs that this machine trusts."""
    found = ssl.get_default_verify_paths()
    for path in (found.cafile, found.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt"):
        if path and Path(path).is_file():
            return path
    raise ConfigError("--server-ca system: this machine has no file of CAs: expected FILE")


def make_service(reactor: Any, config: SecureProxyClientConfig) -> SecureProxyClientService:
    """See `IEndRole`."""
    return SecureProxyClientService(reactor, "secure-proxy-client", config)
