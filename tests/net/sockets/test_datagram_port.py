"""UDP ports read through the poller (findings U-1)."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tunnelkit.net.sockets import datagram_port
from tunnelkit.net.sockets.datagram_port import DatagramPort
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.udp import bind_udp
from tunnelkit.policy.acl import Policy

reactor: Any = global_reactor


class DatagramPortTests(TestCase):
    timeout = 20

    def echo(self, address: str) -> DatagramPort:
        """A port that sends back what comes."""
        sock = bind_udp(Policy().own(address, 0, "udp"))
        port = DatagramPort(Poller.of(reactor), sock, lambda data, source: port.write(data, source))
        self.addCleanup(port.close)
        port.start()
        return port

    async def asks(self, address: str, port: int) -> tuple[bytes, str]:
        """What comes back, and from which address."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(b"hello", (address, port))
            while True:
                try:
                    data, source = sock.recvfrom(100)
                except BlockingIOError:
                    turn: Deferred[None] = Deferred()
                    reactor.callLater(0, turn.callback, None)
                    await turn
                else:
                    return data, source[0]

    async def test_a_port_on_all_addresses_answers_from_the_one_that_was_asked(self) -> None:
        port = self.echo("0.0.0.0").port
        for address in ("127.0.0.1", "127.0.0.9", "127.1.2.3"):
            assert await self.asks(address, port) == (b"hello", address)

    async def test_so_does_one_of_ipv6_and_one_on_a_single_address(self) -> None:
        assert await self.asks("::1", self.echo("::").port) == (b"hello", "::1")
        assert await self.asks("127.0.0.9", self.echo("127.0.0.9").port) == (b"hello", "127.0.0.9")

    async def test_only_so_many_askers_are_remembered(self) -> None:
        few = mock.patch.object(datagram_port, "REMEMBERED", 3)
        few.start()
        self.addCleanup(few.stop)
        port = self.echo("0.0.0.0")
        for _ in range(6):
            await self.asks("127.0.0.9", port.port)
        assert port._asked is not None
        assert len(port._asked) == 3
