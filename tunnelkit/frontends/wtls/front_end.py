"""``--wtls``: the operator's proxy at an end of a tunnel (row W9).

What it fetches, and the datagrams of devices in tunnel mode, go through the tunnel; the far
side's rules decide.
"""

from __future__ import annotations

import os
from typing import Any

import attrs
from twisted.application.service import IService

from tunnelkit.frontends.wtls.keys import ProxyKeys
from tunnelkit.frontends.wtls.operator import OperatorConfig, OperatorProxy
from tunnelkit.frontends.wtls.paths import TunnelWay
from tunnelkit.frontends.wtls.settings import gateway_config, suffixes
from tunnelkit.policy.destination import parse_listen
from tunnelkit.policy.identity import load_identity
from tunnelkit.policy.settings import Settings

PREFIX = "wtls-"


@attrs.frozen
class WtlsConfig:
    """One port for devices."""

    operator: OperatorConfig
    identity_file: str


def configure(settings: Settings) -> list[WtlsConfig]:
    """``--wtls [HOST:]PORT`` and its companions; see `IFrontEnd`."""
    ports = settings.all("wtls")
    if not ports:
        for name in ("identity", "secure", "map-key-file", "ttl", "learn-from", "match"):
            for given in settings.all(PREFIX + name):
                given.wrong("there is no port that it could be for", "--wtls as well")
        return []
    identity = settings.required(
        f"{PREFIX}identity", "FILE.pem of the operator's proxy, whose CA devices trust"
    )
    identity.parsed(load_identity)
    gateway, learnt = gateway_config(settings, PREFIX), suffixes(settings, PREFIX)
    return [
        WtlsConfig(
            OperatorConfig(address=address, port=port, gateway=gateway, suffixes=learnt),
            os.path.abspath(identity.text),
        )
        for address, port in (given.parsed(parse_listen) for given in ports)
    ]


def make_service(reactor: Any, tunnel: Any, policy: Any, config: WtlsConfig) -> IService:
    """One port; raises `ConfigError` if it is taken."""
    keys = ProxyKeys(reactor, config.identity_file)
    way = TunnelWay(tunnel)
    service: Any = OperatorProxy(reactor, way, policy, keys, config.operator, drains=False)
    return IService(service)
