"""The front ends of an end, which a reload may exchange while it runs (rows O3, R9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelkit.errors import ConfigError
from tunnelkit.frontends.registry import Wanted
from tunnelkit.interfaces import ITunnel
from tunnelkit.net.channels.contracts import Connection
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.printable import printable

_log = Logger()


class FrontEnds(MultiService):
    """What `replace` was told last is open; channels outlive the port that they came in by."""

    def __init__(self, reactor: Any, tunnel: ITunnel, policy: PolicyHolder) -> None:
        MultiService.__init__(self)
        self._reactor = reactor
        self._tunnel = tunnel
        self._policy = policy
        self._open: list[tuple[Wanted, IService]] = []
        self._told: set[tuple[str, str]] = set()
        """Of which peer it was said what it lacks."""

    @property
    def ports(self) -> tuple[str, ...]:
        """What is open, in words."""
        return tuple(text for entry in self._open for text in _shown(*entry))

    def startService(self) -> None:
        """Let clients in, and say what cannot work over a connection that comes up."""
        MultiService.startService(self)
        self._tunnel.watch(self._check)

    def stopService(self) -> Deferred[Any]:
        """Let nobody in any more."""
        self._tunnel.unwatch(self._check)
        stopped: Deferred[Any] = MultiService.stopService(self)
        return stopped

    def replace(self, wanted: Iterable[Wanted]) -> tuple[list[str], list[str]]:
        """Close what is not ``wanted`` any more and open what is new; the rest is not touched.

        Returns the descriptions of what was closed and of what was opened.
        Raises `ConfigError` if something cannot be opened; all is as before then.
        """
        stays: list[tuple[Wanted, IService]] = []
        goes = list(self._open)
        new: list[Wanted] = []
        for one in wanted:
            found = next((entry for entry in goes if _is_same(entry[0], one)), None)
            if found is None:
                new.append(one)
            else:
                goes.remove(found)
                stays.append(found)
        closed = [text for entry in goes for text in _shown(*entry)]
        try:
            made = self._make(new)
        except ConfigError:
            if not goes:
                raise
            # It may need the port of one that goes.
            self._close(goes)
            self._open = stays
            try:
                made = self._make(new)
            except ConfigError:
                self._open = [*stays, *self._adopted(self._make([one for one, _ in goes]))]
                raise
        else:
            self._close(goes)
        self._open = [*stays, *self._adopted(made)]
        if self.running:
            for connection in self._tunnel.connections:
                self._check(connection)
        return closed, [text for entry in made for text in _shown(*entry)]

    def _check(self, connection: Connection) -> None:
        for wanted, _ in self._open:
            if wanted.peers and connection.peer not in wanted.peers:
                continue
            for destination in wanted.front_end.needs(wanted.config):
                why = connection.lacks(destination)
                told = (connection.peer, destination)
                if why and told not in self._told:
                    _log.warn(
                        "--{name} to {destination} cannot work with {peer}: {why}",
                        name=wanted.front_end.name,
                        destination=destination,
                        peer=printable(connection.peer),
                        why=why,
                    )
                    self._told.add(told)
                elif not why:
                    self._told.discard(told)

    def _make(self, wanted: Sequence[Wanted]) -> list[tuple[Wanted, IService]]:
        """All of them, or none."""
        made: list[tuple[Wanted, IService]] = []
        try:
            for one in wanted:
                tunnel = self._tunnel.to(*one.peers) if one.peers else self._tunnel
                service = one.front_end.make_service(
                    self._reactor, tunnel, self._policy, one.config
                )
                made.append((one, IService(service)))
        except ConfigError:
            for _, service in made:
                service.stopService()
            raise
        return made

    def _adopted(self, made: list[tuple[Wanted, IService]]) -> list[tuple[Wanted, IService]]:
        for _, service in made:
            service.setServiceParent(self)
        return made

    def _close(self, entries: Iterable[tuple[Wanted, IService]]) -> None:
        for _, service in entries:
            service.disownServiceParent()


def descriptions(services: Iterable[Any]) -> Iterator[str]:
    """What each port among ``services``, or below one of them, says of itself."""
    for service in services:
        yield from _described(service)


def _shown(wanted: Wanted, service: Any) -> Iterator[str]:
    """With those to whom it leads, where that is not clear."""
    at = f" at {' or '.join(sorted(wanted.peers))}" if wanted.peers else ""
    return (f"{text}{at}" for text in _described(service))


def _described(service: Any) -> Iterator[str]:
    if isinstance(service, FrontEnds):
        yield from service.ports
    elif hasattr(service, "description"):
        yield service.description
    elif isinstance(service, MultiService):
        yield from descriptions(service)


def _is_same(one: Wanted, other: Wanted) -> bool:
    names = one.front_end.name, other.front_end.name
    return names[0] == names[1] and (one.config, one.peers) == (other.config, other.peers)
