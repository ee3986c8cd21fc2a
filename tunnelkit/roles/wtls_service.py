"""What the two proxies of the WTLS-style tunnel have in common as roles: a port for devices, a way
of their own to servers, and their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from tunnelkit.egress.dial import Egress
from tunnelkit.egress.direct import DirectWay
from tunnelkit.egress.udp import UdpEgress
from tunnelkit.errors import ConfigError
from tunnelkit.frontends.wtls.answers import DRAIN
from tunnelkit.frontends.wtls.domain import DomainProxy
from tunnelkit.frontends.wtls.keys import ProxyKeys
from tunnelkit.frontends.wtls.operator import OperatorProxy
from tunnelkit.interfaces import IRoleService, ISteered
from tunnelkit.net.role_status import RoleStatus, metric, metric_by
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.traffic import Traffic
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.identity import STRICT, Terms
from tunnelkit.policy.rules import Rule, parse_network, parse_rule
from tunnelkit.policy.settings import Settings
from tunnelkit.policy.special import Network
from tunnelkit.policy.validity import KeyStatus
from tunnelkit.roles.ready import tell_ready
from tunnelkit.roles.thrown_out import tell_thrown_out

_log = Logger()

FLOWS = 10_000
"""Devices in tunnel mode at once."""


@attrs.frozen(kw_only=True)
class WtlsParts:
    """What both are told."""

    listen: tuple[tuple[str, int], ...]
    identity_file: str
    crl_file: str | None
    terms: Terms = STRICT
    """What is let pass with the identity."""
    state_dir: str | None = None
    """Where numbers of revocation lists are remembered; None: beside the identity."""
    sources: tuple[Network, ...]
    """Networks that devices may come from; empty: all."""


def rule_for(kind: str, host: str, port: int) -> Rule:
    """What is allowed by being named: this host and port, on this machine too."""
    where = f"[{host}]" if ":" in host else host
    is_name = not (":" in host or host.rpartition(".")[2].isdigit())
    return parse_rule(f"{kind}:{where}:{port}{'@127.0.0.0/8,::1/128' if is_name else ''}")


def sources_of(settings: Settings) -> tuple[Network, ...]:
    """What ``--from`` says."""
    return tuple(given.parsed(parse_network) for given in settings.all("from"))


@attrs.frozen(kw_only=True)
class WtlsStatus(KeyStatus, RoleStatus):
    """What one of the two proxies is doing, at one moment."""

    listening: str
    associations: int = metric("associations_open", "DTLS associations with devices")
    dropped: int = metric("datagrams_dropped_total", "Datagrams dropped unread")
    rejected: Mapping[str, int] = metric_by(
        "reason", "handshakes_rejected_total", "Handshakes that came to nothing"
    )
    denied: Mapping[str, int] = metric_by(
        "reason", "authorize_denied_total", "What devices asked for and may not have"
    )


@implementer(IRoleService, ISteered)
class WtlsService(MultiService):
    """One of the two proxies; its ports are bound when it is made. A subclass makes them."""

    status_class: type[WtlsStatus]

    def __init__(self, reactor: Any, role: str, parts: WtlsParts, rules: Iterable[Rule]) -> None:
        MultiService.__init__(self)
        self._role = role
        self.policy = PolicyHolder(Policy(rules, parts.sources))
        self._egress = Egress(reactor, Shared.of(reactor).poller, self.policy)
        udp: Any = UdpEgress(self._egress, per_peer=FLOWS, most=FLOWS)
        udp.setServiceParent(self)
        way = DirectWay(self._egress)
        self.grace = DRAIN
        """See `IRoleService`."""
        self.ports: list[Any] = []
        self._keys: list[ProxyKeys] = []
        try:
            for address, port in parts.listen:
                keys = ProxyKeys(
                    Shared.of(reactor).reactor,
                    parts.identity_file,
                    parts.crl_file,
                    parts.terms,
                    parts.state_dir,
                )
                self._keys.append(keys)
                self.ports.append(self.make_port(reactor, way, keys, address, port))
        except ConfigError:
            for bound in self.ports:
                bound.stopService()
            raise
        for bound in self.ports:
            IService(bound).setServiceParent(self)

    def make_port(
        self, reactor: Any, way: DirectWay, keys: ProxyKeys, address: str, port: int
    ) -> OperatorProxy | DomainProxy:
        """Bind one port."""
        raise NotImplementedError

    def startService(self) -> None:
        """Take datagrams, and say so."""
        MultiService.startService(self)
        where = ", ".join(f"listening on {port.address}" for port in self.ports)
        # All ports have the same files.
        tell_ready(self._role, where, self._keys[0].ready_words)

    def stopService(self) -> Deferred[Any]:
        """Answer what is under way; then end the associations and tunnels."""
        for port in self.ports:
            port.grace = self.grace
        closing: Deferred[Any] = MultiService.stopService(self)
        return closing.addCallback(lambda _: self._egress.close())

    def status(self) -> WtlsStatus:
        """What it is doing."""
        found: Any = Counter()
        for port in self.ports:
            found.update(port.status())
        rejected: Counter[str] = Counter()
        for port in self.ports:
            rejected.update(port.server.rejected)
        return self.status_class(
            role=self._role,
            listening=", ".join(port.address for port in self.ports),
            rejected=dict(rejected),
            denied=dict(self._egress.denials.counts),
            # All ports have the same files.
            **attrs.asdict(self._keys[0].status()),
            **found,
        )

    def traffic(self) -> Iterator[Traffic]:
        """See `ISteered`: a row for each association."""
        for port in self.ports:
            for association in port.server.associations:
                address = format_address(association.address)
                yield Traffic(
                    id=f"{port.address} {address}",
                    kind="association",
                    who=association.peer_name or "a device without a certificate",
                    what=f"by {port.address}",
                    origin=address,
                    seconds=None,
                    sent=association.bytes_sent,
                    received=association.bytes_received,
                    state="open",
                )

    def end_one(self, number: str) -> bool:
        """See `ISteered`."""
        return any(
            port.server.end(association.address)
            for port in self.ports
            for association in port.server.associations
            if number == f"{port.address} {format_address(association.address)}"
        )

    def throw_out(self, who: str, seconds: float) -> int:
        """See `ISteered`: by address, since devices show no certificate."""
        ended: int = sum(port.server.throw_out(who, seconds) for port in self.ports)
        tell_thrown_out(who, seconds, ended)
        return ended

    def commands(self) -> dict[str, Callable[[], dict[str, object]]]:
        """What it can be told (row O2)."""
        return {}

    def reload(self, config: Any) -> list[str]:
        """See `IRoleService`."""
        raise NotImplementedError

    def take_rules(self, rules: tuple[Rule, ...], sources: tuple[Network, ...]) -> list[str]:
        """Go by these from now on; what has changed, in words."""
        changes = []
        if self.policy.current.rules != rules:
            changes.append(f"rules now in force: {len(rules)}")
        if self.policy.current.sources != sources:
            networks = ", ".join(map(str, sources)) or "everywhere"
            changes.append(f"devices may come from {networks}")
        self.policy.replace(rules, sources)
        return changes
