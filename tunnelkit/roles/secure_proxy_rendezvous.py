"""Meeting at a Communication Server with any channel protocol: ``tunnel-end --rendezvous
secure-proxy``. Who names a ``--target`` asks for it; who names none is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IRendezvous, IUsesIdentity
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.secureproxy.rendezvous import (
    InitiatorRendezvous,
    SessionMeeting,
    TargetRendezvous,
)
from tunnelkit.net.secureproxy.sites import Sites
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.policy.identity import Identity
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import to_name
from tunnelkit.roles.secure_proxy_link import (
    NO_SERVER_CA,
    LinkConfig,
    asked_for,
    configure_link,
    resource,
)
from tunnelkit.wire.secureproxy import Resource


@attrs.frozen
class Config:
    """The server, and who asks whom for what."""

    link: LinkConfig
    target: str | None
    """Whom to ask for; None: this end is asked for."""
    resource: str
    peers: frozenset[str]
    """Whom this end takes in."""


def configure(settings: Settings) -> Config:
    """See `IRendezvousMaker`."""
    peers = frozenset(given.parsed(to_name) for given in settings.all("peer"))
    return Config(configure_link(settings), asked_for(settings), resource(settings), peers)


def describe(config: Config) -> str:
    """See `IRendezvousMaker`."""
    what = f"for {config.target}/" if config.target is not None else "publishing "
    return f"server {format_address(config.link.server)} {what}{config.resource}"


def make_rendezvous(reactor: Any, config: Config) -> SecureProxyRendezvous:
    """See `IRendezvousMaker`."""
    make = AskingRendezvous if config.target is not None else AskedRendezvous
    return make(Shared.of(reactor), config)


@implementer(IRendezvous, IUsesIdentity)
class SecureProxyRendezvous(Service):
    """Connects to the server as who has the end's identity; a subclass says what for."""

    serves = False

    def __init__(self, shared: Shared, config: Config) -> None:
        self._shared = shared
        self._config = config
        self._link: ServerLink | None = None

    def use_identity(self, identity: Identity) -> None:
        """See `IUsesIdentity`; raises `ConfigError` if it does not say which servers to trust."""
        link = self._config.link
        if not (link.authorities or identity.credentials.authorities):
            raise ConfigError(NO_SERVER_CA)
        if self._link is None:
            self._link = link.link(self._shared, link.way(self._shared.reactor), identity)
            self._begin(self._link, identity.name)
        else:
            link.renew(self._link, identity)

    def _begin(self, link: ServerLink, name: str) -> None:
        """Go by ``link`` as ``name``."""
        raise NotImplementedError

    def meet(self, on_waiting: Callable[[str], object] | None = None) -> Deferred[SessionMeeting]:
        """See `IRendezvous`."""
        raise NotImplementedError


class AskingRendezvous(SecureProxyRendezvous):
    """Asks for one other client."""

    def _begin(self, link: ServerLink, name: str) -> None:
        config = self._config
        assert config.target is not None
        self._asks = InitiatorRendezvous(link, name, config.target, config.resource)

    def meet(self, on_waiting: Callable[[str], object] | None = None) -> Deferred[SessionMeeting]:
        """See `InitiatorRendezvous`."""
        return Deferred.fromCoroutine(self._asks.meet(on_waiting))


class AskedRendezvous(SecureProxyRendezvous):
    """Waits for others, present at the server from the first meeting that is wanted on until none
    is wanted any more."""

    serves = True

    def _begin(self, link: ServerLink, name: str) -> None:
        config = self._config
        offered = (Resource(config.resource),)
        self._waits = TargetRendezvous(link, name, offered, config.peers, Sites(link, {}))
        self._present = False

    def meet(self, on_waiting: Callable[[str], object] | None = None) -> Deferred[SessionMeeting]:
        """See `TargetRendezvous`."""
        if not self._present:
            self._present = True
            self._waits.start()
        return self._waits.meet(on_waiting).addErrback(self._unwanted)

    def stopService(self) -> None:
        """Leave the server."""
        Service.stopService(self)
        self._leave("this end is stopping")

    def _unwanted(self, failure: Failure) -> Failure:
        # Nothing but its being cancelled lets a meeting fail that is waited for.
        self._leave("no tunnel is wanted any more")
        return failure

    def _leave(self, reason: str) -> None:
        if self._present:
            self._present = False
            self._waits.stop(reason)
