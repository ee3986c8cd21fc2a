"""What a client of a Communication Server publishes, as its options say it (rows S4, S10)."""

from __future__ import annotations

import re

import attrs

from tunnelkit.core.secureproxy.names import normal_host
from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import TCP, parse_host_port
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings
from tunnelkit.wire.secureproxy import PASS, WEB, Resource

DEFAULT_RESOURCE = "tunnel"
RESOURCE = re.compile(r"[A-Za-z0-9@_](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9_])?")


@attrs.frozen
class Published:
    """One ``--publish``."""

    resource: Resource
    site: tuple[str, int] | None = None
    """Host and port of the web server, for a ``pass`` or a ``web``."""


def published_resources(settings: Settings) -> tuple[Published, ...]:
    """All of ``--publish``; raises `ConfigError`."""
    found: dict[str, Published] = {}
    for given in settings.all("publish"):
        one = given.parsed(parse_published)
        if one.resource.name in found:
            given.wrong("it is published already", "each NAME once")
        found[one.resource.name] = one
    return tuple(found.values())


def with_tunnel(published: tuple[Published, ...], rules: bool) -> tuple[Published, ...]:
    """A client with rules and nothing published offers the session that is asked for."""
    if published or not rules:
        return published
    return (Published(Resource(DEFAULT_RESOURCE)),)


def parse_published(text: str) -> Published:
    """``NAME``, ``NAME=session``, ``pass:HOST=tcp:HOST:PORT`` or ``web:HOST=http://HOST:PORT``."""
    name, equals, what = text.partition("=")
    kind, colon, host = name.partition(":")
    if not colon:
        if equals and what != "session":
            raise ConfigError(f"'{printable(what)}' is not possible: expected NAME=session")
        return Published(Resource(session_name(name)))
    normal = normal_host(host)
    if kind not in (PASS, WEB) or normal is None:
        raise ConfigError(
            f"'{printable(name)}' cannot be published: expected NAME, "
            "pass:HOST=tcp:HOST:PORT or web:HOST=http://HOST:PORT"
        )
    resource = Resource(f"{kind}:{normal}", kind, normal)
    prefix = "http://" if kind == WEB else f"{TCP}:"
    place = what.removeprefix(prefix).removesuffix("/" if kind == WEB else "")
    if not what.startswith(prefix):
        raise ConfigError(f"'{printable(what)}' is no web server: expected {prefix}HOST:PORT")
    return Published(resource, parse_host_port(place))


def session_name(text: str) -> str:
    """The name of a resource for sessions; raises `ConfigError`."""
    if not RESOURCE.fullmatch(text):
        raise ConfigError(
            f"'{printable(text)}' is not a resource's name: expected 1 to 64 letters, digits, "
            "'.', '_', '@' or '-'"
        )
    return text
