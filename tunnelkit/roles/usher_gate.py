"""The Usher gate as a role: takes portals in, or relays them further inside (U7, U9, U14, U17)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.plugin import IPlugin
from zope.interface import implementer

from tunnelkit import __version__
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.egress.tls_relay import UsherRelay
from tunnelkit.interfaces import IProxyRole
from tunnelkit.local.listening import ListeningService
from tunnelkit.net.tls.context import USHER_ALPN, TlsContext
from tunnelkit.net.usher.end import UsherGate, UsherSettings
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.destination import TCP
from tunnelkit.policy.special import Network
from tunnelkit.roles.end import GRACE, EndConfig, EndService

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
    max_sessions: int = 10_000
    """Sessions that one portal may have open at once."""


class UsherGateService(EndService):
    """One running gate."""

    end: UsherGate

    def __init__(self, reactor: Any, role: str, config: UsherGateConfig) -> None:
        make_context = partial(TlsContext, alpn=USHER_ALPN, alpn_optional=True)
        super().__init__(reactor, role, config, TUNNEL, make_context)
        self._listen = config.listen
        self._admit = PolicyHolder(Policy(sources=config.admit))
        mux = UsherConfig(max_sessions=config.max_sessions, software=f"tunnelkit/{__version__}")
        end = UsherGate(
            self.shared,
            self.context,
            UsherSettings(config.identity.name, config.peers, mux),
            self.tunnel,
            self.told_ready,
        )
        self._relay: UsherRelay | None = None
        if config.relays:
            self._relay = UsherRelay(self.shared, self.policy, config.relays, end.enter, GRACE)
            IService(self._relay).setServiceParent(self)
        keys = ["pinned keys"] if config.pins else []
        self.run(end, f"for {' '.join(keys + sorted({*config.peers, *config.relays}))}")

    def open_ports(self) -> None:
        """The gate's own ports first."""
        for address, port in self._listen:
            entrance = _Entrance(
                self._reactor,
                self.policy,
                TCP,
                address,
                port,
                self._entered,
                admits=self._admit.admits,
                option="--admit",
            )
            if self._relay is not None:
                self._relay.entrances.add(TCP, address, entrance.port)
            IService(entrance).setServiceParent(self)
        super().open_ports()

    def reload(self, config: UsherGateConfig) -> list[str]:
        """See `EndService.reload`; also from where portals may come."""
        changes = super().reload(config)
        if self._admit.current.sources != config.admit:
            self._admit.replace((), config.admit)
            networks = ", ".join(map(str, config.admit)) or "everywhere"
            changes.append(f"portals are admitted from {networks}")
        return changes

    def _entered(self, sock: socket.socket) -> None:
        try:
            address = sock.getpeername()[:2]
        except OSError:
            sock.close()  # it has gone again
            return
        accept = self._relay.accept if self._relay is not None else self.end.accept
        accept(sock, address)


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


@implementer(IPlugin, IProxyRole)
class UsherGateRole:
    """``twistd usher-gate``: takes portals in and connects for them to what is allowed here."""

    name = "usher-gate"
    description = "Usher gate: takes portals in and connects for them to what is allowed here."
    config_class = UsherGateConfig

    def make_service(self, reactor: Any, config: Any) -> IService:
        """The running gate; raises `ConfigError` for a port that is taken."""
        return UsherGateService(reactor, self.name, config)
