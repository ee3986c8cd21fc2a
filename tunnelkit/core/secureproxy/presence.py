"""What clients publish at a Communication Server, and what they are told of each other (row S4)."""

from __future__ import annotations

from tunnelkit.core.secureproxy.commands import Close, Decided
from tunnelkit.core.secureproxy.connection import ServerConnection, State
from tunnelkit.core.secureproxy.hall import Due, Hall
from tunnelkit.core.secureproxy.policy import Verdict
from tunnelkit.core.secureproxy.registry import Offer, Registration
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.json_body import dump
from tunnelkit.wire.secureproxy import (
    GROUP,
    MAX_BODY,
    MAX_ENTRIES,
    Entry,
    Lookup,
    Ok,
    Presence,
    Publish,
    Resource,
)

SOON = 0.2
"""Seconds for which changes are collected before watchers are told."""
_ROOM = MAX_BODY - 1024
"""Bytes of a PRESENCE for its entries."""


class Publishing:
    """PUBLISH, LOOKUP, and telling those who watch."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    # -- PUBLISH ----------------------------------------------------------------

    def publish(self, connection: ServerConnection, message: Publish, now: float) -> None:
        """PUBLISH on a registered connection; nothing of a table that is refused counts.

        Raises `RemoteProtocolError`.
        """
        hall = self._hall
        registration = hall.registry.get(connection.name)
        assert registration is not None  # the state: it is registered
        last = registration.published
        if last is not None and now - last < hall.limits.publish:
            raise RemoteProtocolError("PUBLISH comes too often", code=Code.LIMIT)
        registration.published = now
        offers = {
            resource.name: self._offer(registration, resource, now)
            for resource in message.resources
        }
        most = hall.limits.groups
        if len(frozenset().union(*(offer.groups for offer in offers.values()))) > most:
            raise RemoteProtocolError(f"more than {most} groups", code=Code.LIMIT)
        self._put(registration, offers, now)
        hall.send(connection, Ok(), now)

    def _offer(self, registration: Registration, resource: Resource, now: float) -> Offer:
        hall = self._hall
        name = registration.name
        verdict = hall.policy.may_publish(name, resource.name)
        groups, membership = hall.policy.groups_of(name, resource)
        if verdict and not membership:
            verdict = membership
        if not verdict or resource.name not in registration.offers:
            hall.decide(name, "publish", resource.name, verdict, registration.connection.observed)
        if not verdict:
            raise RemoteProtocolError(
                f"no rule allows {name} to publish {resource.name}", code=Code.NOT_ALLOWED
            )
        owner = None if resource.host is None else hall.registry.host_owner(resource.host)
        if owner is not None and owner is not registration:
            what = f"{resource.name}: {owner.name} publishes this host already"
            hall.do(Decided(name, "publish", resource.name, False, what, ""))
            raise RemoteProtocolError(f"{resource.host} is taken", code=Code.REFUSED)
        return Offer(resource, groups, None if resource.ttl is None else now + resource.ttl)

    def _put(self, registration: Registration, offers: dict[str, Offer], now: float) -> None:
        hall = self._hall
        for gone in hall.registry.publish(registration, offers):
            self.close_spares(gone)
        times = [offer.until for offer in offers.values() if offer.until is not None]
        if times:
            hall.deadlines.set((Due.EXPIRY, registration), min(times))
        else:
            hall.deadlines.clear((Due.EXPIRY, registration))
        self.tell_soon(now)

    def close_spares(self, offer: Offer) -> None:
        """Nobody will come for them."""
        for spare in offer.spares:
            self._hall.forget(spare)
            spare.state = State.ENDED
            self._hall.do(Close(spare, f"{offer.resource.name} is published no more"))
        offer.spares.clear()

    def expire(self, registration: Registration, now: float) -> None:
        """A time is over: withdraw what it was for."""
        left = {
            name: offer
            for name, offer in registration.offers.items()
            if offer.until is None or offer.until > now
        }
        self._put(registration, left, now)

    def review(self, registration: Registration, now: float) -> list[str]:
        """The policy is another: withdraw what it does not allow any more, and name it."""
        hall = self._hall
        left, gone = {}, []
        for name, offer in registration.offers.items():
            verdict = hall.policy.may_publish(registration.name, name)
            groups, membership = hall.policy.groups_of(registration.name, offer.resource)
            if verdict and membership:
                left[name] = Offer(offer.resource, groups, offer.until, offer.spares)
                continue
            gone.append(name)
            hall.decide(
                registration.name,
                "publish",
                name,
                membership if verdict else verdict,
                registration.connection.observed,
            )
        self._put(registration, left, now)
        return gone

    # -- LOOKUP -----------------------------------------------------------------

    def look_up(self, connection: ServerConnection, message: Lookup, now: float) -> None:
        """LOOKUP on a control connection. Raises `RemoteProtocolError`."""
        hall = self._hall
        target = message.target
        verdict = hall.decide(
            connection.name, "look up", target, self._may_know(connection, target),
            connection.observed,
        )  # fmt: skip
        if not verdict:
            raise RemoteProtocolError("no rule allows it", code=Code.NOT_ALLOWED)
        if message.watch:
            watched = connection.watched or set()
            if target not in watched and len(watched) >= hall.limits.watches:
                raise RemoteProtocolError(
                    f"more than {hall.limits.watches} watched", code=Code.LIMIT
                )
            connection.watched = watched | {target}
            hall.registry.watch(connection, target)
        hall.send(connection, self._presence(connection, target), now)

    def _may_know(self, connection: ServerConnection, target: str) -> Verdict:
        registration = self._hall.registry.get(target)
        groups = frozenset() if registration is None else registration.groups()
        return self._hall.policy.may_look_up(connection.name, target, groups)

    def _presence(self, connection: ServerConnection, target: str) -> Presence:
        registry = self._hall.registry
        if not target.startswith(GROUP):
            entry = self._entry(connection, target, registry.get(target))
            return Presence(target, (entry,))
        members = registry.members(target[len(GROUP) :])
        entries: list[Entry] = []
        room = _ROOM
        for member in sorted(members, key=lambda one: one.name)[:MAX_ENTRIES]:
            entry = self._entry(connection, member.name, member)
            room -= len(dump(entry.fields()).encode("utf-8")) + 1
            if room < 0:
                break
            entries.append(entry)
        return Presence(target, tuple(entries), len(entries) < len(members))

    def _entry(
        self, connection: ServerConnection, name: str, registration: Registration | None
    ) -> Entry:
        """``name`` with the resources for which the asker may connect to it."""
        if registration is None:
            return Entry(name, False)
        policy = self._hall.policy
        allowed = tuple(
            resource
            for resource, offer in registration.offers.items()
            if policy.may_connect(connection.name, name, resource, offer.groups)
        )
        return Entry(name, True, allowed)

    def tell_soon(self, now: float) -> None:
        """Something has changed: those who watch it are told when the moment is over."""
        key = (Due.CHANGES, None)
        if self._hall.registry.changes() and key not in self._hall.deadlines:
            self._hall.deadlines.set(key, now + SOON)

    def tell(self, now: float) -> None:
        """Tell those who watch what has changed; who may not know any more watches no more."""
        for connection, target in self._hall.registry.take_changes():
            if self._may_know(connection, target):
                self._hall.send(connection, self._presence(connection, target), now)
            else:
                self.unwatch(connection, target)

    def unwatch(self, connection: ServerConnection, target: str | None = None) -> None:
        """Watch ``target`` no more, or nothing any more."""
        watched = connection.watched or set()
        for one in [target] if target is not None else list(watched):
            self._hall.registry.unwatch(connection, one)
            watched.discard(one)
        connection.watched = watched or None
