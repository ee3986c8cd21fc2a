"""Who is present at a Communication Server, with what, and who wants to know (rows S4, S7, S10)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import attrs

from tunnelkit.core.secureproxy.connection import ServerConnection
from tunnelkit.core.secureproxy.names import HostTable
from tunnelkit.wire.secureproxy import GROUP, SESSION, Resource


@attrs.define(eq=False)
class Offer:
    """One published resource."""

    resource: Resource
    groups: frozenset[str]
    """In which it is offered."""
    until: float | None
    """When it is withdrawn by itself."""
    spares: deque[ServerConnection] = attrs.field(factory=deque)
    """Connections that wait for a browser, the oldest first."""


@attrs.define(eq=False)
class Registration:
    """A client that is present."""

    name: str
    run: str
    generation: int
    """Rises with each registration of the name: what a server says later counts more."""
    connection: ServerConnection
    offers: dict[str, Offer] = attrs.field(factory=dict)
    """By the resource's name."""
    published: float | None = None
    """When it last published."""

    def groups(self) -> frozenset[str]:
        """All groups in which it offers something."""
        return frozenset().union(*(offer.groups for offer in self.offers.values()))

    def groups_with(self, resource: str) -> frozenset[str]:
        """Those in which it offers ``resource``."""
        offer = self.offers.get(resource)
        return frozenset() if offer is None else offer.groups


class Registry:
    """Of one server; where several share a name, `IRegistry` says whose counts."""

    def __init__(self) -> None:
        self._names: dict[str, Registration] = {}
        self._groups: dict[str, dict[str, Registration]] = {}
        self._hosts: HostTable[Registration] = HostTable()
        self._watchers: dict[str, dict[ServerConnection, None]] = {}
        self._changed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Registration]:
        return iter(list(self._names.values()))

    def get(self, name: str) -> Registration | None:
        """Who is present under this name."""
        return self._names.get(name)

    def add(self, connection: ServerConnection, run: str, generation: int) -> Registration:
        """``connection.name`` is present from now on. Whoever was before must be removed first."""
        made = Registration(connection.name, run, generation, connection)
        self._names[connection.name] = made
        self._changed[connection.name] = None
        return made

    def remove(self, registration: Registration) -> None:
        """It is gone, and everything that it published."""
        self.publish(registration, {})
        del self._names[registration.name]
        self._changed[registration.name] = None

    def host_owner(self, host: str) -> Registration | None:
        """Who publishes exactly this host."""
        return self._hosts.get(host)

    def publish(self, registration: Registration, offers: dict[str, Offer]) -> list[Offer]:
        """``offers`` is the whole table: those that are not in it any more.

        The hosts in it must be free, or the registration's own. An offer that stays keeps what it
        has.
        """
        before, groups = registration.offers, registration.groups()
        for offer in _with_host(before.values()):
            self._hosts.remove(str(offer.resource.host))
        for name, offer in offers.items():
            if name in before:
                offer.spares = before[name].spares
        registration.offers = offers
        for offer in _with_host(offers.values()):
            self._hosts.put(str(offer.resource.host), registration)
        for group in groups - registration.groups():
            del self._groups[group][registration.name]
            if not self._groups[group]:
                del self._groups[group]
        for group in registration.groups() - groups:
            self._groups.setdefault(group, {})[registration.name] = registration
        self._changed.update(dict.fromkeys(GROUP + group for group in groups))
        self._changed.update(dict.fromkeys(GROUP + group for group in registration.groups()))
        self._changed[registration.name] = None
        return [offer for name, offer in before.items() if name not in offers]

    def members(self, group: str) -> list[Registration]:
        """All that offer something in ``group``."""
        return list(self._groups.get(group, {}).values())

    def publisher(self, kind: str, host: str) -> tuple[Registration, Offer] | None:
        """Who publishes ``host`` in this way; an exact name goes before a wildcard."""
        registration = self._hosts.find(host)
        if registration is None:
            return None
        for offer in registration.offers.values():
            covers = offer.resource.host in (host, f"*.{host.partition('.')[2]}")
            if covers and offer.resource.kind == kind:
                return registration, offer
        return None

    # -- watching -------------------------------------------------------------

    def watch(self, connection: ServerConnection, target: str) -> None:
        """Tell ``connection`` when something about ``target`` changes."""
        self._watchers.setdefault(target, {})[connection] = None

    def unwatch(self, connection: ServerConnection, target: str) -> None:
        """Tell it no more."""
        watchers = self._watchers[target]
        del watchers[connection]
        if not watchers:
            del self._watchers[target]

    def changes(self) -> bool:
        """Whether somebody is to be told of something; what nobody watches is forgotten."""
        self._changed = {target: None for target in self._changed if target in self._watchers}
        return bool(self._changed)

    def take_changes(self) -> list[tuple[ServerConnection, str]]:
        """Whom to tell of what."""
        changed, self._changed = self._changed, {}
        return [
            (connection, target)
            for target in changed
            for connection in self._watchers.get(target, ())
        ]


def _with_host(offers: Iterable[Offer]) -> list[Offer]:
    return [offer for offer in offers if offer.resource.kind != SESSION]
