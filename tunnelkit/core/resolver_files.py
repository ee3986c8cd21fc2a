"""What resolv.conf(5) and hosts(5) say, as far as looking up names goes by them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

import attrs

from tunnelkit.core.dns_exchange import INTERVAL, ROUNDS, Server

PORT = 53
MOST_SERVERS = 3
MOST_DOMAINS = 16
MOST_DOTS = 15
LONGEST_TIMEOUT = 30
MOST_ATTEMPTS = 5


@attrs.frozen
class ResolverSettings:
    """What a resolv.conf says."""

    servers: tuple[Server, ...] = (("127.0.0.1", PORT),)
    """In order; this machine's own if there are none."""
    search: tuple[str, ...] = ()
    """Domains to try behind a name, without dots at their ends."""
    ndots: int = 1
    """Names with so many dots are tried as they are first."""
    timeout: float = INTERVAL
    """Seconds for one try."""
    attempts: int = ROUNDS
    """How often each resolver is asked."""
    rotate: bool = False
    """Begin with another resolver each time."""
    over_tcp: bool = False
    """``use-vc``: ask over TCP only."""

    def candidates(self, host: str) -> list[str]:
        """The names that ``host`` may mean, in the order in which they are asked for."""
        if host.endswith("."):
            return [host[:-1]]
        longer = [f"{host}.{domain}" for domain in self.search]
        return [host, *longer] if host.count(".") >= self.ndots else [*longer, host]


def parse_resolv_conf(text: str, hostname: str = "") -> ResolverSettings:
    """Read a resolv.conf; lines that make no sense are passed over, as every resolver does.

    ``hostname``: this machine's, whose domain is searched if the file names none.
    """
    servers: list[Server] = []
    search = hostname.partition(".")[2].split()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            if _is_address(words[1]):
                servers.append((words[1], PORT))
        elif words[0] in ("search", "domain"):
            search = words[1:] if words[0] == "search" else words[1:2]
        elif words[0] == "options":
            options += words[1:]
    numbers = dict(option.split(":", 1) for option in options if ":" in option)
    return ResolverSettings(
        servers=tuple(servers[:MOST_SERVERS]) or ResolverSettings().servers,
        search=tuple(filter(None, (domain.strip(".").lower() for domain in search[:MOST_DOMAINS]))),
        ndots=int(_number(numbers.get("ndots"), 1, 0, MOST_DOTS)),
        timeout=_number(numbers.get("timeout"), INTERVAL, 1, LONGEST_TIMEOUT),
        attempts=int(_number(numbers.get("attempts"), ROUNDS, 1, MOST_ATTEMPTS)),
        rotate="rotate" in options,
        over_tcp="use-vc" in options,
    )


def parse_hosts(text: str) -> Mapping[str, tuple[str, ...]]:
    """Read a hosts file: names in lower case to their addresses, in order."""
    found: dict[str, dict[str, None]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and _is_address(words[0]) and "%" not in words[0]:
            address = str(ip_address(words[0]))
            for name in words[1:]:
                found.setdefault(name.lower().removesuffix("."), {})[address] = None
    return {name: tuple(addresses) for name, addresses in found.items()}


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _number(text: str | None, default: float, least: int, most: int) -> float:
    if text is None or not (text.isascii() and text.isdigit()):
        return default
    return min(max(int(text[:9]), least), most)
