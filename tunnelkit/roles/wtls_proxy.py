"""The operator's proxy of the WTLS-style tunnel as a role (W1 to W5)."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import attrs

from tunnelkit.core.wtls.events import GatewayConfig
from tunnelkit.egress.direct import DirectWay
from tunnelkit.errors import ConfigError
from tunnelkit.frontends.wtls.keys import ProxyKeys
from tunnelkit.frontends.wtls.operator import OperatorConfig, OperatorProxy
from tunnelkit.frontends.wtls.settings import gateway_config, suffixes
from tunnelkit.net.role_status import metric
from tunnelkit.policy.destination import UDP, parse_open_listen
from tunnelkit.policy.identity import load_identity
from tunnelkit.policy.rules import Rule, parse_rule
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import identity_terms, revocation_list, state_dir
from tunnelkit.roles.wtls_service import WtlsParts, WtlsService, WtlsStatus, rule_for, sources_of


@attrs.frozen(kw_only=True)
class WtlsProxyConfig(WtlsParts):
    """What an operator's proxy is told."""

    gateway: GatewayConfig
    suffixes: tuple[str, ...]
    rules: tuple[Rule, ...]
    """Of ``--allow``, and the domain proxies that are named."""


@attrs.frozen(kw_only=True)
class WtlsProxyStatus(WtlsStatus):
    """What an operator's proxy is doing, at one moment."""

    tunnels: int = metric("tunnels_open", "Devices in tunnel mode")


class WtlsProxyService(WtlsService):
    """One running operator's proxy."""

    status_class = WtlsProxyStatus

    def __init__(self, reactor: Any, role: str, config: WtlsProxyConfig) -> None:
        self._config = config
        super().__init__(reactor, role, config, config.rules)

    def make_port(
        self, reactor: Any, way: DirectWay, keys: ProxyKeys, address: str, port: int
    ) -> OperatorProxy:
        """See `WtlsService`."""
        config = OperatorConfig(
            address=address,
            port=port,
            gateway=self._config.gateway,
            suffixes=self._config.suffixes,
        )
        return OperatorProxy(reactor, way, self.policy, keys, config)

    def reload(self, config: WtlsProxyConfig) -> list[str]:
        """Other secure servers, map keys and rules; what is in tunnel mode goes on (row O3)."""
        changes = self.take_rules(config.rules, config.sources)
        if (config.gateway, config.suffixes) != (self._config.gateway, self._config.suffixes):
            changes.append(f"secure servers: {', '.join(config.gateway.secure) or 'none'}")
            for port in self.ports:
                port.reconfigure(config.gateway, config.suffixes)
        self._config = config
        return changes


config_class = WtlsProxyConfig


def configure(settings: Settings, starting: bool) -> WtlsProxyConfig:
    """See `IProxyRole`."""
    settings.required("listen", "[HOST:]PORT on which devices are awaited, e.g. 0.0.0.0:5684")
    identity = settings.required("identity", "FILE.pem made by 'tunnelkit keys issue'")
    terms = identity_terms(settings)
    loaded = identity.parsed(partial(load_identity, terms=terms))
    gateway = gateway_config(settings)
    rules = tuple(given.parsed(parse_rule) for given in settings.all("allow"))
    if starting and not rules and not gateway.secure:
        raise ConfigError(
            "--allow is missing: expected at least one PATTERN of what devices may reach, e.g. "
            "tcp:*.example:80, or a --secure server"
        )
    named = dict.fromkeys(gateway.secure.values())
    return WtlsProxyConfig(
        listen=tuple(given.parsed(parse_open_listen) for given in settings.all("listen")),
        identity_file=os.path.abspath(identity.text),
        crl_file=revocation_list(settings, loaded),
        terms=terms,
        state_dir=state_dir(settings),
        sources=sources_of(settings),
        gateway=gateway,
        suffixes=suffixes(settings),
        rules=(*rules, *(rule_for(UDP, *target) for target in named)),
    )


def make_service(reactor: Any, config: WtlsProxyConfig) -> WtlsProxyService:
    """See `IProxyRole`."""
    return WtlsProxyService(reactor, "wtls-proxy", config)
