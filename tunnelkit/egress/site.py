"""Dialling one destination of this end's own configuration, as its rules allow (P2, X1, X2)."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from tunnelkit.egress.resolve import Resolver
from tunnelkit.errors import Code, DialError, NotAuthorized
from tunnelkit.net.sockets.connect import connect_stream
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import CONNECT, PolicyHolder
from tunnelkit.policy.destination import TCP

LIMIT = 5.0
"""Seconds for each address."""


class SiteDialler:
    """Connects to ``host:port`` for nobody in particular: browsers have no name."""

    def __init__(
        self, poller: Poller, policy: PolicyHolder, resolver: Resolver, host: str, port: int
    ) -> None:
        self._poller = poller
        self._policy = policy
        self._resolver = resolver
        self._host = host
        self._port = port

    async def __call__(self) -> socket.socket:
        """A connected socket; raises `DialError`."""
        problem = DialError(f"{self._host}: no addresses", code=Code.NO_SUCH_HOST)
        for address in await self._addresses():
            try:
                decision = self._policy.authorize("", CONNECT, TCP, address, self._port, self._host)
                return await connect_stream(self._poller, decision, LIMIT)
            except NotAuthorized as error:
                problem = DialError(str(error), code=Code.NOT_ALLOWED)
            except DialError as error:
                problem = error
        raise problem

    async def _addresses(self) -> tuple[str, ...]:
        try:
            return (str(ip_address(self._host)),)
        except ValueError:
            return tuple(await self._resolver(self._host))
