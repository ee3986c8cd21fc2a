"""UDP on LSTP channels (`spec/lstp.md`, 'UDP').

On a channel to ``udp:HOST:PORT`` each SERVICE_DATA is one datagram; to
``udp:*`` each begins with a SOCKS 5 address, of the destination on the way
there, of the sender on the way back.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunnelkit.core.lstp.channel import SENDING, UNCONNECTED, LstpChannel, State
from tunnelkit.core.lstp.life import Life
from tunnelkit.core.lstp.outbox import Outbox
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.datagram_body import MAX_DATAGRAM
from tunnelkit.core.mux.flow_control import FlowControl
from tunnelkit.errors import LocalProtocolError
from tunnelkit.wire.lstp import HEADER
from tunnelkit.wire.lstp import MessageType as M
from tunnelkit.wire.socks_address import encode_address

MAX_WAITING = 256 * 1024
"""Bytes of datagrams that wait for the connection; what comes beyond that is dropped."""

_CROWD = 2
"""Datagrams come in bursts, and cannot wait for room as streams do: they may have so many times
the target of the path under way."""

NO_ADDRESS = ("", 0)
"""The address of the side that opened the channel: it does not travel."""


class Datagrams:
    """The part of `LstpMux` for datagrams, see `DatagramMux`."""

    __slots__ = ("_by_id", "_flow", "_life", "_outbox")

    def __init__(
        self, life: Life, outbox: Outbox, flow: FlowControl, by_id: Mapping[int, LstpChannel]
    ) -> None:
        self._life = life
        self._outbox = outbox
        self._flow = flow
        self._by_id = by_id

    def send(
        self,
        flow: int,
        source: tuple[str, int],
        destination: tuple[str, int],
        data: bytes | memoryview,
        now: float,
    ) -> bool:
        """Send one datagram; without credit it is dropped.

        So it is while the path is overfull: a datagram that waits for long is worth less than
        none. One may always be under way, however large.
        """
        ch = self._by_id.get(flow)
        if ch is None or ch.datagrams is None:
            raise LocalProtocolError(f"channel {flow} carries no datagrams")
        if len(data) > MAX_DATAGRAM:
            raise LocalProtocolError(f"a datagram of {len(data)} bytes")
        head = b""
        if ch.datagrams.remote is None:
            head = encode_address(*(destination if ch.opener else source))
        size = len(head) + len(data)
        if ch.state not in SENDING or ch.paused:
            return False
        out = ch.outbound
        path = self._flow.path
        if size > out.credit or (
            out.in_flight and path.in_flight + size > _CROWD * path.inflight_target
        ):
            return False
        if ch.state in UNCONNECTED and out.sent + size > t.EARLY_DATA:
            return False
        frame = HEADER.pack(size, M.SERVICE_DATA, 0, 0, flow) + head + data
        outbox = self._outbox
        if outbox.datagram_bytes + len(frame) > MAX_WAITING:
            return False
        self._life.now = now
        self._flow.sent(ch, size, now)
        outbox.frames.append(frame)
        outbox.datagram_bytes += len(frame)
        return True

    def received(self, ch: LstpChannel) -> t.Event:
        """A whole SERVICE_DATA has come on a channel for datagrams.

        Raises `RemoteProtocolError` for an address that is none.
        """
        body = ch.datagrams
        assert body is not None
        remote, payload, size = body.ended()
        near, far = (remote, NO_ADDRESS) if ch.opener else (NO_ADDRESS, remote)
        # Whoever is told of it sends it on or drops it, so it is taken either way: at once, or
        # when the destination is connected.
        if ch.state is not State.DIALLING and self._flow.consumed(ch, size, self._life.now):
            self._outbox.grant(ch)
        return t.Datagram(ch.id, near, far, payload)
