"""The connections of an LSTP middle: ends that have come, and ways to the next middle (L1, L8).

Each is the sink of its carrier and the owner of its entry in the lobby; what
comes goes to the lobby, and what the lobby says is done here.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.lstp.cascade import Upstream
from tunnelkit.core.lstp.middle_connection import MiddleConnection
from tunnelkit.net.sockets.socket_carrier import Carrier, take_over

_log = Logger()

MAX_UNSENT = 65536
"""Bytes kept for an end that does not read; with more it is dropped (X7)."""


class Host(Protocol):
    """The middle, as its connections see it."""

    def receive(self, connection: MiddleConnection, view: memoryview) -> None:
        """Bytes of an end in setup."""

    def lost(self, connection: MiddleConnection) -> None:
        """An end that was not paired is gone."""

    def next_reached(self, guest: Guest, way: UpstreamParty) -> bool:
        """The next middle has been dialled for ``guest``; False: that is not wanted any more."""

    def next_missed(self, guest: Guest) -> None:
        """There is no connection to the next middle for ``guest``."""

    def answered(self, connection: Upstream, view: memoryview) -> None:
        """Bytes from the next middle."""


class Party:
    """One connection of the middle, whichever side began it."""

    __slots__ = ("_unsent", "carrier", "connection", "host", "paired")

    def __init__(self, host: Host, carrier: Carrier, connection: MiddleConnection) -> None:
        self.host = host
        self.carrier = carrier
        self.connection = connection
        self.paired: Any = None
        """For the middle: the pair it belongs to."""
        self._unsent = b""

    def send(self, data: bytes) -> None:
        """Send, or keep for when the other side reads again."""
        if not self._unsent:
            data = data[self.carrier.write(data) :]
        if data:
            self._unsent += data
            if len(self._unsent) > MAX_UNSENT:
                self.carrier.abort()
                self.gone()

    def take_unsent(self) -> bytes:
        """What has not gone out; the caller sends it."""
        unsent, self._unsent = self._unsent, b""
        return unsent

    def leave(self) -> None:
        """Close. Who has not even read what was for it before gets a reset."""
        if self._unsent:
            self.carrier.abort()
        else:
            self.carrier.close()

    def gone(self) -> None:
        """Its connection is over, and it was not paired."""
        raise NotImplementedError

    # -- CarrierSink --

    def carrier_writable(self) -> None:
        """See `CarrierSink`."""
        unsent = self._unsent
        if unsent:
            self._unsent = unsent[self.carrier.write(unsent) :]

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """See `CarrierSink`."""
        self.gone()


class Guest(Party):
    """An end, or another middle on its behalf, that has come to this one."""

    __slots__ = ("_errand", "upstream_party")

    def __init__(self, host: Host, carrier: Carrier, address: str) -> None:
        super().__init__(host, carrier, MiddleConnection(address, self))
        self._errand: _Errand | None = None
        self.upstream_party: UpstreamParty | None = None
        """Its connection to the next middle."""

    def ask(self, endpoint: IStreamClientEndpoint) -> None:
        """Look for a partner at the next middle."""
        self._errand = _Errand(self)
        self._errand.run(endpoint)

    def next_reached(self, carrier: Carrier) -> None:
        """The next middle has been dialled."""
        self._errand = None
        self.upstream_party = UpstreamParty(self.host, carrier, self)
        if self.host.next_reached(self, self.upstream_party):
            carrier.start(self.upstream_party)
        else:
            self.upstream_party = None
            carrier.abort()

    def next_missed(self) -> None:
        """It cannot be reached."""
        self._errand = None
        self.host.next_missed(self)

    def stop_asking(self) -> None:
        """It has found a partner here, or is gone."""
        errand, self._errand = self._errand, None
        if errand is not None:
            errand.drop()
        upstream_party, self.upstream_party = self.upstream_party, None
        if upstream_party is not None:
            upstream_party.carrier.close()

    def leave(self) -> None:
        """See `Party`."""
        self.stop_asking()
        super().leave()

    def gone(self) -> None:
        """See `Party`."""
        self.stop_asking()
        self.host.lost(self.connection)

    def carrier_received(self, view: memoryview) -> None:
        """See `CarrierSink`."""
        self.host.receive(self.connection, view)


class UpstreamParty(Party):
    """The connection to the next middle on behalf of ``guest``."""

    __slots__ = ("guest",)

    def __init__(self, host: Host, carrier: Carrier, guest: Guest) -> None:
        # The lobby makes its entry when the connection stands.
        super().__init__(host, carrier, guest.connection)
        self.guest = guest

    def leave(self) -> None:
        """See `Party`."""
        self.guest.upstream_party = None
        super().leave()

    def gone(self) -> None:
        """See `Party`."""
        self.guest.upstream_party = None
        self.host.next_missed(self.guest)

    def carrier_received(self, view: memoryview) -> None:
        """See `CarrierSink`."""
        assert isinstance(self.connection, Upstream)
        self.host.answered(self.connection, view)


class _Errand:
    """One attempt to reach the next middle."""

    __slots__ = ("_connecting", "_guest")

    def __init__(self, guest: Guest) -> None:
        self._guest: Guest | None = guest
        self._connecting: Deferred[Any] | None = None

    def run(self, endpoint: IStreamClientEndpoint) -> None:
        self._connecting = maybeDeferred(endpoint.connect, _Dialled())
        self._connecting.addCallbacks(self._reached, self._missed)

    def drop(self) -> None:
        """Nobody wants it any more."""
        self._guest = None
        if self._connecting is not None:
            self._connecting.cancel()

    def _reached(self, protocol: Any) -> None:
        carrier = take_over(protocol.transport)
        if self._guest is None:
            carrier.abort()
        else:
            self._guest.next_reached(carrier)

    def _missed(self, failure: Failure) -> None:
        if self._guest is not None:
            _log.warn("Cannot reach the next middle: {reason}", reason=failure.getErrorMessage())
            self._guest.next_missed()


class _Dialled(Factory):
    noisy = False

    def buildProtocol(self, addr: object) -> TwistedProtocol:
        return TwistedProtocol()
