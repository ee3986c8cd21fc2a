"""Ports of an end that a person opens and closes while it runs (row U15)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence

import attrs

from tunnelkit.errors import ConfigError, NotAuthorized
from tunnelkit.frontends.registry import Wanted, configured
from tunnelkit.policy.acl import BIND, Policy
from tunnelkit.policy.destination import TCP, parse_listen
from tunnelkit.policy.printable import printable
from tunnelkit.policy.rules import Rule, parse_rule
from tunnelkit.policy.settings import Given, Settings
from tunnelkit.roles.ports import FrontEnds

KINDS = ("forward", "socks", "http-proxy")
"""Front ends that may be opened so."""
LOOPBACK_ONLY = ("127.0.0.0/8:*", "[::1]:*")
MOST = 100
_LARGEST = 1 << 20


@attrs.frozen
class LivePort:
    """One of them, as it was asked for."""

    kind: str
    value: str
    """As the option of that name has it."""


def parse_allowed(text: str) -> Rule:
    """``ADDRESS:PORTS`` on which ports may be opened; raises `ConfigError`."""
    return parse_rule(f"listen:{text}")


class LivePorts:
    """Those of one end, beside what its configuration has."""

    def __init__(
        self,
        front_ends: FrontEnds,
        peers: Collection[str],
        allowed: Sequence[Rule] = (),
        file: str = "",
    ) -> None:
        """``allowed``: none: loopback. ``file``: where they are kept; empty: nowhere.

        Raises `ConfigError` if the file says what cannot be.
        """
        self._front_ends = front_ends
        self.peers = peers
        """To whom ports may lead; may be replaced."""
        self._policy = Policy(allowed or map(parse_allowed, LOOPBACK_ONLY))
        self._file = file
        self._configured: tuple[Wanted, ...] = ()
        self._ports: dict[LivePort, tuple[Wanted, ...]] = {}
        for port in _read(file) if file else ():
            self._ports[port] = self._wanted(port, f"--forwards-file {printable(file)}")

    def configure(self, wanted: Iterable[Wanted]) -> tuple[list[str], list[str]]:
        """Open what the configuration asks for, too; see `FrontEnds.replace`."""
        new = tuple(wanted)
        changed = self._front_ends.replace((*new, *self._all()))
        self._configured = new
        return changed

    @property
    def ports(self) -> tuple[LivePort, ...]:
        """Those that are open."""
        return tuple(self._ports)

    def open(self, port: LivePort) -> list[str]:
        """Open it; in words what is open now. Raises `ConfigError`."""
        if port in self._ports:
            raise ConfigError(f"{printable(port.value)}: it is open already: expected another one")
        if len(self._ports) >= MOST:
            raise ConfigError(f"{MOST} have been added already: expected one to be removed first")
        wanted = self._wanted(port, "the page")
        _, opened = self._front_ends.replace((*self._configured, *self._all(), *wanted))
        self._ports[port] = wanted
        self._keep()
        return opened

    def close(self, port: LivePort) -> list[str]:
        """Close it; in words what was closed. What came in by it goes on. Raises `ConfigError`."""
        if port not in self._ports:
            raise ConfigError(f"{printable(port.value)}: it was not added here")
        del self._ports[port]
        closed, _ = self._front_ends.replace((*self._configured, *self._all()))
        self._keep()
        return closed

    def _all(self) -> Iterator[Wanted]:
        for wanted in self._ports.values():
            yield from wanted

    def _wanted(self, port: LivePort, where: str) -> tuple[Wanted, ...]:
        if port.kind not in KINDS:
            expected = ", ".join(KINDS)
            raise ConfigError(f"{where}: {printable(port.kind)}: expected one of {expected}")
        given = Given(port.value, where)
        found = configured(Settings({port.kind: (given,)}), self.peers)
        listen = port.value.partition("=")[0] if port.kind == "forward" else port.value
        self._demand_allowed(given, listen.partition("@")[0])
        return found

    def _demand_allowed(self, given: Given, listen: str) -> None:
        """A range of ports is judged by its first and its last."""
        expected = "an address and port that --forwards-allow names (default: loopback)"
        if listen.startswith("unix:"):
            given.wrong("no unix sockets are opened from here", expected)
        host, colon, ports = listen.rpartition(":")
        for number in {ports.partition("-")[0], ports.rpartition("-")[2]}:
            address, port = parse_listen(f"{host}{colon}{number}")
            try:
                self._policy.authorize("", BIND, TCP, address, port)
            except NotAuthorized:
                given.wrong("that may not be opened from here", expected)

    def _keep(self) -> None:
        if not self._file:
            return
        text = json.dumps([attrs.asdict(port) for port in self._ports], indent=1)
        beside = f"{self._file}.{secrets.token_hex(4)}"
        try:
            number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(number, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            os.replace(beside, self._file)
        except OSError as error:
            raise ConfigError(
                f"it is done, but --forwards-file {printable(self._file)}: {error.strerror}: "
                "expected a file that can be written"
            ) from None


def _read(path: str) -> list[LivePort]:
    where = f"--forwards-file {printable(path)}"
    if not os.path.exists(path):
        return []
    try:
        with open(path, encoding="utf-8") as file:
            found = json.loads(file.read(_LARGEST))
        return [LivePort(str(one["kind"]), str(one["value"])) for one in found][:MOST]
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}: expected a readable file") from None
    except (ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{where}: it is something else: expected what the page of a role has written"
        ) from None
