"""A tunnel as far as it leads to certain peers: what a front end is bound to (rule X29)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from zope.interface import implementer

from tunnelkit.interfaces import ITunnel
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import (
    Connection,
    DatagramSink,
    LocalSide,
    Remote,
    TunnelStatus,
)
from tunnelkit.net.channels.protocol_side import ChannelEndpoint
from tunnelkit.net.channels.udp_flow import UdpFlow

Peers = frozenset[str] | None
"""Verified names of other ends; None: whoever is there."""


class OfPeer(Protocol):
    """Something with one peer."""

    @property
    def peer(self) -> str:
        """Verified name of the other end."""


def is_of(one: OfPeer, peers: Peers) -> bool:
    """Whether it is with one of them."""
    return peers is None or one.peer in peers


class Wide(Protocol):
    """The whole tunnel; each of these with the names of the ``peers`` that it is about."""

    @property
    def name(self) -> str:
        """What logs call it."""

    @property
    def connections(self) -> Sequence[TunnelConnection]:
        """All that carry channels."""

    def accept(self, service: str, peers: Peers = None) -> IStreamServerEndpoint:
        """See `ITunnel`."""

    def open(
        self,
        destination: str,
        side: LocalSide,
        via: tuple[str, ...] = (),
        peers: Peers = None,
    ) -> Deferred[str]:
        """See `ITunnel`."""

    def open_flow(
        self, destination: str, near: Remote, sink: DatagramSink, peers: Peers = None
    ) -> UdpFlow | None:
        """See `ITunnel`."""

    def watch(self, came: Callable[[Connection], object]) -> None:
        """See `ITunnel`."""

    def unwatch(self, came: Callable[[Connection], object]) -> None:
        """See `ITunnel`."""

    def until_up(self, peers: Peers) -> Deferred[None]:
        """Fires once channels can be opened."""

    def why_down(self, peers: Peers) -> str:
        """Why they cannot be; empty while they can."""

    def status(self) -> TunnelStatus:
        """See `ITunnel`."""


@implementer(ITunnel)
class NarrowedTunnel:
    """``tunnel`` as if nobody but ``peers`` ever came."""

    def __init__(self, tunnel: Wide, peers: frozenset[str]) -> None:
        self._tunnel = tunnel
        self._peers = peers
        self._watching: dict[Callable[[Connection], object], Callable[[Connection], object]] = {}

    @property
    def name(self) -> str:
        """See `ITunnel`."""
        return self._tunnel.name

    @property
    def connections(self) -> tuple[TunnelConnection, ...]:
        """See `ITunnel`."""
        return tuple(one for one in self._tunnel.connections if is_of(one, self._peers))

    @property
    def peer(self) -> str:
        """See `ITunnel`."""
        connections = self.connections
        return connections[-1].peer if connections else ""

    @property
    def topology(self) -> tuple[str, ...]:
        """See `ITunnel`; empty where the newest tunnel is with somebody else."""
        path = self._tunnel.status().topology
        return path if self._peers.intersection(path[-1:]) else ()

    @property
    def last_error(self) -> str:
        """See `ITunnel`."""
        return self._tunnel.why_down(self._peers)

    def to(self, *peers: str) -> NarrowedTunnel:
        """See `ITunnel`: those of ``peers`` to whom this leads."""
        return NarrowedTunnel(self._tunnel, self._peers.intersection(peers))

    def channel_to(self, destination: str) -> ChannelEndpoint:
        """See `ITunnel`."""
        return ChannelEndpoint(self, destination)

    def accept(self, service: str) -> IStreamServerEndpoint:
        """See `ITunnel`: the service is for these peers alone."""
        return self._tunnel.accept(service, self._peers)

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        """See `ITunnel`."""
        return self._tunnel.open(destination, side, peers=self._peers)

    def open_flow(self, destination: str, near: Remote, sink: DatagramSink) -> UdpFlow | None:
        """See `ITunnel`."""
        return self._tunnel.open_flow(destination, near, sink, self._peers)

    def watch(self, came: Callable[[Connection], object]) -> None:
        """See `ITunnel`."""

        def of_these(connection: Connection) -> None:
            if is_of(connection, self._peers):
                came(connection)

        self._watching[came] = of_these
        self._tunnel.watch(of_these)

    def unwatch(self, came: Callable[[Connection], object]) -> None:
        """See `ITunnel`."""
        of_these = self._watching.pop(came, None)
        if of_these is not None:
            self._tunnel.unwatch(of_these)

    def when_up(self) -> Deferred[ITunnel]:
        """See `ITunnel`."""
        up: Deferred[ITunnel] = self._tunnel.until_up(self._peers).addCallback(lambda _: self)
        return up

    def status(self) -> TunnelStatus:
        """See `ITunnel`; what has been counted since the start is that of the whole tunnel."""
        connections = self.connections
        return attrs.evolve(
            self._tunnel.status(),
            up=bool(connections),
            peers=tuple(dict.fromkeys(one.peer for one in connections)),
            topology=self.topology,
            connections=len(connections),
            channels=sum(one.channel_count for one in connections),
            last_error=self.last_error,
        )
