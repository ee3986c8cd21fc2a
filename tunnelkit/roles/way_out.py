"""The way out of this network to the one place that a role dials (rows N1, N2)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from tunnelkit.errors import ConfigError, DialError
from tunnelkit.interfaces import IDialer
from tunnelkit.net.dial.choice import dialer_for
from tunnelkit.net.dial.via import Via
from tunnelkit.net.sockets.tcp import format_address


@implementer(IStreamClientEndpoint)
class WayOut:
    """The way to ``what`` at ``address``, chosen anew for each connection; says so when it fails.

    Raises `ConfigError` for a mistake in how this machine is set up.
    """

    def __init__(self, reactor: Any, via: Via, what: str, address: tuple[str, int]) -> None:
        self._dialer: IDialer = dialer_for(reactor, via)
        self._what = what
        self._address = address

    def describe(self) -> str:
        """For example ``gate gate.example:7000 directly``."""
        return f"{self._what} {format_address(self._address)} {self._dialer.describe()}"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint`."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        try:
            endpoint = IStreamClientEndpoint(self._dialer.endpoint_for(*self._address))
            protocol: IProtocol = await endpoint.connect(factory)
        except (DialError, ConfigError) as error:
            where = format_address(self._address)
            # The part that failed is often the far end itself: its address is not told twice.
            reason = str(error).removeprefix(f"{where}: ")
            raise DialError(f"cannot reach the {self._what} {where}: {reason}") from None
        return protocol
