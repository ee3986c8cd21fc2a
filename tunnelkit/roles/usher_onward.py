"""A gate's own tunnel to the next gate, for what its portals ask for there (row U18)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from tunnelkit.egress.dial import Egress
from tunnelkit.egress.onward import Onward
from tunnelkit.errors import Code, ConfigError
from tunnelkit.interfaces import IChannelProtocol
from tunnelkit.net.channels.end import TunnelEnd
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.dial.via import Via
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.net.usher.meeting import UsherRendezvous
from tunnelkit.policy.access_log import AccessLog
from tunnelkit.policy.destination import parse_host_port
from tunnelkit.policy.onward import OnwardRules, parse_onward
from tunnelkit.policy.rules import Rule
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import proxies, to_name
from tunnelkit.roles.way_out import WayOut

TUNNEL = "onward"
"""What logs call the tunnel to the next gate."""


@attrs.frozen(kw_only=True)
class OnwardConfig:
    """Where a gate asks for what it does not connect to itself."""

    gate: tuple[str, int]
    """Host and port of the next gate."""
    peer: str
    """The name that its certificate, or its pin, has."""
    rules: tuple[Rule, ...]
    """What goes there."""
    via: Via = ()
    """The way to it."""


class OnwardTunnel:
    """The tunnel to the next gate; ``accept`` is what answers the portals of this one.

    Nothing is opened from its other end: what that may reach here it asks for as a portal does.
    """

    def __init__(
        self,
        shared: Shared,
        egress: Egress,
        protocols: Sequence[IChannelProtocol],
        name: str,
        config: OnwardConfig,
    ) -> None:
        self._config = config
        self._protocols = protocols
        self.tunnel = Tunnel(shared, TUNNEL, _not_from_there, AccessLog.of(shared.reactor))
        self.accept = Onward(egress, self.tunnel, name, config.peer)
        self.accept.rules = OnwardRules(config.rules)
        self._way = WayOut(shared.reactor, config.via, "next gate", config.gate)
        self._end: TunnelEnd | None = None

    def describe(self) -> str:
        """For the ready line."""
        return f"onward to {self._config.peer} by {self._way.describe()}"

    def state(self) -> str:
        """Whether it is up, or why not."""
        status = self.tunnel.status()
        return "connected" if status.up else f"not connected: {status.last_error or 'not yet'}"

    def start(self, context: TlsContext) -> None:
        """Dial the next gate, and go on until `stop`."""
        self._end = TunnelEnd(
            UsherRendezvous(self._way),
            self._protocols,
            tunnel=self.tunnel,
            context=context,
            peers=frozenset({self._config.peer}),
        )
        self._end.start()

    def use(self, context: TlsContext) -> None:
        """The keys have changed."""
        if self._end is not None:
            self._end.context = context

    def use_rules(self, rules: tuple[Rule, ...]) -> bool:
        """Go by other patterns; whether that is a change."""
        changed = self.accept.rules.rules != rules
        if changed:
            self.accept.rules = OnwardRules(rules)
        return changed

    def stop(self, grace: float) -> Deferred[None]:
        """Fires when what is open has finished, or ``grace`` seconds later."""
        self.accept.close()
        if self._end is None:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        return self._end.stop(grace)


def _not_from_there(request: ChannelRequest) -> None:
    request.refuse(Code.NOT_ALLOWED, "not allowed there")


def configure(settings: Settings) -> OnwardConfig | None:
    """What the options ask for, if they do; raises `ConfigError`."""
    gate, peer = settings.one("onward"), settings.one("onward-peer")
    patterns = settings.all("onward-for")
    if gate is None:
        for name in ("onward-peer", "onward-for", "via", "via-password-file"):
            if given := settings.all(name):
                given[0].wrong("there is nowhere to go", "--onward HOST:PORT of a gate as well")
        return None
    if peer is None:
        raise ConfigError(
            f"{gate.where}: nobody may answer there: expected --onward-peer NAME of that gate"
        )
    if not patterns:
        raise ConfigError(
            f"{gate.where}: nothing would go there: expected --onward-for PATTERN, such as "
            "'tcp:*.b.example:22,443'"
        )
    return OnwardConfig(
        gate=gate.parsed(parse_host_port),
        peer=peer.parsed(to_name),
        rules=tuple(given.parsed(parse_onward) for given in patterns),
        via=proxies(settings),
    )


def unpinned(config: Any, onward: OnwardConfig) -> bool:
    """Whether keys are pinned, and none is the next gate's."""
    return bool(config.pins) and onward.peer not in config.pins.values()
