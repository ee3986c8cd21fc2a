"""A TLS stream as a carrier: what is relayed over it is plaintext here (see `Carrier`)."""

from __future__ import annotations

from tunnelkit.errors import TunnelkitError
from tunnelkit.net.sockets.carrier import CarrierSink
from tunnelkit.net.tls.stream import TlsStream


class TlsCarrier:
    """``stream`` is established, and belongs to this from now on; ``early`` has come already.

    TLS has no half-close: `finish_writing` ends both directions, and the sink is told so.
    """

    def __init__(self, stream: TlsStream, early: bytes = b"") -> None:
        self._stream = stream
        self._early = early
        self._sink: CarrierSink | None = None
        self._stalled = False
        self.near_address = stream.carrier.near_address
        self.far_address = stream.carrier.far_address
        stream.replace_sink(self)

    # -- see `Carrier` ------------------------------------------------------------

    def start(self, sink: CarrierSink) -> None:
        """Begin reading for ``sink``, or go on with another one."""
        self._sink = sink
        early, self._early = self._early, b""
        if early:
            sink.carrier_received(memoryview(early))

    def hand_over(self, sink: CarrierSink) -> None:
        """From now on ``sink`` is told."""
        if self._sink is not None:
            self._sink = sink

    def write(self, view: memoryview | bytes | bytearray) -> int:
        """All, or nothing while the last batch is on its way."""
        if not self._stream.writable:
            self._stalled = True
            return 0
        self._stream.send(memoryview(view))
        return len(view)

    def pause_reading(self) -> None:
        """What has been read from the socket already still comes."""
        self._stream.carrier.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        self._stream.carrier.resume_reading()

    def set_low_water(self, size: int) -> None:
        """See `Carrier`."""
        self._stream.set_low_water(size)

    def finish_writing(self) -> None:
        """Send close_notify and end."""
        self._stream.close()
        self._lost("the connection was ended here", True)

    def close(self) -> None:
        """End in order."""
        self._sink = None
        self._stream.close()

    def abort(self) -> None:
        """End at once."""
        self._sink = None
        self._stream.abort()

    # -- see `TlsSink` ------------------------------------------------------------

    def tls_ready(self) -> None:
        """Told before."""

    def tls_received(self, view: memoryview) -> None:
        """Plaintext."""
        if self._sink is None:
            self._early += view
        else:
            self._sink.carrier_received(view)

    def tls_writable(self) -> None:
        """Another batch may be sent."""
        if self._stalled and self._sink is not None:
            self._stalled = False
            self._sink.carrier_writable()

    def tls_ended(self) -> None:
        """The peer's close_notify."""
        self._stream.close()
        self._lost("the far side ended the connection", True)

    def tls_lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        """It is over."""
        self._lost(str(reason), clean)

    def _lost(self, reason: str, clean: bool) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.carrier_lost(reason, clean)
