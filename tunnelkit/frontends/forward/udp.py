"""Forwards of UDP: a port here, whose datagrams go to one destination there (rows F2, U8)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from tunnelkit.local.udp_peer import FlowOpener, UdpPeer
from tunnelkit.net.channels.addressed_flows import IDLE
from tunnelkit.net.channels.contracts import Remote
from tunnelkit.net.sockets.datagram_port import DatagramPort
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.sockets.udp import bind_udp
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.destination import UDP, ForwardSpec

_log = Logger()

CLIENTS = 256
"""Addresses that are answered at a time; the one idle for longest goes."""


class UdpForward(Service):
    """One UDP port. Each client's address has a flow of its own through the tunnel.

    It ends ``idle`` seconds after the client's last packet. With ``others`` each datagram goes
    through all of the tunnels that are up, and what comes back from any of them is the client's.
    """

    def __init__(
        self,
        reactor: Any,
        tunnel: FlowOpener,
        policy: PolicyHolder,
        spec: ForwardSpec,
        idle: float = IDLE,
        others: Sequence[FlowOpener] = (),
    ) -> None:
        self._reactor = reactor
        self._tunnels = (tunnel, *others)
        self._policy = policy
        self._idle = idle
        self._remote = (spec.destination.host, spec.destination.port)
        self._destination = str(spec.destination)
        sock = bind_udp(policy.own(spec.address, spec.port, UDP))
        self._port = DatagramPort(Poller.of(reactor), sock, self._received)
        self._own = (UDP, spec.address, self._port.port)
        policy.listeners.add(*self._own)
        self._clients: OrderedDict[Remote, _Client] = OrderedDict()
        """In the order of their last packet."""
        self._timer = Timer(self._reactor, self._sweep)
        self.address = self._port.address
        """``HOST:PORT`` with the real port."""
        self.description = f"forward {self.address} to {self._destination}"
        """For the role's ready line."""

    def startService(self) -> None:
        """Take datagrams."""
        Service.startService(self)
        self._port.start()

    def stopService(self) -> None:
        """Close the port and end all flows."""
        Service.stopService(self)
        self._port.close()
        self._policy.listeners.discard(*self._own)
        for address in list(self._clients):
            self._forget(address)

    # -- clients ----------------------------------------------------------

    def _received(self, data: bytes, source: Remote) -> None:
        client = self._client_at(source)
        if client is not None:
            for peer in client.peers:
                peer.send(self._remote, memoryview(data))

    def _client_at(self, address: Remote) -> _Client | None:
        """The client, new or known; None if it may not enter."""
        client = self._clients.get(address)
        policy = self._policy.current
        if client is None or client.admitted_by is not policy:
            if not policy.admits(address[0]):
                _log.warn(
                    "Not admitted to {address}: {client} (--from)",
                    address=self.address,
                    client=format_address(address),
                )
                return None
            if client is not None:
                client.admitted_by = policy
        if client is None:
            client = self._begin(address, policy)
        client.last = self._reactor.seconds()
        self._clients.move_to_end(address)
        return client

    def _begin(self, address: Remote, policy: Policy) -> _Client:
        if len(self._clients) >= CLIENTS:
            self._forget(next(iter(self._clients)))
        peers = tuple(
            UdpPeer(
                self._reactor,
                tunnel,
                self.description,
                self._destination,
                address,
                partial(self._answer, address),
            )
            for tunnel in self._tunnels
        )
        client = self._clients[address] = _Client(peers, policy)
        if not self._timer.running:
            self._timer.start(self._idle)
        return client

    def _answer(self, address: Remote, remote: Remote, data: memoryview) -> None:
        client = self._clients.get(address)
        if client is None:
            return
        client.last = self._reactor.seconds()
        self._clients.move_to_end(address)
        self._port.write(data, address)

    def _forget(self, address: Remote) -> None:
        client = self._clients.pop(address)
        for peer in client.peers:
            peer.close()
        if not self._clients:
            self._timer.stop()

    def _sweep(self) -> None:
        now = self._reactor.seconds()
        while self._clients:
            address, client = next(iter(self._clients.items()))
            left = client.last + self._idle - now
            if left > 0:
                self._timer.start(left)
                return
            self._forget(address)


class _Client:
    """One address that sends to the port."""

    __slots__ = ("admitted_by", "last", "peers")

    def __init__(self, peers: tuple[UdpPeer, ...], admitted_by: Policy) -> None:
        self.peers = peers
        self.admitted_by: Policy = admitted_by
        """The policy that lets it in: a new one is asked again."""
        self.last = 0.0
