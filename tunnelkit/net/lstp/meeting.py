"""How an LSTP end gets a byte stream to the other end: it dials the middle and waits (row L1)."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.core.lstp.setup import Partner, Setup, Verification
from tunnelkit.core.prologue import Export, Refused
from tunnelkit.errors import DialError, RemoteProtocolError
from tunnelkit.interfaces import IMeeting, IRendezvous
from tunnelkit.net.channels.contracts import PathHop
from tunnelkit.net.dial.any_endpoint import connect_by
from tunnelkit.net.lstp.middle import LstpMiddleFactory
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.socket_carrier import Carrier, SocketCarrier, take_over
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.wire.lstp import BOTH, CLIENT_END

_OTHERS = {b"SSH-": "SSH", b"HTTP/": "HTTP", b"\x15\x03": "TLS", b"\x16\x03": "TLS", b"<": "HTML"}
"""How other servers begin that a middle is mistaken for."""


def other_protocol(begin: bytes) -> str:
    """What a server speaks whose first bytes are ``begin``, if it is one of a few; else empty."""
    return next((name for first, name in _OTHERS.items() if begin.startswith(first)), "")


@attrs.frozen
class LstpParty:
    """What an end says of itself at the middle."""

    common: str
    """Rendezvous id, see `tunnelkit.wire.lstp.derive_common`."""
    name: str
    """This end's name, as in its certificate."""
    role: str
    """``client-end``, ``server-end`` or ``both``."""
    address: str = ""
    """Any text, for the other end's map of the path."""
    admission: str | None = attrs.field(default=None, repr=False)
    """The middle's token, if it wants one."""


@implementer(IMeeting)
class LstpMeeting:
    """Two ends have one byte stream; nothing about the other one is proved yet."""

    caller = host = ""

    def __init__(self, carrier: Carrier, setup: Setup, partner: Partner) -> None:
        self.carrier = carrier
        self.tls_client = partner.master
        self.announced = partner.info.unique
        self.hops = tuple(
            PathHop(hop.name, hop.role, hop.address) for hop in (setup.hop, *reversed(partner.hops))
        )
        self.leftover = partner.leftover
        role = setup.hop.role
        # Who serves goes back to the middle at once, so that every client end finds it there (L15).
        self.exclusive = role == CLIENT_END or (role == BOTH and partner.info.role != CLIENT_END)
        self._setup = setup
        self._partner = partner

    def prologue(
        self,
        certificate_name: str,
        allowed: frozenset[str],
        same_key: bool,
        export: Export,
        now: float,
    ) -> Verification:
        """What the two ends say inside TLS before channels: the setup, once more."""
        return Verification(
            self._setup, self._partner, certificate_name, allowed, now, same_key=same_key
        )


@implementer(IRendezvous)
class MiddleRendezvous:
    """Meets other ends at a middle (rows L5, L11, L13, L15); a subclass says which.

    A client end has one tunnel at a time. An end that serves (``server-end``, or
    ``both`` whose partner is a plain client end) goes on meeting others.
    """

    def __init__(self, shared: Shared, party: LstpParty) -> None:
        self._shared = shared
        self._party = party
        self._met: Deferred[LstpMeeting] | None = None
        self._anew = False

    @property
    def serves(self) -> bool:
        """See `IRendezvous`."""
        return self._party.role != CLIENT_END

    @property
    def party(self) -> LstpParty:
        """What this end says of itself at its next meeting."""
        return self._party

    def become(self, party: LstpParty) -> None:
        """Be ``party`` from the next meeting on; who waits under another rendezvous id waits
        under the new one at once."""
        old, self._party = self._party, party
        if old.common != party.common and self._met is not None:
            self._anew = True
            self._met.cancel()

    def at(self, common: str) -> MiddleRendezvous:
        """The same, under another rendezvous id (further connections)."""
        other = copy.copy(self)
        other._met = None
        other._party = attrs.evolve(self._party, common=common)
        return other

    async def meet(self, on_waiting: Callable[[str], object] | None = None) -> LstpMeeting:
        """Dial the middle and wait for the other end, see `IRendezvous`.

        Raises `DialError` if the middle cannot be reached, sends an ERROR or goes away,
        `RemoteProtocolError` if it breaks the protocol.
        """
        while True:
            self._met = Deferred.fromCoroutine(self._meet(on_waiting))
            try:
                return await self._met
            except CancelledError:
                if not self._anew:
                    raise
            finally:
                self._met, self._anew = None, False

    async def _meet(self, on_waiting: Callable[[str], object] | None) -> LstpMeeting:
        protocol = await self._dial()
        if on_waiting is not None:
            on_waiting("at the middle")
        return await protocol.met

    async def _dial(self) -> LstpEndProtocol:
        """A connection to the middle."""
        raise NotImplementedError


