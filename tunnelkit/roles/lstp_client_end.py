"""The LSTP client end as a role; see `tunnelkit.roles.lstp_end`."""

from __future__ import annotations

from typing import Any

from tunnelkit.policy.settings import Settings
from tunnelkit.roles.lstp_end import LstpEndConfig, LstpEndService, config_class, configure_end
from tunnelkit.wire.lstp import CLIENT_END


def configure(settings: Settings, starting: bool) -> LstpEndConfig:
    """See `IProxyRole`."""
    return configure_end(settings, CLIENT_END, starting)


def make_service(reactor: Any, config: LstpEndConfig) -> LstpEndService:
    """See `IEndRole`."""
    return LstpEndService(reactor, "lstp-client-end", config)


__all__ = ["config_class", "configure", "make_service"]
