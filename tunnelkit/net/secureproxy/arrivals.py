"""The one port of a Communication Server: what a connection's first bytes ask for (S1, X16, X21).

Each connection is read until its ClientHello is complete, and then belongs to
somebody else, for good. Nobody has proved anything yet, so there are few of
them at a time, by address and in all, for ten seconds.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

import attrs
from twisted.logger import Logger

from tunnelkit.core.counted_address import counted_address
from tunnelkit.core.newcomers import Newcomers
from tunnelkit.errors import ProtocolError
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.socket_carrier import SocketCarrier
from tunnelkit.net.sockets.tcp import format_address, keep_alive
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.wire.proxy_protocol import ProxyHeaderReader
from tunnelkit.wire.tls_peek import ClientHello, ClientHelloReader

_log = Logger()

HELLO_LIMIT = 10.0
"""Seconds for the whole ClientHello to come."""
MAX_NAMELESS = 200
"""Connections whose hello is not complete."""
MAX_NAMELESS_PER_ADDRESS = 16

Network = IPv4Network | IPv6Network


@attrs.frozen
class Arrived:
    """A connection whose ClientHello is complete; its reading is paused."""

    carrier: SocketCarrier
    hello: ClientHello
    seen: bytes = attrs.field(repr=False)
    """All bytes of it so far, the hello first."""
    host: str
    """The address that it comes from, as policies look at it."""
    port: int

    @property
    def counted(self) -> str:
        """The address as limits count it."""
        return counted_address(self.host)

    @property
    def observed(self) -> str:
        """``ADDRESS:PORT`` for logs and others."""
        return format_address((self.host, self.port))


class Arrivals:
    """``on_arrival`` gets each connection that has said what it wants.

    Connections from ``proxies`` must begin with a PROXY header; its address is the one that counts.
    """

    def __init__(
        self,
        shared: Shared,
        on_arrival: Callable[[Arrived], object],
        proxies: Sequence[Network] = (),
    ) -> None:
        self.shared = shared
        self.proxies = tuple(proxies)
        self._on_arrival = on_arrival
        self.dropped = 0
        """Connections that have not said what they want, since the start."""
        self._nameless: Newcomers[_Nameless] = Newcomers(MAX_NAMELESS, MAX_NAMELESS_PER_ADDRESS)

    def __len__(self) -> int:
        return len(self._nameless)

    def accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """A connection from a listener."""
        keep_alive(sock)
        host, port = address
        # A proxy in front speaks for many: its own connections are its own affair.
        trusted = self._is_proxy(host)
        counted = counted_address(host)
        crowded_out = self._nameless.who_gives_way(counted, many=trusted)
        if crowded_out is not None:
            crowded_out.drop("too many have not said what they want")
        nameless = _Nameless(self, SocketCarrier(self.shared.poller, sock), host, port, trusted)
        self._nameless.add(nameless, counted)
        nameless.start()

    def _is_proxy(self, host: str) -> bool:
        if not self.proxies or not host:
            return False
        address = ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.proxies)

    def forget(self, nameless: _Nameless) -> None:
        """It is over, or somebody else's."""
        self._nameless.discard(nameless)

    def arrived(self, nameless: _Nameless, arrived: Arrived) -> None:
        """It has said what it wants."""
        self.forget(nameless)
        self._on_arrival(arrived)

    def close(self) -> None:
        """Drop all of them."""
        for nameless in list(self._nameless):
            nameless.drop("the server is stopping")


class _Nameless:
    """A connection until its ClientHello is complete (`CarrierSink`)."""

    def __init__(
        self, arrivals: Arrivals, carrier: SocketCarrier, host: str, port: int, proxied: bool
    ) -> None:
        self._arrivals = arrivals
        self._carrier = carrier
        self._host = host
        self._port = port
        self._header = ProxyHeaderReader() if proxied else None
        self._hello = ClientHelloReader()
        self._timer = Timer(arrivals.shared.reactor, self._late)

    def start(self) -> None:
        """Begin to read."""
        self._timer.start(HELLO_LIMIT)
        self._carrier.start(self)

    def carrier_received(self, view: memoryview) -> None:
        data: bytes | memoryview = view
        try:
            if self._header is not None:
                found = self._header.feed(view)
                if found is None:
                    return
                self._header = None
                source, data = found
                if source.address:
                    self._host, self._port = source.address, source.port
            hello = self._hello.feed(data)
        except ProtocolError as error:
            self.drop(str(error))
            return
        if hello is None:
            return
        self._carrier.pause_reading()
        self._timer.stop()
        seen = self._hello.seen
        arrived = Arrived(self._carrier, hello, seen, self._host, self._port)
        self._arrivals.arrived(self, arrived)

    def carrier_writable(self) -> None:
        """Nothing is written here."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        self._timer.stop()
        self._arrivals.forget(self)

    def _late(self) -> None:
        self.drop("it has not said what it wants in time")

    def drop(self, why: str) -> None:
        """End the connection."""
        self._timer.stop()
        self._arrivals.forget(self)
        self._arrivals.dropped += 1
        # Anybody can cause this line, as often as they like.
        _log.debug("Dropped {address}: {why}", address=self._carrier.far_address, why=why)
        self._carrier.abort()
