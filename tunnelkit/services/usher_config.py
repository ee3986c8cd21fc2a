"""From settings to the configuration of the ends of Usher; see `tunnelkit.services.config`."""

from __future__ import annotations

from ipaddress import ip_address

from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import parse_host_port, parse_listen, to_host
from tunnelkit.policy.printable import printable
from tunnelkit.policy.rules import parse_network
from tunnelkit.roles.usher_gate import UsherGateConfig
from tunnelkit.roles.usher_portal import UsherPortalConfig
from tunnelkit.services.config import count, end_parts, proxies, require_rule
from tunnelkit.services.given import Settings

_MAX_SESSIONS = 10_000


def usher_gate_config(settings: Settings, needs_rules: bool = True) -> UsherGateConfig:
    """The configuration of ``twistd usher-gate``.

    With ``needs_rules`` it has to have one unless it does something else: it relays, or has
    front ends.
    """
    settings.required("listen", "HOST:PORT on which portals are awaited, e.g. 0.0.0.0:7000")
    end = end_parts(settings)
    if needs_rules and not (settings.all("relay") or end["front_ends"]):
        require_rule(settings)
    relays: dict[str, tuple[str, int]] = {}
    for given in settings.all("relay"):
        name, target = given.parsed(parse_relay)
        if name in relays:
            given.wrong(f"{name} is relayed already", "each NAME once")
        relays[name] = target
    return UsherGateConfig(
        listen=tuple(given.parsed(parse_listen) for given in settings.all("listen")),
        admit=tuple(given.parsed(parse_network) for given in settings.all("admit")),
        relays=relays,
        max_sessions=count(settings, "max-channels", _MAX_SESSIONS, 1, 32_767),
        **end,
    )


def usher_portal_config(settings: Settings) -> UsherPortalConfig:
    """The configuration of ``twistd usher-portal``."""
    gate = settings.required("gate", "HOST:PORT of the gate, e.g. gate.example:7000")
    server_name = settings.one("server-name")
    return UsherPortalConfig(
        gate=gate.parsed(parse_host_port),
        server_name=server_name.parsed(to_server_name) if server_name is not None else "",
        via=proxies(settings),
        max_sessions=count(settings, "max-channels", _MAX_SESSIONS, 1, 32_767),
        **end_parts(settings),
    )


def parse_relay(text: str) -> tuple[str, tuple[str, int]]:
    """``NAME=HOST:PORT``: the name that portals ask for, and the gate that it stands for."""
    name, equals, target = text.partition("=")
    if not equals:
        raise ConfigError(f"'{printable(text)}' has no '=': expected NAME=HOST:PORT")
    return to_server_name(name), parse_host_port(target)


def to_server_name(text: str) -> str:
    """A name as TLS carries it (RFC 6066): a host name in lower case, not an address."""
    name = to_host(text).removesuffix(".")
    try:
        ip_address(name)
    except ValueError:
        return name
    raise ConfigError(f"'{printable(text)}' is an address: expected a name")
