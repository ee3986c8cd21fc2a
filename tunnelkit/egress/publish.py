"""Trusted sockets on the inside: what this end publishes, and where it leads (rows T1, T2).

The publication of a service is the permission to have it connected to its
destination, and to no other, while it is valid; no rule is needed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from ipaddress import ip_network
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.logger import Logger

from tunnelkit.core.decision import Decision
from tunnelkit.core.socket_table import LONGEST_TTL, SocketTable, TrustedSocket
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest, refuse
from tunnelkit.errors import Code, ConfigError, LocalProtocolError, NotAuthorized
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.acl import Policy, PolicyHolder, Prospect
from tunnelkit.policy.destination import (
    SERVICE,
    TCP,
    UNIX,
    Destination,
    parse_destination,
    to_port,
    to_service_name,
)
from tunnelkit.policy.printable import printable
from tunnelkit.policy.rules import parse_rule

_log = Logger()

EXPECTED = "NAME=HOST:PORT[,until=TIME][,listen=PORT]"

_LONGEST_SLEEP = 3600.0
_OPTION = re.compile(r"(.*),(until|listen)=([^,]*)\Z", re.DOTALL)
_SECONDS = re.compile(r"\+([0-9]{1,9})\Z")
_LOCALHOST = tuple(map(ip_network, ("127.0.0.0/8", "::1/128")))


@attrs.frozen
class PublishSpec:
    """One ``--publish``."""

    text: str
    """As it was given."""
    name: str
    destination: Destination
    until: float | None = None
    """Time in seconds since 1970 at which it ends."""
    listen: int | None = None
    """Port that the outside is asked to open."""


def parse_publish(text: str) -> PublishSpec:
    """Read ``NAME=DESTINATION[,until=TIME][,listen=PORT]`` (row T1).

    DESTINATION is ``HOST:PORT``, ``tcp:HOST:PORT`` or ``unix:PATH``; TIME is
    ISO 8601, local time where no offset is given, or ``+SECONDS`` from now.
    Raises `ConfigError`.
    """
    try:
        name, equals, target = text.partition("=")
        if not equals:
            raise ConfigError(f"there is no '='; expected {EXPECTED}")
        if to_service_name(name).startswith("@"):
            raise ConfigError("names with '@' are the protocol's own; expected another one")
        given: dict[str, str] = {}
        while match := _OPTION.match(target):
            target, option, value = match.groups()
            if option in given:
                raise ConfigError(f"{option}= is there twice; expected it once")
            given[option] = value
        if not target.startswith((f"{TCP}:", f"{UNIX}:")):
            target = f"{TCP}:{target}"
        return PublishSpec(
            text,
            name,
            parse_destination(target),
            _to_time(given["until"]) if "until" in given else None,
            to_port(given["listen"]) if "listen" in given else None,
        )
    except ConfigError as error:
        raise ConfigError(f"publish '{printable(text, 80)}': {error}") from None


def _to_time(text: str) -> float:
    """Seconds since 1970."""
    now = time.time()
    if match := _SECONDS.match(text):
        until = now + int(match[1])
    else:
        try:
            # 'Z' is not known to all versions of Python.
            iso = text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text
            until = datetime.fromisoformat(iso).timestamp()
        except (ValueError, OverflowError, OSError):
            raise ConfigError(
                f"'{printable(text, 40)}' is not a time; expected one such as "
                "2030-12-31T18:00+01:00, or +SECONDS"
            ) from None
    if until - now > LONGEST_TTL:
        raise ConfigError("the time is more than 10 years from now; expected an earlier one")
    return until


def check_publications(specs: Iterable[PublishSpec]) -> None:
    """Raise `ConfigError` if they do not go together."""
    table = SocketTable()
    names: set[str] = set()
    for spec in specs:
        if spec.name in names:
            raise ConfigError(f"the service {spec.name} is published twice: expected it once")
        names.add(spec.name)
        _add(table, TrustedSocket(spec.name))


def _add(table: SocketTable, entry: TrustedSocket) -> None:
    try:
        table.add(entry)
    except LocalProtocolError as error:
        raise ConfigError(f"publish: {error}: expected fewer or shorter ones") from None


class Publisher(Service):
    """Keeps ``table`` as configured, and answers ``service:NAME`` at ``egress``.

    ``announce()`` tells the far sides when it has changed.
    """

    def __init__(
        self, reactor: Any, egress: Egress, table: SocketTable, announce: Callable[[], object]
    ) -> None:
        self._reactor = reactor
        self._egress = egress
        self._table = table
        self._announce = announce
        self._specs: dict[str, PublishSpec] = {}
        self._timer = Timer(reactor, self._expire)
        egress.answer_with(SERVICE, self.answer)

    def replace(self, specs: Iterable[PublishSpec]) -> list[str]:
        """Publish ``specs`` and nothing else from now on; what that changes, in words.

        What is given with the same text as before keeps its end, ``+SECONDS`` too.
        Raises `ConfigError`, and nothing has changed then.
        """
        wanted = {spec.name: spec for spec in specs}
        own = {entry.name for entry in self._table} - set(self._specs)
        if taken := sorted(own & set(wanted)):
            raise ConfigError(f"publish: the service {taken[0]} is accepted by a program already")
        check_publications(wanted.values())
        changes = []
        for name in [name for name in self._specs if name not in wanted]:
            del self._specs[name]
            self._table.withdraw(name)
            changes.append(f"service {name} withdrawn")
        wall, now = time.time(), self._now()
        for name, spec in wanted.items():
            old = self._specs.get(name)
            if old is not None and old.text == spec.text:
                continue
            self._specs[name] = spec
            self._table.withdraw(name)
            until = None if spec.until is None else now + spec.until - wall
            entry = TrustedSocket(name, until, spec.listen, str(spec.destination))
            if entry.is_valid(now):
                _add(self._table, entry)
                changes.append(f"service {name} published")
            else:
                changes.append(f"service {name} not published, its time is over")
        if changes:
            self._announce()
        self._set_timer()
        return changes

    def stopService(self) -> None:
        """Let nothing expire any more; requests are still looked at one by one."""
        Service.stopService(self)
        self._timer.stop()

    def answer(self, request: EgressRequest, destination: Destination) -> None:
        """Connect ``request`` to where the service leads, if it is published now (row T2)."""
        entry = self._table.get(destination.host, self._now())
        spec = self._specs.get(destination.host)
        if entry is None or spec is None:
            refuse(request, Code.NO_SUCH_SERVICE, "it is not published")
            return
        publication = _Publication(self, entry, spec.destination, self._egress.policy)
        self._egress.dial(request, spec.destination, policy=publication)

    def stands(self, entry: TrustedSocket) -> bool:
        """Whether ``entry`` is still what is published."""
        return self._table.get(entry.name, self._now()) == entry

    def _now(self) -> float:
        now: float = self._reactor.seconds()
        return now

    def _set_timer(self) -> None:
        due = self._table.next_deadline()
        self._timer.stop()
        if due is not None:
            # Timers cannot be arbitrarily long.
            self._timer.start(min(due - self._now(), _LONGEST_SLEEP))

    def _expire(self) -> None:
        if self._table.expire(self._now()):
            _log.info("A service has ended; published now: {names}", names=self._names())
            self._announce()
        self._set_timer()

    def _names(self) -> str:
        return ", ".join(entry.name for entry in self._table) or "nothing"


class _Publication:
    """What a publication allows: its destination, as a rule would, while it stands."""

    def __init__(
        self,
        publisher: Publisher,
        entry: TrustedSocket,
        destination: Destination,
        holder: PolicyHolder,
    ) -> None:
        rule = attrs.evolve(parse_rule(str(destination)), text=f"publish {entry.name}")
        if destination.host == "localhost":
            rule = attrs.evolve(rule, also=_LOCALHOST)
        self._publisher = publisher
        self._entry = entry
        self._policy = Policy((rule,), (), holder.listeners)

    def prospect(self, peer: str, action: str, protocol: str, host: str, port: int) -> Prospect:
        """See `Policy.prospect`."""
        return self._policy.prospect(peer, action, protocol, host, port)

    def authorize(
        self,
        peer: str,
        action: str,
        protocol: str,
        address: str,
        port: int,
        host: str | None = None,
    ) -> Decision:
        """See `Policy.authorize`."""
        if not self._publisher.stands(self._entry):
            raise NotAuthorized(f"service {self._entry.name} is not published any more")
        return self._policy.authorize(peer, action, protocol, address, port, host)
