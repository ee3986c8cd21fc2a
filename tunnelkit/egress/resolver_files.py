"""This machine's resolv.conf and hosts file, read again when they change."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Generic, TypeVar

from tunnelkit.core.dns_exchange import Server
from tunnelkit.core.resolver_files import (
    PORT,
    ResolverSettings,
    parse_hosts,
    parse_resolv_conf,
)
from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import split_host_port, to_port
from tunnelkit.policy.printable import printable

RESOLV_CONF = "/etc/resolv.conf"
HOSTS = "/etc/hosts"
LARGEST = 4 << 20
"""Bytes of a file that are read."""

T = TypeVar("T")


class _File(Generic[T]):
    """What ``parse`` makes of a file's text; of an empty one while it cannot be read."""

    def __init__(self, path: str, parse: Callable[[str], T]) -> None:
        self._path = path
        self._parse = parse
        self._seen: tuple[int, int, int] | None = None
        self._content = parse("")

    def read(self) -> T:
        """The content as it is now."""
        try:
            state = os.stat(self._path)
            seen = (state.st_mtime_ns, state.st_ino, state.st_size)
            if seen != self._seen:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._content = self._parse(file.read(LARGEST))
                self._seen = seen
        except OSError:
            self._seen, self._content = None, self._parse("")
        return self._content


class ResolverFiles:
    """The two files; asking costs one ``stat`` each."""

    def __init__(self, resolv_conf: str = RESOLV_CONF, hosts: str = HOSTS) -> None:
        parse = partial(parse_resolv_conf, hostname=socket.gethostname())
        self._settings: _File[ResolverSettings] = _File(resolv_conf, parse)
        self._hosts: _File[Mapping[str, tuple[str, ...]]] = _File(hosts, parse_hosts)

    def settings(self) -> ResolverSettings:
        """What resolv.conf says now."""
        return self._settings.read()

    def hosts(self) -> Mapping[str, tuple[str, ...]]:
        """What the hosts file says now, see `parse_hosts`."""
        return self._hosts.read()


def parse_server(text: str) -> Server:
    """``ADDRESS[:PORT]`` of a resolver; IPv6 in brackets before a port. Raises `ConfigError`."""
    try:
        return str(ip_address(text)), PORT
    except ValueError:
        pass
    host, port = split_host_port(text)
    try:
        return str(ip_address(host)), to_port(port)
    except ValueError:
        raise ConfigError(
            f"'{printable(text, 80)}' is not a resolver: expected ADDRESS or ADDRESS:PORT"
        ) from None
