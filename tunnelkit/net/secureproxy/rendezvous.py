"""How two clients of a Communication Server get a byte stream: it introduces them (S6, S7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.core.prologue import Export
from tunnelkit.core.secureproxy.prologue import Binding, SessionPrologue
from tunnelkit.errors import Code, DialError, RemoteProtocolError, TunnelkitError
from tunnelkit.interfaces import IMeeting, IRendezvous
from tunnelkit.net.channels.contracts import PathHop
from tunnelkit.net.secureproxy.control import Registration, look_up
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.secureproxy.opening import Opened, Opening
from tunnelkit.net.secureproxy.sites import Sites
from tunnelkit.net.secureproxy.spares import Spares
from tunnelkit.wire.secureproxy import (
    ANY,
    GROUP,
    PASS,
    Connect,
    Incoming,
    Resource,
    Session,
    StartSecure,
)

_log = Logger()


@implementer(IMeeting)
class SessionMeeting:
    """The TCP connection of one of the two; nothing that the server says is believed.

    ``target`` is as the initiator wrote it.
    """

    host = ""

    def __init__(
        self,
        link: ServerLink,
        opened: Opened,
        name: str,
        target: str,
        initiator: bool,
        resource: str,
    ) -> None:
        self._link = link
        start = opened.start
        assert isinstance(start, StartSecure)
        self._start = start
        self._name = name
        self._target = target
        self._resource = resource
        self.carrier = opened.unwrapped.carrier
        self.leftover = opened.unwrapped.leftover
        self.tls_client = self.exclusive = initiator
        self.announced = start.peer
        self.caller = "" if initiator else f"{start.peer}, sent by {start.server}"
        self.hops = (
            PathHop(name, "client"),
            PathHop(start.server, "communication-server"),
            PathHop(start.peer, "client"),
        )

    def prologue(
        self,
        certificate_name: str,
        allowed: frozenset[str],
        same_key: bool,
        export: Export,
        now: float,
    ) -> SessionPrologue:
        """See `IMeeting`; no ``allowed``: whoever the server has announced.

        Raises `RemoteProtocolError` for a certificate that is not one of those allowed.
        """
        if allowed and certificate_name not in allowed:
            expected = " or ".join(sorted(allowed))
            raise RemoteProtocolError(
                f"the other client is {certificate_name}, expected is {expected}",
                code=Code.SETUP_MISMATCH,
            )
        names = (self._name, self._start.peer)
        origin, to = names if self.tls_client else names[::-1]
        own = Session(self._start.session, origin, to, self._target, self._resource)
        binding = Binding.of(
            export, self._link.secret, self.tls_client, required=self._link.binding_required
        )
        return SessionPrologue(
            own, self.tls_client, certificate_name, now, same_key=same_key, binding=binding
        )


@implementer(IRendezvous)
class InitiatorRendezvous:
    """Asks for ``target`` (a name, or ``group:`` and a group's) and ``resource``."""

    serves = False

    def __init__(self, link: ServerLink, name: str, target: str, resource: str) -> None:
        self._link = link
        self._name = name
        self.target = target
        self._resource = resource

    async def meet(self, on_waiting: Callable[[str], object] | None = None) -> SessionMeeting:
        """One session; raises `DialError`, `AuthError` or `RemoteProtocolError`."""
        mode = {"mode": ANY} if self.target.startswith(GROUP) else {}
        connect = Connect(self.target, self._resource, **mode)
        opened = await Opening(self._link, connect).opened
        assert isinstance(opened, Opened)  # the dialogue: nothing else answers CONNECT
        return SessionMeeting(self._link, opened, self._name, self.target, True, self._resource)


@implementer(IRendezvous)
class MemberRendezvous(InitiatorRendezvous):
    """Asks for one member of ``group`` (``group:NAME``) while the server has it there (S7)."""

    def __init__(self, link: ServerLink, name: str, group: str, member: str, resource: str) -> None:
        super().__init__(link, name, member, resource)
        self._group = group

    async def meet(self, on_waiting: Callable[[str], object] | None = None) -> SessionMeeting:
        """See `InitiatorRendezvous`; raises `DialError` while it is not in the group."""
        found = await look_up(self._link, self._group)
        if not any(
            entry.name == self.target and self._resource in entry.resources
            for entry in found.entries
        ):
            raise DialError(f"{self.target} is not in {self._group} now", code=Code.NOT_PRESENT)
        return await super().meet(on_waiting)


@implementer(IRendezvous)
class TargetRendezvous:
    """Others ask the server for this client: each session that comes of it is a meeting.

    ``resources`` is what it publishes. ``peers``: whom it takes in; none: all that the
    server lets through. Who asks for one of the ``sites`` is a browser, and no meeting; for each
    that is passed on unopened ``spares`` connections wait ahead.
    Registered from `start` to `stop`.
    """

    serves = True

    def __init__(
        self,
        link: ServerLink,
        name: str,
        resources: tuple[Resource, ...],
        peers: frozenset[str],
        sites: Sites,
        spares: int = 0,
    ) -> None:
        self._link = link
        self._name = name
        self._resources = frozenset(resource.name for resource in resources)
        self._peers = peers
        self._sites = sites
        self._running = False
        self._coming: dict[str, Deferred[None]] = {}
        """Sessions that others want and that are not there yet, by id."""
        self._met: deque[SessionMeeting] = deque()
        self._wanted: Deferred[SessionMeeting] | None = None
        self._on_waiting: Callable[[str], object] = _nobody
        self._spares = Spares(
            link,
            [resource.name for resource in resources if resource.kind == PASS],
            spares,
            lambda resource, opened: Deferred.fromCoroutine(sites.serve_spare(resource, opened)),
        )
        self.registration = Registration(
            link, resources, self._asked, self._off, self._present, self._spares.start
        )

    def start(self) -> None:
        """Register, and go on."""
        self._running = True
        self.registration.start()

    def stop(self, reason: str) -> None:
        """Leave the server; sessions that are not there yet come to nothing."""
        self._running = False
        self._spares.stop()
        self.registration.stop(reason)
        for task in list(self._coming.values()):
            task.cancel()
        while self._met:
            self._met.popleft().carrier.abort()

    def meet(self, on_waiting: Callable[[str], object] | None = None) -> Deferred[SessionMeeting]:
        """The next session that somebody wants with this client."""
        self._on_waiting = on_waiting or _nobody
        wanted: Deferred[SessionMeeting] = Deferred(self._cancelled)
        if self._met:
            wanted.callback(self._met.popleft())
            return wanted
        self._wanted = wanted
        if self.registration.present:
            self._present()
        return wanted

    def _cancelled(self, wanted: Deferred[SessionMeeting]) -> None:
        self._wanted = None

    def _present(self) -> None:
        self._on_waiting("")

    def _asked(self, incoming: Incoming, refuse: Callable[[Code, str], None]) -> None:
        """Somebody wants a session, or a browser to a site."""
        if incoming.resource not in self._resources or not self._running:
            refuse(Code.NOT_ALLOWED, "this is not published here")
            return
        if incoming.host is not None:
            task = Deferred.fromCoroutine(self._sites.serve(incoming, refuse))
        else:
            if self._peers and incoming.origin not in self._peers:
                refuse(Code.NOT_ALLOWED, "this client does not take that one in")
                return
            task = Deferred.fromCoroutine(self._join(incoming))
        self._coming[incoming.session] = task
        task.addBoth(self._came, incoming)

    def _off(self, session: str) -> None:
        """It is not wanted any more."""
        task = self._coming.pop(session, None)
        if task is not None:
            task.cancel()

    def _came(self, result: Any, incoming: Incoming) -> None:
        self._coming.pop(incoming.session, None)
        if not isinstance(result, Failure) or result.check(CancelledError):
            return
        if result.check(TunnelkitError):
            reason = result.getErrorMessage()
            _log.warn("No session with {origin}: {reason}", origin=incoming.origin, reason=reason)
        else:
            _log.failure("A session ended in an unexpected way", failure=result)

    async def _join(self, incoming: Incoming) -> None:
        opened = await Opening(self._link, incoming).opened
        assert isinstance(opened, Opened)
        meeting = SessionMeeting(
            self._link, opened, self._name, incoming.target, False, incoming.resource
        )
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.callback(meeting)
        elif self._running:
            self._met.append(meeting)
        else:
            meeting.carrier.abort()


def _nobody(where: str) -> None:
    """Who is told of waiting where nobody asked."""
