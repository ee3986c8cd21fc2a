"""A bastion in front of gates: portals are passed on by server name, unopened (U17).

The name that a portal asks for is in the first message of its TLS, in clear.
A name that is listed leads to the gate configured for it, and from then on
bytes are only copied; no name at all means the gate of this process. Who the
portal is, the gate further inside finds out: only it has the key to.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelkit.core.counted_address import counted_address
from tunnelkit.core.newcomers import Newcomers
from tunnelkit.core.token_buckets import TokenBuckets
from tunnelkit.egress.names import Names
from tunnelkit.egress.resolve import Resolver
from tunnelkit.errors import Code, DialError, ProtocolError
from tunnelkit.net.channels.unproved import TurnedAway
from tunnelkit.net.sockets.connect import connect_stream
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.quiet import QuietRelays
from tunnelkit.net.sockets.relay import Relay
from tunnelkit.net.sockets.socket_carrier import Carrier, SocketCarrier
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.acl import CONNECT, OwnListeners, PolicyHolder
from tunnelkit.policy.destination import TCP
from tunnelkit.policy.printable import printable
from tunnelkit.wire.tls_peek import UNRECOGNIZED_NAME, ClientHelloReader

_log = Logger()

LIMIT = 10.0
"""Seconds for the whole ClientHello to come (X7), and for the inside gate to be reached."""
MAX_NAMELESS = 200
"""Connections that have not said where to yet (X16)."""
MAX_NAMELESS_PER_ADDRESS = 16
MAX_RELAYED = 1000
"""Connections passed on at once; the address that has most gives way (X25)."""
MAX_DIALLING = 200
"""Of the connections that have said where to, those whose gate has not answered yet."""
RELAY_RATE = 10.0
"""Connections a second that are passed on for one address (X26). A silent one stays at the gate
inside for 10 s, so those of one address never take all of its 200 places."""
RELAY_BURST = 50

Otherwise = Callable[[Carrier, str, bytes], object]
"""``(carrier, host, early)`` takes a connection that asks for no name; ``early`` was read."""


class UsherRelay(Service):
    """``relays``: server name -> host and port of a gate."""

    def __init__(
        self,
        shared: Shared,
        policy: PolicyHolder,
        relays: Mapping[str, tuple[str, int]],
        otherwise: Otherwise,
        resolver: Resolver | None = None,
    ) -> None:
        self.shared = shared
        self.relays = dict(relays)
        self.entrances = OwnListeners()
        """Where its connections come from: never dialled. A forward of this gate may be, since
        a portal may be the only way to the gate further inside."""
        self._policy = policy
        self._otherwise = otherwise
        self.grace = 30.0
        """Seconds, to be set: in these what is passed on may finish when it stops."""
        if resolver is None:
            # Whoever asks is a stranger; the names are this gate's own.
            resolver = partial(Names.of(shared.reactor, shared.poller, policy).look_up, "")
        self._resolver = resolver
        self._nameless: Newcomers[_Arrival] = Newcomers(MAX_NAMELESS, MAX_NAMELESS_PER_ADDRESS)
        self._dialling: Newcomers[Deferred[None]] = Newcomers(MAX_DIALLING, MAX_DIALLING)
        self._joined: Newcomers[Relay] = Newcomers(MAX_RELAYED, MAX_RELAYED)
        self._turns = TokenBuckets(RELAY_RATE, RELAY_BURST)
        self._too_often = TurnedAway(shared.reactor.seconds, "be relayed", RELAY_RATE)
        self._serial = 0
        self._drained: Deferred[None] | None = None
        self._quiet = QuietRelays(shared.reactor, lambda: self._joined)

    def accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """A connection from a listener."""
        counted = counted_address(address[0])
        crowded_out = self._nameless.who_gives_way(counted)
        if crowded_out is not None:
            crowded_out.give_way()
        arrival = _Arrival(self, SocketCarrier(self.shared.poller, sock), address[0])
        self._nameless.add(arrival, counted)
        arrival.start()

    def stopService(self) -> Deferred[None] | None:
        """Fires when what is passed on has ended; what has no way yet is dropped."""
        Service.stopService(self)
        for arrival in self._nameless:
            arrival.drop("this relay is stopping")
        for dial in self._dialling:
            dial.cancel()
        if not self._joined:
            return None
        timer = Timer(self.shared.reactor, self._abort)
        timer.start(self.grace)
        self._drained = Deferred()
        self._quiet.start()

        def done(result: None) -> None:
            timer.stop()
            self._quiet.stop()

        return self._drained.addCallback(done)

    def forget(self, arrival: _Arrival) -> None:
        """It is over, or somebody else's."""
        self._nameless.discard(arrival)

    def route(self, carrier: SocketCarrier, host: str, name: str, hello: bytes) -> None:
        """``name`` is what the connection asks for; nothing of it is read meanwhile."""
        if not name:
            self._otherwise(carrier, host, hello)
            return
        target = self.relays.get(name)
        if target is None:
            _log.warn(
                "Refused {address}: no relay to {name}",
                address=carrier.far_address,
                name=printable(name),
            )
            carrier.write(UNRECOGNIZED_NAME)
            carrier.close()
            return
        counted = counted_address(host)
        if not self._turns.take(counted, self.shared.reactor.seconds()):
            self._too_often.turned_away(host)
            carrier.abort()
            return
        crowded_out = self._dialling.who_gives_way(counted)
        if crowded_out is not None:
            crowded_out.cancel()
        dial = Deferred.fromCoroutine(self._relay(carrier, counted, name, target, hello))
        dial.addTimeout(LIMIT, self.shared.reactor)
        self._dialling.add(dial, counted)
        dial.addBoth(self._dialled, dial, carrier, name, target)

    async def _relay(
        self,
        carrier: SocketCarrier,
        counted: str,
        name: str,
        target: tuple[str, int],
        hello: bytes,
    ) -> None:
        sock = await self._connect(*target)
        if not carrier.lendable:
            sock.close()
            raise DialError("the portal has gone")
        self._serial += 1
        who = {
            "relay": self._serial,
            "address": carrier.far_address,
            "name": name,
            "target": format_address(sock.getpeername()),
        }
        _log.info("Relaying {address} to {name} at {target}", event="relayed", **who)
        began = self.shared.reactor.seconds()
        ended = partial(self._ended, who, began, len(hello))
        relay = Relay(self.shared.poller, carrier, sock, ended, to_b=hello)
        crowded_out = self._joined.who_gives_way(counted)
        if crowded_out is not None:
            crowded_out.abort("another needed its place")
        self._joined.add(relay, counted)
        relay.start()

    async def _connect(self, host: str, port: int) -> socket.socket:
        problem = DialError(f"{host}: no addresses", code=Code.NO_SUCH_HOST)
        for address in await self._resolve(host):
            if self.entrances.covers(TCP, ip_address(address), port):
                problem = DialError(f"{format_address((address, port))} is this gate itself")
                continue
            decision = self._policy.own(address, port, TCP, CONNECT)
            try:
                return await connect_stream(self.shared.poller, decision, LIMIT)
            except DialError as error:
                problem = error
        raise problem

    async def _resolve(self, host: str) -> tuple[str, ...]:
        try:
            return (str(ip_address(host)),)
        except ValueError:
            return tuple(await self._resolver(host))

    def _dialled(
        self,
        result: Any,
        dial: Deferred[None],
        carrier: SocketCarrier,
        name: str,
        target: tuple[str, int],
    ) -> None:
        self._dialling.discard(dial)
        if result is not None:
            carrier.abort()
            _log.warn(
                "Cannot relay to {name} at {target}: {why}",
                name=name,
                target=format_address(target),
                why=result.getErrorMessage() or "no answer in time",
            )

    def _ended(
        self,
        who: Mapping[str, object],
        began: float,
        early: int,
        relay: Any,
        sent: int,
        received: int,
        outcome: str,
    ) -> None:
        self._joined.discard(relay)
        _log.info(
            "A relayed connection has ended: {outcome}, {sent} bytes in, {received} out"
            " ({address} to {name})",
            event="relay-ended",
            **who,
            seconds=round(self.shared.reactor.seconds() - began, 3),
            outcome=outcome,
            sent=early + sent,
            received=received,
        )
        if not self._joined and self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def _abort(self) -> None:
        for relay in self._joined:
            relay.abort("this relay has stopped")


