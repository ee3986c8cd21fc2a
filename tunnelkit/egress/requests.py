"""What the far side asks for, and how it is told no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from tunnelkit.core.decision import Decision
from tunnelkit.egress.names import Foresight
from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import DatagramSink, LocalSide
from tunnelkit.net.channels.udp_flow import UdpFlow
from tunnelkit.policy.printable import printable

_log = Logger()

# What the opener is told: no more than the code says.
_REASONS = {
    Code.REFUSED: "connection refused",
    Code.UNREACHABLE: "it cannot be reached from there",
    Code.TIMED_OUT: "no answer in time",
    Code.NOT_ALLOWED: "not allowed there",
    Code.NO_SUCH_HOST: "no such host",
    Code.NO_SUCH_SERVICE: "no such service",
    Code.LIMIT: "too many requests at once",
    Code.PROTOCOL: "not a destination",
    Code.SHUTDOWN: "the far side is shutting down",
}
EXHAUSTED = "no descriptors or memory are left there"
"""What is told with LIMIT when it is not the peer that has too many."""


class EgressRequest(Protocol):
    """A channel that the far side asks for."""

    on_gone: Callable[[], None] | None
    """Called once if the opener aborts the request, or the tunnel is lost, before the answer."""

    @property
    def peer(self) -> str:
        """Verified name of who asks."""

    @property
    def destination(self) -> str:
        """As it came; nobody has looked at it."""

    @property
    def gone(self) -> bool:
        """Answered, aborted or lost: nobody waits for an answer."""

    def attach(self, side: LocalSide, bound: str, rule: str = "") -> object:
        """Answer: connected; ``bound`` is the socket's own address, ``rule`` has allowed it."""

    def attach_flow(self, sink: DatagramSink) -> UdpFlow:
        """Answer a request for ``udp``: ``sink`` takes the datagrams."""

    def refuse(self, code: Code, reason: str) -> object:
        """Answer: no."""


class Authorizer(Foresight, Protocol):
    """What allows a connection, see `Policy`."""

    def authorize(
        self,
        peer: str,
        action: str,
        protocol: str,
        address: str,
        port: int,
        host: str | None = None,
    ) -> Decision:
        """Raises `NotAuthorized`."""


def refuse(request: EgressRequest, code: Code, why: str, told: str = "") -> None:
    """Answer no; ``why`` is for the log, the opener is told what ``code`` says, or ``told``."""
    _log.debug(
        "Refused {peer} the destination {destination}: {why}",
        peer=printable(request.peer),
        destination=printable(request.destination),
        why=printable(why),
    )
    request.refuse(code, told or _REASONS.get(code, str(code)))