class LstpRendezvous(MiddleRendezvous):
    """Meets other ends at the middle behind ``endpoint``."""

    def __init__(self, shared: Shared, endpoint: IStreamClientEndpoint, party: LstpParty) -> None:
        super().__init__(shared, party)
        self._endpoint = endpoint

    async def _dial(self) -> LstpEndProtocol:
        factory = LstpEndFactory(self._shared, self._party)
        protocol: Any = await connect_by(self._endpoint, factory)
        assert isinstance(protocol, LstpEndProtocol)
        return protocol


class InHouseRendezvous(MiddleRendezvous):
    """Meets other ends at a middle in the same process (row L9)."""

    def __init__(self, shared: Shared, middle: LstpMiddleFactory, party: LstpParty) -> None:
        super().__init__(shared, party)
        self._middle = middle

    async def _dial(self) -> LstpEndProtocol:
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        protocol = LstpEndProtocol(self._shared, self._party)
        protocol.begin(SocketCarrier(self._shared.poller, ours))
        self._middle.accept(theirs, ("", 0))
        return protocol


class LstpEndFactory(Factory):
    """Makes the protocol of one end's setup; usable with any Twisted client endpoint."""

    noisy = False

    def __init__(self, shared: Shared, party: LstpParty) -> None:
        self.shared = shared
        self.party = party

    def buildProtocol(self, addr: Any) -> LstpEndProtocol:
        """A new `LstpEndProtocol`."""
        return LstpEndProtocol(self.shared, self.party)


class LstpEndProtocol(Protocol):
    """Speaks the setup in clear. ``met`` fires with an `LstpMeeting`, reading paused."""

    def __init__(self, shared: Shared, party: LstpParty) -> None:
        self._shared = shared
        self._party = party
        self._setup: Setup | None = None
        self._carrier: Carrier | None = None
        self._unsent = b""
        self._heard = False
        self._timer = Timer(shared.reactor, self._deadline)
        self.met: Deferred[LstpMeeting] = Deferred(self._cancel)

    def connectionMade(self) -> None:
        """Take the transport over and say who this is."""
        self.begin(take_over(self.transport))

    def begin(self, carrier: Carrier) -> None:
        """The same, where there is no transport."""
        party = self._party
        now = self._shared.reactor.seconds()
        self._setup = Setup(
            party.common, party.name, party.role, party.address, now, admission=party.admission
        )
        self._carrier = carrier
        carrier.start(self)
        self._send()
        self._set_timer()

    def dataReceived(self, data: bytes) -> None:
        """Bytes that were behind a network proxy's answer."""
        self.carrier_received(memoryview(data))

    def _send(self) -> None:
        if self._carrier is not None and self._setup is not None:
            self._unsent += self._setup.data_to_send()
            if self._unsent:
                self._unsent = self._unsent[self._carrier.write(self._unsent) :]

    def carrier_writable(self) -> None:
        """See `CarrierSink`."""
        self._send()

    def carrier_received(self, view: memoryview) -> None:
        """See `CarrierSink`."""
        if self._setup is None or self.met.called:
            return
        if not self._heard and (other := other_protocol(bytes(view[:5]))):
            self._fail(DialError(f"what answers there is no middle: it speaks {other}"))
            return
        self._heard = True
        try:
            events = self._setup.receive(view, self._shared.reactor.seconds())
        except RemoteProtocolError as error:
            self._send()
            self._fail(error)
            return
        self._handle(events)
        self._set_timer()

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """See `CarrierSink`."""
        self._fail(DialError(f"the middle closed the connection: {reason}"))

    def _handle(self, events: Any) -> None:
        for event in events:
            if isinstance(event, Refused):
                error = DialError(f"the middle says {event.code}: {event.reason}", code=event.code)
                self._fail(error)
            elif isinstance(event, Partner):
                assert self._carrier is not None
                assert self._setup is not None
                self._timer.stop()
                self._carrier.pause_reading()
                self.met.callback(LstpMeeting(self._carrier, self._setup, event))

    def _set_timer(self) -> None:
        self._timer.stop()
        if self.met.called or self._setup is None:
            return
        due = self._setup.next_deadline()
        if due is not None:
            self._timer.start_at(due)

    def _deadline(self) -> None:
        if self._setup is not None:
            self._handle(self._setup.deadline_passed(self._shared.reactor.seconds()))
            self._set_timer()

    def _cancel(self, _met: Deferred[LstpMeeting]) -> None:
        self._fail(None)

    def _fail(self, error: Exception | None) -> None:
        self._timer.stop()
        if self._carrier is not None:
            self._carrier.close()
        if error is not None and not self.met.called:
            self.met.errback(Failure(error))