class _Arrival:
    """A connection until its ClientHello is complete (`CarrierSink`)."""

    def __init__(self, relay: UsherRelay, carrier: SocketCarrier, host: str) -> None:
        self._relay = relay
        self._carrier = carrier
        self.host = host
        self._hello = ClientHelloReader()
        self._timer = Timer(relay.shared.reactor, self._too_slow)

    def start(self) -> None:
        """Begin to read."""
        self._timer.start(LIMIT)
        self._carrier.start(self)

    def carrier_received(self, view: memoryview) -> None:
        try:
            hello = self._hello.feed(view)
        except ProtocolError as error:
            self.drop(str(error))
            return
        if hello is None:
            return
        self._carrier.pause_reading()
        self._leave()
        self._relay.route(self._carrier, self.host, hello.name, self._hello.seen)

    def carrier_writable(self) -> None:
        """Nothing is written here."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        self._leave()

    def give_way(self) -> None:
        """End the connection for another one. A line about each would fill the log in a flood."""
        self._leave()
        self._carrier.abort()

    def drop(self, why: str) -> None:
        """End the connection."""
        self._leave()
        _log.warn("Dropped {address}: {why}", address=self._carrier.far_address, why=why)
        self._carrier.abort()

    def _too_slow(self) -> None:
        self.drop("it has not said where to in time")

    def _leave(self) -> None:
        self._timer.stop()
        self._relay.forget(self)
