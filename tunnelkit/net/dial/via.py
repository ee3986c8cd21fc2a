"""Reading ``--via``: the URLs of network proxies, and the file with a password (N1, X13).

A `ConfigError` from here never repeats a user name or password.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from urllib.parse import unquote

import attrs
import idna
from twisted.internet.abstract import isIPv6Address

from tunnelkit.errors import ConfigError
from tunnelkit.net.sockets.tcp import format_address

DEFAULT_PORT = 1080
"""For every scheme but one, as with curl."""
_HTTPS_PORT = 443

# socks5h is curl's word for 'the proxy resolves names', which is always so here; socks is GNOME's.
_SCHEMES = {
    "socks4": "socks4",
    "socks4a": "socks4a",
    "socks5": "socks5",
    "socks5h": "socks5",
    "socks": "socks5",
    "http": "http",
    "https": "https",
}
_EXPECTED = (
    "expected socks4://, socks4a://, socks5://, http:// or https://[USER:PASSWORD@]HOST[:PORT], "
    "pac:FILE, pac:URL, none or auto"
)
_MAX_PASSWORD = 1024


@attrs.frozen
class Hop:
    """One proxy on the way. Its text never has the user name or password in it (X13)."""

    scheme: str
    """``socks4``, ``socks4a``, ``socks5``, ``http``, or ``https``, which is HTTP inside TLS."""
    host: str
    port: int
    user: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{format_address((self.host, self.port))}"


@attrs.frozen
class Pac:
    """A proxy auto-configuration script, which says which proxy leads where."""

    place: str
    """The absolute path of a file, or an ``http`` or ``https`` URL."""

    @property
    def is_file(self) -> bool:
        """Whether it is on this machine."""
        return "://" not in self.place

    def __str__(self) -> str:
        """For messages: without the query of a URL, which may be anything."""
        return f"the PAC file {self.place.partition('?')[0]}"


Via = tuple[Hop, ...] | Pac | None
"""A way out: through these proxies, the one to dial first in front (none: directly); as a script
says; None: as this machine is set up."""


def ascii_host(host: str) -> str:
    """A host as it goes on the wire: an address without brackets, or a name in ASCII (IDNA).

    Raises `ConfigError` for what cannot be one.
    """
    if host.startswith("[") and host.endswith("]") and isIPv6Address(host[1:-1]):
        return host[1:-1]
    if isIPv6Address(host):
        return host
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        name = ""
    labels = name.removesuffix(".").split(".")
    well_formed = all(0 < len(label) <= 63 for label in labels) and len(name) <= 254
    if not well_formed or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ConfigError(f"{host[:80]!r} is not a host name or address")
    return name


def parse_hop(url: str, option: str = "--via") -> Hop:
    """One proxy from its URL; raises `ConfigError`, which never repeats user or password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ConfigError(f"{option}: {_EXPECTED}")
    if scheme.lower() not in _SCHEMES:
        shown = scheme if re.fullmatch(r"[A-Za-z0-9+.-]{1,16}", scheme) else "this"
        raise ConfigError(f"{option}: {shown} is not a kind of proxy known here; {_EXPECTED}")
    scheme = _SCHEMES[scheme.lower()]
    login, _, place = rest.removesuffix("/").rpartition("@")
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^][:/?#%\s]+)(?::([0-9]{1,5}))?", place)
    port = _HTTPS_PORT if scheme == "https" else DEFAULT_PORT
    if match is not None and match[2]:
        port = int(match[2])
    if match is None or not 0 < port <= 0xFFFF:
        raise ConfigError(
            f"{option}: behind {scheme}:// or its @ there is no HOST or HOST:PORT"
            " (IPv6 in brackets; @ : / in a user name or password as %40 %3A %2F)"
        )
    try:
        host = ascii_host(match[1])
    except ConfigError as problem:
        raise ConfigError(f"{option}: {problem}") from None
    user, password = _parse_login(login, option)
    hop = Hop(scheme, host, port, user, password)
    if hop.password is not None and scheme.startswith("socks4"):
        raise ConfigError(f"{option}: {hop}: SOCKS 4 has user names and no passwords")
    return hop


def _parse_login(login: str, option: str) -> tuple[str | None, str | None]:
    if not login:
        return None, None
    user, colon, password = login.partition(":")
    try:
        user, password = unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError(f"{option}: the user name or password is not UTF-8") from None
    if not user:
        raise ConfigError(f"{option}: there is a password and no user name")
    return user, password if colon else None


def parse_via(
    urls: Sequence[str], password: str | None = None, option: str = "--via"
) -> tuple[Hop, ...]:
    """The proxies of a chain, the one to dial first at the front.

    ``password`` is for the one proxy that has a user name and no password.
    Raises `ConfigError`.
    """
    hops = [parse_hop(url, option) for url in urls]
    wanting = [
        place
        for place, hop in enumerate(hops)
        if hop.user is not None and hop.password is None and not hop.scheme.startswith("socks4")
    ]
    if password is not None:
        if len(wanting) != 1:
            raise ConfigError(
                f"{option}: a password from a file needs exactly one proxy with a user name"
                f" and no password (USER@HOST), and there are {len(wanting)}"
            )
        place = wanting.pop()
        hops[place] = attrs.evolve(hops[place], password=password)
    if wanting:
        raise ConfigError(
            f"{option}: {hops[wanting[0]]}: there is a user name and no password;"
            " give it with --via-password-file"
        )
    for hop in hops:
        _check_login(hop, option)
    return tuple(hops)


def _check_login(hop: Hop, option: str) -> None:
    user, password = hop.user or "", hop.password or ""
    if hop.scheme in ("http", "https"):
        if ":" in user:
            raise ConfigError(f"{option}: {hop}: HTTP user names cannot have a colon")
    elif len(user.encode()) > 255 or len(password.encode()) > 255:
        raise ConfigError(
            f"{option}: {hop}: SOCKS carries user names and passwords of at most 255 bytes"
        )
    elif "\0" in user and hop.scheme != "socks5":
        raise ConfigError(f"{option}: {hop}: SOCKS 4 user names cannot have a NUL")


def read_password_file(path: str) -> str:
    """The password in a file that only its owner can read, less one newline at its end (X13)."""
    what = f"--via-password-file {path}"
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_PASSWORD + 3)
    except OSError as problem:
        raise ConfigError(f"{what}: {problem.strerror or problem}") from None
    if stat.S_ISREG(mode) and mode & 0o077:
        raise ConfigError(f"{what}: others can read it (mode {mode & 0o777:04o}); chmod 600 it")
    try:
        password = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigError(f"{what}: it is not UTF-8 text") from None
    if not password or len(password) > _MAX_PASSWORD or "\n" in password:
        raise ConfigError(f"{what}: expected one line of 1 to {_MAX_PASSWORD} characters")
    return password
