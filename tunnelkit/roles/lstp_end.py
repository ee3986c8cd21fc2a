"""What the client end and the server end of LSTP have in common: all but the name of the role.

identity -> dialer -> middle -> secured connection -> tunnel -> front ends here
                                                             -> egress: what the policy allows
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import attrs
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from tunnelkit import __version__
from tunnelkit.core.lstp_mux import MuxConfig
from tunnelkit.errors import ConfigError, DialError
from tunnelkit.frontends.dns_egress import DnsEgress, Server
from tunnelkit.frontends.egress import Egress
from tunnelkit.frontends.x11_connect import X11Connect
from tunnelkit.net.dialers import ProxyDialer, make_dialer
from tunnelkit.net.lstp_end import EndSettings, LstpEnd
from tunnelkit.net.lstp_meeting import LstpParty, LstpRendezvous
from tunnelkit.net.shared import Shared
from tunnelkit.net.sockets import format_address
from tunnelkit.net.tunnel import Tunnel
from tunnelkit.net.via import Hop
from tunnelkit.policy.access_log import log_channel
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.identity import Identity
from tunnelkit.policy.rules import Rule
from tunnelkit.policy.special import Network
from tunnelkit.roles.credential_watch import CredentialWatch
from tunnelkit.wire.lstp import derive_common

_log = Logger()

GRACE = 30.0
"""Seconds in which what is open may finish when the end is told to stop."""


@attrs.frozen
class LstpEndConfig:
    """What one end is told."""

    role: str
    """``client-end``, ``server-end`` or ``both``."""
    middle: tuple[str, int]
    """Host and port at which the ends meet."""
    tunnel: str
    """The tunnel's name; with the identity's secret it makes the rendezvous id."""
    identity: Identity
    identity_file: str
    """Where ``identity`` was read from, to read it again when it changes."""
    peers: frozenset[str]
    """Names, one of which the other end's certificate must have."""
    crl_file: str | None = None
    """The revocation list; None: nobody is revoked."""
    via: tuple[Hop, ...] | None = ()
    """Proxies on the way out, the first to dial in front; None: as this machine is set up."""
    admission_token: str | None = attrs.field(default=None, repr=False)
    """What the middle asks for."""
    front_ends: tuple[tuple[Any, Any], ...] = ()
    """Pairs of an `IFrontEnd` and what it made of its option."""
    rules: tuple[Rule, ...] = ()
    """What the other end may reach from here."""
    sources: tuple[Network, ...] = ()
    """Networks whose programs may enter the ports opened here; empty: all."""
    dns_servers: tuple[Server, ...] = ()
    """Resolvers for ``service:@dns``; empty: those of this machine."""
    connections: int = 1
    """Connections that carry the tunnel's channels."""
    max_channels: int = 1024
    """Channels that the other end may have open at once."""


class LstpEndService(MultiService):
    """One running end; its ports are bound when it is made (`ConfigError` if one is taken)."""

    def __init__(self, reactor: Any, name: str, config: LstpEndConfig) -> None:
        MultiService.__init__(self)
        self._role = name
        shared = Shared.of(reactor)
        policy = PolicyHolder(Policy(config.rules, config.sources))
        self._egress = Egress(reactor, shared.poller, policy)
        X11Connect(self._egress, os.environ)
        DnsEgress(self._egress, config.dns_servers)
        self.tunnel = Tunnel(shared, config.tunnel, self._egress, log_channel)
        dialer = (
            ProxyDialer(reactor, config.via)
            if config.via
            else make_dialer(reactor, () if config.via is not None else ("auto",))
        )
        host, port = config.middle
        self._way = f"middle {format_address(config.middle)} {dialer.describe()}"
        party = LstpParty(
            derive_common(config.identity.rendezvous_secret, config.tunnel),
            config.identity.name,
            config.role,
            admission=config.admission_token,
        )
        self._watch = CredentialWatch(shared, config.identity_file, config.crl_file)
        self.end = LstpEnd(
            shared,
            LstpRendezvous(shared, _ToMiddle(dialer, host, port), party),
            self._watch.context,
            EndSettings(
                config.peers,
                MuxConfig(max_channels=config.max_channels, software=f"tunnelkit/{__version__}"),
                config.connections,
            ),
            self.tunnel,
            self._ready,
        )
        self._watch.on_change = self._credentials_changed
        try:
            for front_end, parsed in config.front_ends:
                service = front_end.make_service(reactor, self.tunnel, policy, parsed)
                IService(service).setServiceParent(self)
        except ConfigError:
            MultiService.stopService(self)
            raise

    def startService(self) -> None:
        """Accept at the front ends, and dial the middle."""
        MultiService.startService(self)
        self._watch.start()
        self.end.start()

    def stopService(self) -> Deferred[Any]:
        """Take nothing new; fires when what is open has finished, after `GRACE` seconds at most."""
        self._watch.stop()
        closing: Deferred[Any] = MultiService.stopService(self)
        drained = self.end.stop(GRACE)
        drained.addCallback(lambda _: self._egress.close())
        return gatherResults([closing, drained])

    def _ready(self) -> None:
        opened = ", ".join(_descriptions(self)) or "no ports here"
        _log.info(
            "READY {role}: {opened}; tunnel {tunnel} at {way}",
            role=self._role,
            opened=opened,
            tunnel=self.tunnel.name,
            way=self._way,
        )

    def _credentials_changed(self) -> None:
        self.end.context = self._watch.context


def _descriptions(service: Any) -> Iterator[str]:
    """What each front end below ``service`` says of itself."""
    for part in service:
        if hasattr(part, "description"):
            yield part.description
        else:
            yield from _descriptions(part)


@implementer(IStreamClientEndpoint)
class _ToMiddle:
    """The way to the middle, chosen anew for each connection; says so when it fails."""

    def __init__(self, dialer: Any, host: str, port: int) -> None:
        self._dialer = dialer
        self._host = host
        self._port = port

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint`."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        try:
            endpoint = self._dialer.endpoint_for(self._host, self._port)
            protocol: IProtocol = await endpoint.connect(factory)
        except (DialError, ConfigError) as error:
            middle = format_address((self._host, self._port))
            # The part that failed is often the middle itself: its address is not told twice.
            reason = str(error).removeprefix(f"{middle}: ")
            raise DialError(f"cannot reach the middle {middle}: {reason}") from None
        return protocol
