"""How two clients of a Communication Server get a byte stream: it introduces them (S6, S7)."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from tunnelkit.core.secureproxy.prologue import SessionPrologue
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.interfaces import IMeeting, IRendezvous
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.secureproxy.opening import Opened, Opening
from tunnelkit.wire.secureproxy import ANY, GROUP, Connect, Incoming, Session, StartSecure


@implementer(IMeeting)
class SessionMeeting:
    """The TCP connection of one of the two; nothing that the server says is believed.

    ``target`` is as the initiator wrote it.
    """

    host = ""

    def __init__(
        self, opened: Opened, name: str, target: str, initiator: bool, resource: str
    ) -> None:
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
        self.hops = (name, start.server, start.peer)

    def prologue(
        self, certificate_name: str, allowed: frozenset[str], same_key: bool, now: float
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
        return SessionPrologue(own, self.tls_client, certificate_name, now, same_key=same_key)


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
        return SessionMeeting(opened, self._name, self.target, True, self._resource)


async def join(link: ServerLink, name: str, incoming: Incoming) -> SessionMeeting:
    """The target's side of a session that somebody wants; raises as ``meet`` does."""
    opened = await Opening(link, incoming).opened
    assert isinstance(opened, Opened)
    return SessionMeeting(opened, name, incoming.target, False, incoming.resource)
