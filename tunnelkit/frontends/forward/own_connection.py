"""A tunnel connection of its own for what comes in at one port (row L16).

Bulk on it does not share a TCP connection, its window and its losses with the channels of others.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from tunnelkit.errors import ChannelClosed, ChannelRefused, Code, TunnelkitError
from tunnelkit.interfaces import ITunnel
from tunnelkit.net.channels.contracts import Connection, LocalSide

PATIENCE = 5.0
"""Seconds that an open waits for a tunnel that is down."""
_MOST_WAITING = 1000


class _Waiting(NamedTuple):
    """An open that waits for the connection."""

    destination: str
    side: LocalSide
    done: Deferred[str]


class OwnConnection:
    """Opens channels of ``tunnel`` on a connection that nobody else uses.

    It is made for the first channel, and ends with the last one.
    """

    def __init__(self, reactor: IReactorTime, tunnel: ITunnel) -> None:
        self._reactor = reactor
        self._tunnel = tunnel
        self._connection: Connection | None = None
        self._waiting: deque[_Waiting] = deque()

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        """See `ChannelOpener`."""
        connection = self._connection
        if connection is not None and connection.up and not connection.draining:
            return connection.open(destination, side)
        if len(self._waiting) >= _MOST_WAITING:
            refusal = ChannelRefused(Code.LIMIT, "too many wait for the connection")
            side.reset(refusal.code, refusal.reason)
            return fail(refusal)
        waiting = _Waiting(destination, side, Deferred())
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._connect())
        return waiting.done

    async def _connect(self) -> None:
        try:
            self._connection = connection = await self._another()
        except ChannelClosed as error:
            self._refuse(error.code, error.reason)
        except TunnelkitError as error:
            self._refuse(Code.UNREACHABLE, f"no connection of its own: {error}")
        except (CancelledError, DeferredTimeout):
            self._refuse(Code.UNREACHABLE, "the tunnel is down")
        else:
            while self._waiting:
                waiting = self._waiting.popleft()
                opening = connection.open(waiting.destination, waiting.side)
                opening.chainDeferred(waiting.done)

    async def _another(self) -> Connection:
        if not self._tunnel.connections:
            await self._tunnel.when_up().addTimeout(PATIENCE, self._reactor)
        if not self._tunnel.connections:
            raise ChannelRefused(Code.UNREACHABLE, "the tunnel is down")
        return await self._tunnel.connections[-1].another()

    def _refuse(self, code: Code, reason: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            one.side.reset(code, reason)
            one.done.errback(ChannelRefused(code, reason))
