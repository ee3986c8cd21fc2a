"""A bound UDP socket, read through the poller: many datagrams for each turn of the reactor."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.address import IPv4Address, IPv6Address

from tunnelkit.net.sockets.asked_address import SPACE, Control, answering, tell_what_is_asked
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import format_address

DATAGRAMS_PER_EVENT = 64
MAX_DATAGRAM = 65_535
REMEMBERED = 20_000
"""Askers of whom it is known which address of this machine they have asked."""

Address = tuple[str, int]


class DatagramPort:
    """Gives each datagram, and where it came from, to ``received``, once it has been started.

    A port on all addresses of the machine answers from the one that was asked.
    It has what a ``DatagramProtocol`` needs of its transport: ``write`` and ``getHost``.
    """

    def __init__(
        self, poller: Poller, sock: socket.socket, received: Callable[[bytes, Address], object]
    ) -> None:
        """``sock`` is bound and does not block; it is closed with the port."""
        self._poller = poller
        self._socket = sock
        self._received = received
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))
        self._reading = False
        self._asked: OrderedDict[Address, Control] | None = None
        if tell_what_is_asked(sock):
            self._asked = OrderedDict()
        name = sock.getsockname()
        self.address = format_address(name)
        """``HOST:PORT`` with the real port."""
        self.port = int(name[1])

    def start(self) -> None:
        """Read from now on."""
        if not self._reading:
            self._reading = True
            self._poller.add(self._socket.fileno(), self, True, False)

    def close(self) -> None:
        """Give the port back."""
        if self._reading:
            self._reading = False
            self._poller.remove(self._socket.fileno())
        self._socket.close()

    def write(self, data: bytes | memoryview, address: Address) -> None:
        """Send one datagram, or drop it, as UDP may."""
        asked = None if self._asked is None else self._asked.get(address)
        try:
            if asked is None:
                self._socket.sendto(data, address)
            else:
                self._socket.sendmsg([data], [asked], 0, address)
        except OSError:
            pass

    def getHost(self) -> IPv4Address | IPv6Address:
        """See ``IUDPTransport``."""
        host, port = self._socket.getsockname()[:2]
        kind = IPv6Address if self._socket.family == socket.AF_INET6 else IPv4Address
        return kind("UDP", host, port)

    # -- poller -----------------------------------------------------------

    def readable(self) -> None:
        """Datagrams have come."""
        buffer = self._buffer
        for _ in range(DATAGRAMS_PER_EVENT):
            if not self._reading:
                return
            try:
                if self._asked is None:
                    size, source = self._socket.recvfrom_into(buffer)
                else:
                    size, control, _, source = self._socket.recvmsg_into([buffer], SPACE)
                    self._remember(source[:2], answering(control))
            except BlockingIOError:
                return
            except OSError:
                continue  # what became of an earlier one
            self._received(bytes(buffer[:size]), source[:2])

    def _remember(self, source: Address, asked: Control | None) -> None:
        if self._asked is None or asked is None or self._asked.get(source) == asked:
            return
        self._asked[source] = asked
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)

    def writable(self) -> None:
        """Never asked for."""
