"""UDP on LSTP channels, and connections accepted for the far side (`spec/lstp.md`, 'UDP').

On a channel to ``udp:HOST:PORT`` each SERVICE_DATA is one datagram; to
``udp:*`` each begins with a SOCKS 5 address, of the destination on the way
there, of the sender on the way back. `DatagramActions` is the part of
`LstpMux` that is about them (see `DatagramMux` and `ListeningMux`).
"""

from __future__ import annotations

from collections.abc import Sequence

from tunnelkit.core.lstp.actions import ChannelActions
from tunnelkit.core.lstp.channel import SENDING, LstpChannel, State
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.datagram_body import MAX_DATAGRAM
from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.lstp import HEADER
from tunnelkit.wire.lstp import MessageType as M
from tunnelkit.wire.socks import encode_address

MAX_WAITING = 256 * 1024
"""Bytes of datagrams that wait for the connection; what comes beyond that is dropped."""

_CROWD = 2
"""Datagrams come in bursts, and cannot wait for room as streams do: they may have so many times
the target of the path under way."""

NO_ADDRESS = ("", 0)
"""The address of the side that opened the channel: it does not travel."""


class DatagramActions(ChannelActions):
    """The part of `LstpMux` for datagrams and accepted connections."""

    _datagrams_waiting = 0
    """Bytes of datagrams in ``_out``."""

    def send_datagram(
        self,
        flow: int,
        source: tuple[str, int],
        destination: tuple[str, int],
        data: bytes | memoryview,
        now: float,
    ) -> bool:
        """Send one datagram, see `DatagramMux`; without credit it is dropped.

        So it is while the path is overfull: a datagram that waits for long is worth less than
        none. One may always be under way, however large.
        """
        ch = self._channels.get(flow)
        if ch is None or ch.datagrams is None:
            raise LocalProtocolError(f"channel {flow} carries no datagrams")
        if len(data) > MAX_DATAGRAM:
            raise LocalProtocolError(f"a datagram of {len(data)} bytes")
        head = b""
        if ch.datagrams.remote is None:
            head = encode_address(*(destination if ch.opener else source))
        size = len(head) + len(data)
        if ch.state not in SENDING or ch.paused or ch.near_finished:
            return False
        out = ch.outbound
        path = self.flow.path
        if size > out.credit or (out.in_flight and path.in_flight + size > _CROWD * path.target):
            return False
        frame = HEADER.pack(size, M.SERVICE_DATA, 0, 0, flow) + head + data
        if self._datagrams_waiting + len(frame) > MAX_WAITING:
            return False
        self._now = now
        self.flow.sent(ch, size, now)
        self._put(frame)
        self._datagrams_waiting += len(frame)
        return True

    def _may_accept(self, listener: int) -> bool:
        """Whether connections accepted on that channel's listener may be handed over."""
        ch = self._channels.get(listener)
        return ch is not None and not ch.opener and ch.listens and ch.state is State.OPEN

    def _listens(self, listener: int) -> bool:
        """Whether over that channel this side has the far side listen."""
        ch = self._channels.get(listener)
        return ch is not None and ch.opener and ch.listens and ch.state is State.OPEN

    def _datagram_ended(self, ch: LstpChannel, last: bool) -> Sequence[t.Event]:
        """A whole SERVICE_DATA has come on a channel for datagrams."""
        body = ch.datagrams
        assert body is not None
        if last and body.is_empty:
            return t.NO_EVENTS
        try:
            remote, payload, size = body.ended()
        except RemoteProtocolError as error:
            return self._channel_error(ch, error)
        near, far = (remote, NO_ADDRESS) if ch.opener else (NO_ADDRESS, remote)
        # Whoever is told of it sends it on or drops it, so it is taken either way.
        if self.flow.consumed(ch, size, self._now):
            self._report(ch)
        return [t.Datagram(ch.id, near, far, payload)]
