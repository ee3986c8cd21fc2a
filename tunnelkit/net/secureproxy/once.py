"""One session of a client that is asked for, and no more (row Q2)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tunnelkit.core.secureproxy.client import Asked, Ended, Event, Published, RequestRefused
from tunnelkit.errors import DialError
from tunnelkit.interfaces import IRendezvous
from tunnelkit.net.secureproxy.control import ControlConnection
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.secureproxy.opening import Opened, Opening
from tunnelkit.net.secureproxy.rendezvous import SessionMeeting
from tunnelkit.wire.secureproxy import PRESENT, Incoming, Resource


@implementer(IRendezvous)
class OnceRendezvous:
    """Publishes ``resource`` while somebody waits in `meet`; a refusal of the server is its
    failure. (`TargetRendezvous` stays present and tries again.)"""

    serves = True

    def __init__(self, link: ServerLink, name: str, resource: str) -> None:
        self._link = link
        self._name = name
        self._resource = resource

    async def meet(self, on_waiting: Callable[[str], object] | None = None) -> SessionMeeting:
        """The session with who asks first; raises `DialError`, `AuthError` or
        `RemoteProtocolError`."""
        asked: Deferred[Incoming] = Deferred()

        def told(event: Event) -> None:
            if asked.called:
                return
            if isinstance(event, Published) and on_waiting is not None:
                on_waiting("at the server")
            elif isinstance(event, Asked):
                asked.callback(event.incoming)
            elif isinstance(event, RequestRefused | Ended):
                reason = f"the server says {event.code}: {event.reason}"
                asked.errback(DialError(reason, code=event.code))

        control = ControlConnection(self._link, PRESENT, told)
        control.publish((Resource(self._resource),))
        try:
            opened = await Opening(self._link, await asked).opened
        finally:
            control.close("that was all")
        assert isinstance(opened, Opened)  # the dialogue: nothing else answers for a session
        return SessionMeeting(self._link, opened, self._name, self._name, False, self._resource)
