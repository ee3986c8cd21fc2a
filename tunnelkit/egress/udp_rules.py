"""What decides where a peer's datagrams go, and is told what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from tunnelkit.core.decision import Decision
from tunnelkit.errors import NotAuthorized
from tunnelkit.net.channels.contracts import Remote


class UdpRules(Protocol):
    """What decides where a datagram goes."""

    def meant(self, host: str, port: int) -> Remote:
        """Where a datagram to there is meant to go."""

    def resolve(self, peer: str, host: str, port: int) -> Deferred[Sequence[str]]:
        """The addresses of a host; one that is an address is its own.

        Fails with `DialError`, and with `NotAuthorized` if ``peer`` may not send to any that it
        could have.
        """

    def authorize(self, peer: str, address: str, port: int, name: str | None) -> Decision:
        """Permission to send there now; raises `NotAuthorized`."""

    def denied(self, peer: str, error: NotAuthorized) -> object:
        """A datagram has not been allowed."""

    def passed(
        self, peer: str, remote: Remote, meant: Remote, sent: int, received: int, seconds: float
    ) -> object:
        """A mapping is over: bytes to and from ``peer``, from the first datagram to the last."""
