"""The way to the other end, hop by hop: what a role does when it connects, and what came back."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any, Protocol, runtime_checkable

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as NoProtocol
from twisted.internet.threads import deferToThreadPool

from tunnelkit.core.mux.contract import TunnelMux
from tunnelkit.errors import (
    ChannelRefused,
    Code,
    ConfigError,
    DialTimeout,
    RemoteProtocolError,
    TunnelkitError,
)
from tunnelkit.interfaces import IMeeting, IRendezvous
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import ChannelOpening, ChannelRecord
from tunnelkit.net.channels.end import TunnelEnd
from tunnelkit.net.channels.establish import secure
from tunnelkit.net.channels.protocol_side import ChannelTransport, TunnelAddress
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.roles.end import EndService
from tunnelkit.roles.end_config import EndConfig
from tunnelkit.roles.way_out import WayOut
from tunnelkit.services.doctor.finding import Finding, State, wrong
from tunnelkit.services.doctor.here import validity

PLACES = {"middle": "middle", "gate": "gate", "server": "server", "upstream": "next middle"}
"""Attributes of configurations that say where to dial, and what is there."""
PROBE = "service:@doctor"
"""What nobody answers: to be refused it takes a far side that judges channels."""
PATIENCE = 20.0
"""Seconds for each step."""
_SILENCE = 3.0
"""Seconds in which a middle that does not want an end has said so."""

_ANSWERED = {Code.NOT_ALLOWED, Code.NO_SUCH_SERVICE}


@runtime_checkable
class MeetsElsewhere(Protocol):
    """A rendezvous that can wait under another name, where nobody comes."""

    def at(self, common: str) -> IRendezvous:
        """The same, under that name."""


@runtime_checkable
class Asks(Protocol):
    """An end that goes out to others by name, one end for each."""

    asking: tuple[TunnelEnd, ...]


@runtime_checkable
class Greets(Protocol):
    """A client of somebody who introduces it to others."""

    def greet(self) -> Deferred[str]:
        """Be let in, and nothing more; what was said."""


async def look_there(
    reactor: Any, role: Any, config: Any, patience: float = PATIENCE, running: bool = False
) -> AsyncIterator[Finding]:
    """Go the way that ``role`` goes with ``config``, as far as it leads.

    ``running``: the role has its ports itself."""
    for name, what in PLACES.items():
        place = getattr(config, name, None)
        if isinstance(place, tuple):
            async for finding in _reach(reactor, config, what, place, patience):
                yield finding
                if finding.state is State.WRONG:
                    return
    quiet = config
    if isinstance(config, EndConfig):
        # The ports are those of the role, which may be running.
        quiet = attrs.evolve(config, front_ends=())
    elif running:
        return
    try:
        service = role.make_service(reactor, quiet)
    except ConfigError as error:
        yield wrong("ports", error)
        return
    try:
        if isinstance(service, EndService) and service.locked:
            return
        if isinstance(service, EndService) and isinstance(service.end, TunnelEnd):
            async for finding in _meet(reactor, service, service.end, config, patience):
                yield finding
        elif isinstance(service, Greets):
            async for finding in _be_introduced(reactor, service, config, patience):
                yield finding
        elif not isinstance(config, EndConfig):
            yield Finding("ports", State.OK, "they can be opened")
    finally:
        await maybeDeferred(service.stopService)


# -- the network ----------------------------------------------------------


async def _reach(
    reactor: Any, config: Any, what: str, place: tuple[str, int], patience: float
) -> AsyncIterator[Finding]:
    """Name, proxies and TCP."""
    way = WayOut(reactor, getattr(config, "via", ()), what, place)
    described = way.describe()
    if not getattr(config, "via", ()) and described.endswith("directly"):
        began = time.monotonic()
        try:
            found = await _in_time(reactor, _addresses(reactor, place), patience, "the resolver")
        except TunnelkitError as error:
            yield wrong("name", error, time.monotonic() - began)
            return
        if place[0] not in found:
            shown = f"{place[0]} is {', '.join(found)}"
            yield Finding("name", State.OK, shown, time.monotonic() - began)
    began = time.monotonic()
    try:
        connecting = way.connect(Factory.forProtocol(NoProtocol))
        protocol: Any = await _in_time(reactor, connecting, patience, described)
    except TunnelkitError as error:
        yield wrong("tcp", error, time.monotonic() - began)
        return
    protocol.transport.abortConnection()
    yield Finding("tcp", State.OK, f"{described}: connected", time.monotonic() - began)


def _addresses(reactor: Any, place: tuple[str, int]) -> Deferred[list[str]]:
    def ask() -> list[str]:
        try:
            found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConfigError(f"{place[0]}: no such host: {error.strerror}") from None
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    return deferToThreadPool(reactor, reactor.getThreadPool(), ask)


async def _in_time(reactor: Any, waiting: Any, patience: float, what: str) -> Any:
    """The result of a Deferred; `DialTimeout` names ``what`` if there is none in time."""
    timer = reactor.callLater(patience, waiting.cancel)
    try:
        return await waiting
    except CancelledError:
        raise DialTimeout(f"{what}: no answer in {patience:g} s", code=Code.TIMED_OUT) from None
    finally:
        if timer.active():
            timer.cancel()


# -- the other end --------------------------------------------------------


async def _meet(
    reactor: Any, service: EndService, end: TunnelEnd, config: EndConfig, patience: float
) -> AsyncIterator[Finding]:
    rendezvous = end.rendezvous
    began = time.monotonic()
    if rendezvous.serves:
        # A tunnel that came to this one would be taken from the role that runs.
        if isinstance(rendezvous, MeetsElsewhere):
            yield await _wait_for_nobody(reactor, rendezvous)
        else:
            yield Finding("meeting", State.OK, "this end waits for others, who dial it")
        return
    waiting: list[str] = []
    meet: Deferred[IMeeting] = Deferred.fromCoroutine(_met(rendezvous, waiting))
    try:
        meeting: IMeeting = await _in_time(reactor, meet, patience, "the other end")
    except DialTimeout as error:
        yield _nobody(error, waiting, time.monotonic() - began)
        return
    except TunnelkitError as error:
        yield wrong("setup", error, time.monotonic() - began)
        return
    path = " - ".join(hop.name for hop in meeting.hops if hop.name)
    yield Finding("setup", State.OK, f"met by {path or 'dialling'}", time.monotonic() - began)
    owner = _Owner(end)
    began = time.monotonic()
    try:
        securing = secure(service.shared, meeting, end.context, end.peers, owner.make_mux, owner)
        connection = await _in_time(reactor, securing, patience, "the other end")
        await _in_time(reactor, owner.up, patience, "the other end")
    except TunnelkitError as error:
        yield wrong("tls", error, time.monotonic() - began)
        return
    alpn = connection.stream.engine.alpn.decode("ascii", "replace") or "no name"
    found = f"TLS 1.3 with {connection.peer}, both proved; they speak {alpn}"
    yield Finding("tls", State.OK, found, time.monotonic() - began)
    certificate = connection.stream.engine.peer_certificate
    if certificate is not None:
        yield validity("its certificate", certificate, datetime.now(timezone.utc))
    for destination in _destinations(config):
        yield await _open(reactor, connection, destination, patience)
    connection.shutdown(0.0, "the doctor has seen enough")
    await owner.over


async def _be_introduced(
    reactor: Any, service: Any, config: Any, patience: float
) -> AsyncIterator[Finding]:
    """Whether the one who introduces lets this end in; then each end that it asks for."""
    began = time.monotonic()
    try:
        said = await _in_time(reactor, service.greet(), patience, "the server")
    except TunnelkitError as error:
        yield wrong("server", error, time.monotonic() - began)
        return
    yield Finding("server", State.OK, said, time.monotonic() - began)
    ends = service.end.asking if isinstance(service.end, Asks) else ()
    for end in ends:
        async for finding in _meet(reactor, service, end, config, patience):
            yield finding
    if not ends:
        yield Finding("meeting", State.OK, "this end waits for others, who ask for it by name")


async def _met(rendezvous: IRendezvous, waiting: list[str]) -> IMeeting:
    return await rendezvous.meet(waiting.append)


async def _wait_for_nobody(reactor: Any, rendezvous: MeetsElsewhere) -> Finding:
    elsewhere = rendezvous.at(secrets.token_urlsafe(32))
    began = time.monotonic()
    meet: Deferred[IMeeting] = Deferred.fromCoroutine(_met(elsewhere, []))
    try:
        await _in_time(reactor, meet, _SILENCE, "the middle")
    except DialTimeout:
        return Finding(
            "setup",
            State.OK,
            "the middle lets this end wait; whether a partner is taken in shows at the other end",
            time.monotonic() - began,
        )
    except TunnelkitError as error:
        return wrong("setup", error, time.monotonic() - began)
    return wrong("setup", "somebody came under a name that nobody knows")


def _nobody(error: DialTimeout, waiting: list[str], seconds: float) -> Finding:
    if not waiting:
        return wrong("setup", error, seconds)
    return Finding(
        "setup",
        State.WRONG,
        f"waited {waiting[-1]}, and nobody came within {seconds:.0f} s",
        seconds,
        means="no other end waits there under the same name",
        do="start the other end; compare at both: --middle, --tunnel, the roles (one is the client "
        "end, one the server end), and that both identities are of one `keys init`",
    )


def _destinations(config: EndConfig) -> list[str]:
    """What the forwards here lead to; otherwise what nobody answers."""
    needed = [
        destination
        for wanted in config.front_ends
        for destination in wanted.front_end.needs(wanted.config)
        if destination.startswith(("tcp:", "unix:", "service:")) and "@" not in destination
    ]
    return list(dict.fromkeys(needed))[:8] or [PROBE]


async def _open(
    reactor: Any, connection: TunnelConnection, destination: str, patience: float
) -> Finding:
    address = TunnelAddress("", destination)
    side = ChannelTransport(NoProtocol(), address, address)
    side.begin()
    began = time.monotonic()
    opening = connection.open(destination, side)
    step = "channel"
    try:
        await _in_time(reactor, opening, patience, destination)
    except ChannelRefused as error:
        seconds = time.monotonic() - began
        if destination == PROBE and error.code in _ANSWERED:
            return Finding(step, State.OK, "the other end judges channels", seconds)
        return _refused(destination, error, seconds)
    except TunnelkitError as error:
        return wrong(step, error, time.monotonic() - began)
    seconds = time.monotonic() - began
    side.abortConnection()
    return Finding(step, State.OK, f"{destination}: connected there", seconds)


_REFUSALS = {
    Code.NOT_ALLOWED: (
        "no rule of the other end allows it",
        "give --allow at the other end, for this destination and this end's name",
    ),
    Code.NO_SUCH_SERVICE: (
        "the other end does not publish it",
        "give --publish at the other end, or correct the name",
    ),
    Code.NO_SUCH_HOST: (
        "the other end's resolver does not know the name",
        "look for a slip in the name; ask the resolver there",
    ),
    Code.REFUSED: ("nobody listens there", "start the server, or correct the port"),
    Code.UNREACHABLE: ("no network leads there from the other end", "look at the routes there"),
    Code.TIMED_OUT: ("nothing came back from there", "look at the firewall between them"),
}


def _refused(destination: str, error: ChannelRefused, seconds: float) -> Finding:
    means, do = _REFUSALS.get(error.code, ("", ""))
    return Finding("channel", State.WRONG, f"{destination}: {error}", seconds, means, do)


class _Owner:
    """The `ConnectionOwner` of a connection that is only looked at."""

    def __init__(self, end: TunnelEnd) -> None:
        self._end = end
        self.up: Deferred[None] = Deferred()
        self.over: Deferred[None] = Deferred()

    def make_mux(self, master: bool, alpn: bytes, now: float) -> TunnelMux:
        """See `secure`."""
        for protocol in self._end.protocols:
            if alpn in protocol.alpn:
                return protocol.make_mux(master, alpn, now)
        raise RemoteProtocolError(f"TLS agreed on {alpn!r}, which no protocol here speaks")

    def connection_up(self, connection: TunnelConnection) -> None:
        """See `ConnectionOwner`."""
        self.up.callback(None)

    def connection_ended(
        self, connection: TunnelConnection, code: Code | None, reason: str
    ) -> None:
        """See `ConnectionOwner`."""
        if not self.up.called:
            self.up.errback(RemoteProtocolError(reason or "the other end closed the connection"))
        self.over.callback(None)

    def channel_requested(self, request: ChannelRequest) -> None:
        """See `ConnectionOwner`: nothing can be reached through the doctor."""
        request.refuse(Code.NOT_ALLOWED, "not allowed there")

    def channel_began(self, opening: ChannelOpening) -> None:
        """See `ConnectionOwner`."""

    def channel_ended(self, record: ChannelRecord) -> None:
        """See `ConnectionOwner`."""
