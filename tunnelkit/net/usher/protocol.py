"""Usher's records as a channel protocol, in both versions (rows U1, U12)."""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import implementer

from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.interfaces import IChannelProtocol, IEnd
from tunnelkit.net.channels.contracts import ExtendedConnection
from tunnelkit.net.channels.keepalive import learning_keepalive
from tunnelkit.wire.usher import Version


@implementer(IChannelProtocol)
class UsherProtocol:
    """What one end says in Usher, in the best of ``versions`` that the other end knows."""

    def __init__(
        self,
        config: UsherConfig | None = None,
        budget: Budget | None = None,
        versions: Iterable[Version] = (Version.V1_1, Version.V1),
    ) -> None:
        self.config = UsherConfig() if config is None else config
        names = tuple(version.value for version in versions)
        # A peer from before ALPN speaks usher/1.
        self.alpn = (*names, b"") if Version.V1.value in names else names
        self._budget = Budget() if budget is None else budget
        self._keepalive = learning_keepalive(self.config.keepalive)

    def make_mux(self, master: bool, alpn: bytes, now: float) -> UsherMux:
        """A mux for one new tunnel. Both ends are alike, so ``master`` does not matter."""
        return UsherMux(
            Version.of(alpn), self.config, now, budget=self._budget, keepalive=self._keepalive
        )

    def extend(self, connection: ExtendedConnection, end: IEnd) -> None:
        """See `IChannelProtocol`: there is nothing beside the channels."""
