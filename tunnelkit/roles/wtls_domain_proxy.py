"""The domain proxy of the WTLS-style tunnel as a role (W6, W7)."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import attrs

from tunnelkit.core.wtls.http_mapping import CannotBeServed, Url, parse_url
from tunnelkit.egress.direct import DirectWay
from tunnelkit.errors import ConfigError
from tunnelkit.frontends.wtls.domain import DomainConfig, DomainProxy
from tunnelkit.frontends.wtls.keys import ProxyKeys
from tunnelkit.frontends.wtls.settings import own_map_key
from tunnelkit.net.role_status import metric
from tunnelkit.policy.destination import TCP, parse_open_listen, to_host
from tunnelkit.policy.identity import load_identity
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import identity_terms, revocation_list, state_dir
from tunnelkit.roles.wtls_service import WtlsParts, WtlsService, WtlsStatus, rule_for, sources_of


@attrs.frozen(kw_only=True)
class WtlsDomainProxyConfig(WtlsParts):
    """What a domain proxy is told."""

    origins: dict[str, Url]
    """Host in requests: where it is fetched from."""
    map_key: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class WtlsDomainProxyStatus(WtlsStatus):
    """What a domain proxy is doing, at one moment."""

    mappings: int = metric("mappings_open", "Mappings of devices in tunnel mode")


class WtlsDomainProxyService(WtlsService):
    """One running domain proxy."""

    status_class = WtlsDomainProxyStatus

    def __init__(self, reactor: Any, role: str, config: WtlsDomainProxyConfig) -> None:
        self._config = config
        rules = [rule_for(TCP, url.host, url.port) for url in config.origins.values()]
        super().__init__(reactor, role, config, rules)

    def make_port(
        self, reactor: Any, way: DirectWay, keys: ProxyKeys, address: str, port: int
    ) -> DomainProxy:
        """See `WtlsService`."""
        config = DomainConfig(
            address=address, port=port, origins=self._config.origins, map_key=self._config.map_key
        )
        return DomainProxy(reactor, way, self.policy, keys, config)

    def reload(self, config: WtlsDomainProxyConfig) -> list[str]:
        """Other origins (row O3)."""
        rules = tuple(rule_for(TCP, url.host, url.port) for url in config.origins.values())
        changes = self.take_rules(rules, config.sources)
        if config.origins != self._config.origins:
            changes.append(f"of this domain: {', '.join(config.origins)}")
            for port in self.ports:
                port.origins = config.origins
        self._config = config
        return changes


config_class = WtlsDomainProxyConfig


def parse_origin(text: str) -> tuple[str, Url]:
    """``HOST=URL``: a host of the domain, and where what is asked of it is fetched from."""
    host, equals, url = text.partition("=")
    if not equals:
        raise ConfigError(f"'{printable(text)}' has no '=': expected HOST=URL")
    try:
        parsed = parse_url(url)
    except CannotBeServed as problem:
        raise ConfigError(f"'{printable(url)}': {problem}: expected http or https") from None
    if "?" in parsed.target:
        raise ConfigError(f"'{printable(url)}' has a query: expected a URL without one")
    return to_host(host).removesuffix("."), parsed


def configure(settings: Settings, starting: bool) -> WtlsDomainProxyConfig:
    """See `IProxyRole`."""
    settings.required("listen", "[HOST:]PORT on which devices are awaited, e.g. 0.0.0.0:5684")
    identity = settings.required("identity", "FILE.pem made by 'tunnelkit keys issue'")
    terms = identity_terms(settings)
    loaded = identity.parsed(partial(load_identity, terms=terms))
    settings.required("origin", "HOST=URL, e.g. bank.example=https://10.0.0.5:8443")
    origins: dict[str, Url] = {}
    for given in settings.all("origin"):
        host, url = given.parsed(parse_origin)
        if origins.setdefault(host, url) != url:
            given.wrong(f"{host} has an origin already", "each HOST once")
    key = settings.one("map-key-file")
    return WtlsDomainProxyConfig(
        listen=tuple(given.parsed(parse_open_listen) for given in settings.all("listen")),
        identity_file=os.path.abspath(identity.text),
        crl_file=revocation_list(settings, loaded),
        terms=terms,
        state_dir=state_dir(settings),
        sources=sources_of(settings),
        origins=origins,
        map_key=own_map_key(key) if key is not None else None,
    )


def make_service(reactor: Any, config: WtlsDomainProxyConfig) -> WtlsDomainProxyService:
    """See `IProxyRole`."""
    return WtlsDomainProxyService(reactor, "wtls-domain-proxy", config)
