"""``--via auto``: which proxy this machine is set up to use (N1).

The environment's variables, in the order of how well they fit a tunnel: ``auto_proxy`` (a PAC
file, which knows more than the others can say), ``all_proxy`` (any protocol), ``https_proxy`` (a
proxy that does CONNECT), ``http_proxy``; lower case goes before upper case. ``no_proxy`` lists
what is reached directly.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Protocol

import attrs

_VARIABLES = ("auto_proxy", "all_proxy", "https_proxy", "http_proxy")
_WITH_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*):(?P<port>[0-9]{1,5})")


class ProxySource(Protocol):
    """Something that knows at once which proxy leads to a destination."""

    def proxy_for(self, host: str, port: int) -> str | None:
        """The proxy's URL, as for ``--via``, or ``pac:``; None: connect directly."""

    def describe(self) -> str:
        """Where it knows it from, in words."""


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


@attrs.frozen
class _Entry:
    """One entry of ``no_proxy``: a network, or a host name with everything below it."""

    network: _Network | None
    name: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> _Entry:
        port = None
        match = _WITH_PORT.fullmatch(text)
        if match is not None:
            text, port = match["host"], int(match["port"])
        return cls(_network(text), text.lower().removeprefix("*").strip("."), port)

    def covers(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        address = _address(host)
        if address is not None:
            return self.network is not None and address in self.network
        return bool(self.name) and (host == self.name or host.endswith("." + self.name))


class EnvironmentProxy:
    """The proxy that ``environ`` names, if any; `url` is not to be shown, it may hold a password.

    Entries of ``no_proxy`` (separated by commas or blanks): ``*`` for everything; a host
    name, which covers the names below it too, with or without ``.`` or ``*.`` before it;
    an address; a network in CIDR; each with ``:PORT`` if it is for one port only. Names
    are not resolved. ``localhost`` and loopback addresses are always reached directly.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.variable, self.url = "", ""
        for name in _VARIABLES:
            for spelling in (name, name.upper()):
                value = environ.get(spelling, "").strip()
                if spelling == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
                    continue  # in CGI programs that is the client's header "Proxy:"
                if value and not self.url:
                    self.variable = spelling
                    if name == "auto_proxy":
                        self.url = f"pac:{value.removeprefix('pac:')}"
                        continue
                    # As curl does: a proxy without scheme is an HTTP proxy.
                    self.url = value if "://" in value else f"http://{value}"
        exceptions = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        words = exceptions.replace(",", " ").split()
        self._everything = "*" in words
        self._entries = [_Entry.parse(word) for word in words]

    def proxy_for(self, host: str, port: int) -> str | None:
        """The proxy's URL; None: connect directly."""
        host = host.lower().strip("[]").removesuffix(".")
        if not self.url or self._everything or self._is_here(host):
            return None
        if any(entry.covers(host, port) for entry in self._entries):
            return None
        return self.url

    def describe(self) -> str:
        """The variable that names the proxy, in words."""
        return f"${self.variable}" if self.variable else "no proxy in the environment"

    @staticmethod
    def _is_here(host: str) -> bool:
        address = _address(host)
        return host == "localhost" if address is None else address.is_loopback
