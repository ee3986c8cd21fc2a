"""A client of a Communication Server as an end of tunnels: asks, and is asked (rows S4, S6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from tunnelkit.core.usher.mux import UsherChannels, UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.errors import Code, TunnelkitError
from tunnelkit.net.channels.end import DiallingEnd, TunnelMember
from tunnelkit.net.channels.establish import secure
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.secureproxy.control import Registration
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.secureproxy.rendezvous import InitiatorRendezvous, SessionMeeting, join
from tunnelkit.net.secureproxy.sites import Sites
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.wire.secureproxy import Incoming, Resource
from tunnelkit.wire.usher import Version

_log = Logger()


class SecureProxyEnd(DiallingEnd):
    """``rendezvous`` is None for a client that asks for nobody; ``resources`` is what it publishes.

    ``peers``: names that the other client of a session may have; of those that come here
    none means all that the server lets through. ``context`` is for the TLS between the two.
    """

    def __init__(
        self,
        shared: Shared,
        context: TlsContext,
        tunnel: Tunnel,
        on_ready: Callable[[], None],
        *,
        name: str,
        link: ServerLink,
        rendezvous: InitiatorRendezvous | None,
        peers: frozenset[str],
        resources: tuple[Resource, ...],
        sites: Sites,
        mux: UsherConfig,
    ) -> None:
        super().__init__(shared, context, tunnel, on_ready)
        self._name = name
        self._link = link
        self._rendezvous = rendezvous
        self._peers = peers
        self._mux = mux
        self._resources = frozenset(resource.name for resource in resources)
        self.sites = sites
        self._coming: dict[str, Deferred[None]] = {}
        """Sessions that others want and that are not there yet, by id."""
        self.registration: Registration | None = None
        if resources:
            self.registration = Registration(
                link, resources, self._asked, self._off, self.told_ready
            )

    def start(self) -> None:
        """Register, and ask for a session."""
        if self.registration is not None:
            self.registration.start()
        if self._rendezvous is not None:
            super().start()
        else:
            self._running = True

    def stop(self, grace: float) -> Deferred[Any]:
        """See `End.stop`; browsers that are passed on may finish too."""
        if self.registration is not None:
            self.registration.stop("this client is stopping")
        return gatherResults([super().stop(grace), self.sites.drain()])

    async def attempt(self) -> bool:
        """Ask the server for a session, and stay until its tunnel is over."""
        assert self._rendezvous is not None  # nothing is attempted without
        meeting = await self._rendezvous.meet()
        await self._serve(meeting, self._peers)
        return False

    def _asked(self, incoming: Incoming, refuse: Callable[[Code, str], None]) -> None:
        """Somebody wants a session, or a browser to a site."""
        if incoming.resource not in self._resources or not self._running:
            refuse(Code.NOT_ALLOWED, "this is not published here")
            return
        if incoming.host is not None:
            task = Deferred.fromCoroutine(self.sites.serve(incoming, refuse))
        else:
            if self._peers and incoming.origin not in self._peers:
                refuse(Code.NOT_ALLOWED, "this client does not take that one in")
                return
            task = Deferred.fromCoroutine(self._take_in(incoming))
        self._coming[incoming.session] = task
        self.in_background(task)

    def _off(self, session: str) -> None:
        """It is not wanted any more."""
        task = self._coming.pop(session, None)
        if task is not None:
            task.cancel()

    async def _take_in(self, incoming: Incoming) -> None:
        try:
            meeting = await join(self._link, self._name, incoming)
            self._coming.pop(incoming.session, None)
            await self._serve(meeting, frozenset())
        except TunnelkitError as error:
            _log.warn(
                "No session with {origin}: {reason}", origin=incoming.origin, reason=str(error)
            )

    async def _serve(self, meeting: SessionMeeting, peers: frozenset[str]) -> None:
        member = TunnelMember(self, meeting.hops)
        allowed = peers or frozenset({meeting.announced})
        await secure(self.shared, meeting, self.context, allowed, self._make_mux, member)
        await member.over

    def _make_mux(self, master: bool, alpn: bytes, now: float) -> UsherMux:
        channels = UsherChannels(Version.of(alpn), self._mux, self.shared.budget)
        return channels.make_mux(master, now)
