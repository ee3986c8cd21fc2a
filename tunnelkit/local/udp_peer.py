"""One local UDP peer of a front end: its flow through the tunnel, begun again when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import DatagramSink, Remote
from tunnelkit.net.channels.udp_flow import UdpFlow
from tunnelkit.policy.printable import printable

_log = Logger()

REST = 5.0
"""Seconds without a new attempt after the far side has refused a flow."""

_PASSING = frozenset({Code.RESET, Code.SHUTDOWN})
"""Ends of a tunnel, not refusals: the next tunnel may be there already."""

Answer = Callable[[Remote, memoryview], object]
"""Called with what comes back, and from where."""


class FlowOpener(Protocol):
    """What front ends for UDP need of a tunnel."""

    def open_flow(self, destination: str, near: Remote, sink: DatagramSink) -> UdpFlow | None:
        """A flow of the local peer at ``near``; None while the tunnel is down."""


class UdpPeer:
    """The peer at ``near``, whose datagrams go to ``destination`` (``udp:*``: where each says).

    ``what`` names the front end in the log. ``settled`` is called once: with None when the far
    side takes datagrams, with the reason if it does not.
    """

    def __init__(
        self,
        reactor: Any,
        tunnel: FlowOpener,
        what: str,
        destination: str,
        near: Remote,
        answer: Answer,
        settled: Callable[[Code | None], object] | None = None,
    ) -> None:
        self._reactor = reactor
        self._tunnel = tunnel
        self._what = what
        self._destination = destination
        self._near = near
        self._answer = answer
        self._settled = settled
        self._flow: UdpFlow | None = None
        self._not_before = 0.0
        self._told = ""
        self._closed = False

    def begin(self) -> bool:
        """Have a flow if that is possible now; False: there is none."""
        if self._flow is not None and not self._flow.over:
            return True
        if self._closed or self._reactor.seconds() < self._not_before:
            return False
        flow = self._tunnel.open_flow(self._destination, self._near, self)
        if flow is None or flow.over:
            self._settle(Code.UNREACHABLE)
            return False
        self._flow = flow
        return True

    def send(self, remote: Remote, data: bytes | memoryview) -> None:
        """Send a datagram of the peer to ``remote``, or drop it."""
        if self.begin() and self._flow is not None:
            self._flow.send(remote, data)

    def close(self) -> None:
        """The peer is gone."""
        self._closed = True
        if self._flow is not None:
            self._flow.end()

    # -- DatagramSink -----------------------------------------------------

    def flow_opened(self) -> None:
        """See `DatagramSink`."""
        self._settle(None)

    def datagram_received(self, remote: Remote, data: memoryview) -> None:
        """See `DatagramSink`."""
        if not self._closed:
            self._answer(remote, data)

    def flow_ended(self, code: Code | None, reason: str) -> None:
        """See `DatagramSink`: the next datagram begins another, not too soon."""
        self._flow = None
        if code is None or self._closed:
            return
        if code not in _PASSING:
            self._not_before = self._reactor.seconds() + REST
        why = printable(f"{code}: {reason}")
        if why != self._told:
            self._told = why
            _log.info("{what}: {why}", what=self._what, why=why)
        self._settle(code)

    def _settle(self, code: Code | None) -> None:
        settled, self._settled = self._settled, None
        if settled is not None:
            settled(code)
