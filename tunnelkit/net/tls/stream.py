"""A carrier with TLS on it, driven by hand: batches of plaintext in, plaintext out.

`TlsStream` has no queue of its own beyond the ciphertext of one batch: while
that has not gone out, `writable` is False and nobody is asked for more.

A stream made with ``removable`` can be taken off again: `TlsStream.unwrap` ends TLS in
both directions and gives the carrier back, with the bytes that came behind it.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import attrs
from twisted.internet.defer import Deferred

from tunnelkit.errors import DialError, DialTimeout, LocalProtocolError, TunnelkitError
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.socket_carrier import Carrier
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.engine import TlsEngine
from tunnelkit.net.tls.records import RecordCutter

HANDSHAKE_TIMEOUT = 10.0
"""Seconds from the start of TLS to its end."""
_CLOSE_TIMEOUT = 5.0
"""Seconds that a peer has to take what is left and to answer close_notify."""


class TlsSink(Protocol):
    """Who uses a `TlsStream`."""

    def tls_ready(self) -> None:
        """The handshake is complete; the certificate may be judged now."""

    def tls_received(self, view: memoryview) -> None:
        """Plaintext, valid only during the call."""

    def tls_writable(self) -> None:
        """Another batch may be sent."""

    def tls_lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        """It is over; ``clean``: the peer said close_notify. Not told after `close`, `abort`."""


@runtime_checkable
class RemovableTlsSink(Protocol):
    """A `TlsSink` that is told of the peer's close_notify, and then unwraps the stream or closes
    it; for streams that are removable."""

    def tls_ended(self) -> None:
        """The peer has ended TLS: nothing more comes in it."""


@attrs.frozen
class Unwrapped:
    """What is left when TLS has been taken off: the next stage begins with it."""

    carrier: Carrier
    """Reading is paused; hand it over to the next stage's sink, then resume."""
    leftover: bytes = attrs.field(repr=False)
    """Bytes behind the peer's close_notify; they belong to the next stage and to nothing else."""


class TlsStream:
    """TLS over a carrier that has been started already.

    ``leftover`` are bytes that arrived behind whatever was spoken before TLS:
    they go to the TLS engine and to nothing else (rule X4). ``removable``: records are fed one by
    one, so that `unwrap` is possible; that costs a little for each record.
    """

    def __init__(
        self,
        shared: Shared,
        carrier: Carrier,
        engine: TlsEngine,
        sink: TlsSink,
        *,
        removable: bool = False,
    ) -> None:
        self.engine = engine
        self.carrier = carrier
        self.writable = False
        self._calls = engine.calls
        self._shared = shared
        self._plaintext, self._ciphertext = shared.plaintext, shared.ciphertext
        self._sink: TlsSink | None = sink
        self._backlog: memoryview | None = None
        self._closing = False
        self._finished = False
        self._records = RecordCutter() if removable else None
        self._unwrapped: Deferred[Unwrapped] | None = None
        self._timer = Timer(shared.reactor, self._too_slow)

    def start(self, leftover: bytes) -> None:
        """Begin the handshake."""
        self._timer.start(HANDSHAKE_TIMEOUT)
        self.carrier.hand_over(self)
        self.carrier.resume_reading()
        # The TLS client speaks first, whatever has come.
        self._read()
        if leftover:
            self.carrier_received(memoryview(leftover))

    def replace_sink(self, sink: TlsSink) -> None:
        """From now on ``sink`` is told."""
        if self._sink is not None:
            self._sink = sink

    # -- sending ----------------------------------------------------------

    def send(self, batch: memoryview) -> None:
        """Encrypt and send a batch; only while `writable`, or what is little."""
        if not batch:
            return
        if not self.writable:
            self._send_behind(batch)
            return
        buffer = self._ciphertext
        size = self._calls.encrypt(batch, buffer)
        if size < 0:
            try:
                self.engine.write_failed()
            except TunnelkitError as error:
                self._lost(error, False)
            return
        sent = self.carrier.write(buffer[:size])
        if sent < size:
            self._keep(buffer[sent:size])
        elif size == len(buffer):
            # There may be more.
            self._flush()

    def _send_behind(self, batch: memoryview) -> None:
        """The same, behind what waits."""
        try:
            self.engine.write(batch)
        except TunnelkitError as error:
            self._lost(error, False)
            return
        self._flush()

    def _keep(self, rest: memoryview) -> None:
        """The carrier does not take ``rest`` now."""
        self._backlog = memoryview(bytes(rest))
        self.writable = False

    def set_low_water(self, size: int) -> None:
        """Leave at most about ``size`` bytes unsent in the socket."""
        self.carrier.set_low_water(size)

    def _flush(self) -> None:
        """Move ciphertext from the engine to the carrier until one of them stops."""
        carrier = self.carrier
        rest = self._backlog
        if rest is not None:
            sent = carrier.write(rest)
            if sent < len(rest):
                self._backlog = rest[sent:]
                return
            self._backlog = None
        engine = self.engine
        buffer = self._ciphertext
        while True:
            size = engine.drain_into(buffer)
            if size:
                sent = carrier.write(buffer[:size])
                if sent < size:
                    self._keep(buffer[sent:size])
                    return
            if size < len(buffer):
                break
        if self._unwrapped is not None:
            self._release()
            return
        self.writable = engine.established and not self._closing
        if self._closing:
            self._finish_closing()

    def carrier_writable(self) -> None:
        """The carrier takes more: first what is left of the last batch, then a new one."""
        self._flush()
        if self.writable and self._sink is not None:
            self._sink.tls_writable()

    # -- receiving --------------------------------------------------------

    def carrier_received(self, view: memoryview) -> None:
        """Ciphertext has arrived."""
        records, engine = self._records, self.engine
        if records is not None:
            self._records_received(records, view)
            return
        if not engine.established:
            engine.feed(view)
            self._read()
            return
        calls, buffer = self._calls, self._plaintext
        size = calls.decrypt(view, buffer)
        if size and self._sink is not None:
            self._sink.tls_received(buffer[:size])
        if calls.more:
            self._read()

    def _records_received(self, records: RecordCutter, view: memoryview) -> None:
        """Ciphertext, of which nothing behind a close_notify may reach the engine."""
        records.add(view)
        while self._sink is not None and not self.engine.closed_cleanly:
            record = records.next()
            if not record:
                break
            self.engine.feed(memoryview(record))
            self._read()

    def _read(self) -> None:
        """Go on with what has been fed, up to its end."""
        engine = self.engine
        try:
            if not engine.established:
                done = engine.handshake()
                self._flush()
                if not done:
                    return
                self._established()
            buffer = self._plaintext
            while self._sink is not None:
                size = engine.read_into(buffer)
                if size and not self._closing:
                    self._sink.tls_received(buffer[:size])
                # Less than a buffer full was all there is, unless reading has ended for good.
                if not size or (size < len(buffer) and not engine.stopped):
                    break
        except TunnelkitError as error:
            self._flush()
            self._lost(error, False)
            return
        if engine.closed_cleanly:
            self._ended()

    def _ended(self) -> None:
        """The peer has said close_notify."""
        if self._records is not None and not self._closing:
            self.carrier.pause_reading()
            if self._unwrapped is not None:
                self._release()
                return
            if isinstance(self._sink, RemovableTlsSink):
                self._sink.tls_ended()
                return
        self._lost("the far side closed the tunnel connection", True)

    def _established(self) -> None:
        self._timer.stop()
        if self._sink is not None:
            self._sink.tls_ready()

    # -- taking TLS off ---------------------------------------------------

    def unwrap(self) -> Deferred[Unwrapped]:
        """End TLS in both directions, and give the carrier back.

        What was sent goes out first, then close_notify; what the peer still sends before its own
        is received as ever. Both ends may do this at once. A peer that does not answer within
        5 s is cut off: `DialTimeout`. Fails with what ends the stream before; the sink hears
        nothing of either. Raises `LocalProtocolError` where the stream is not removable, or not
        established, or closed.
        """
        if self._records is None or self._closing or self._sink is None:
            raise LocalProtocolError("this TLS stream cannot be taken off its carrier")
        if not self.engine.established or self._unwrapped is not None:
            raise LocalProtocolError("TLS can be taken off once, when it is established")
        unwrapped: Deferred[Unwrapped] = Deferred(lambda _: self.abort())
        self._unwrapped = unwrapped
        self.writable = False
        self._timer = Timer(self._shared.reactor, self._not_unwrapped)
        self._timer.start(_CLOSE_TIMEOUT)
        self.engine.shutdown()
        self._flush()
        return unwrapped

    def _release(self) -> None:
        """Give the carrier back, if both close_notify are through."""
        unwrapped = self._unwrapped
        if unwrapped is None or self._backlog is not None or not self.engine.closed_cleanly:
            return
        assert self._records is not None
        self._over()
        self._unwrapped = None
        unwrapped.callback(Unwrapped(self.carrier, self._records.rest()))

    def _not_unwrapped(self) -> None:
        self._over()
        self.carrier.abort()
        self._fail_unwrapping(DialTimeout("the other end did not end its TLS session in time"))

    def _fail_unwrapping(self, error: TunnelkitError) -> None:
        unwrapped, self._unwrapped = self._unwrapped, None
        if unwrapped is not None:
            unwrapped.errback(error)

    # -- endings ----------------------------------------------------------

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """The carrier has ended; without a close_notify that is never a clean end (rule X11)."""
        if self._closing:
            self._over()
            self.carrier.close()
        elif not self.engine.established:
            self._lost(f"{reason} during the TLS handshake", False)
        else:
            self._lost(reason, False)

    def close(self) -> None:
        """Send what is left and close_notify, then end; the sink is not told."""
        if self._sink is None or self._closing:
            return
        self._closing = True
        self.writable = False
        self._sink = _Nobody()
        self._timer.stop()
        self._timer = Timer(self._shared.reactor, self.abort)
        self._timer.start(_CLOSE_TIMEOUT)
        self.engine.shutdown()
        self._flush()

    def abort(self) -> None:
        """End at once; the sink is not told."""
        if self._sink is not None:
            self._over()
            self.carrier.abort()

    def _finish_closing(self) -> None:
        """Everything is out: end the stream, and wait for the peer to end its own, so that
        nothing that it still sends makes the system reset the connection."""
        if self._sink is not None and not self._finished:
            self._finished = True
            self.carrier.finish_writing()

    def _too_slow(self) -> None:
        self._lost(DialTimeout("the other end did not complete the TLS handshake"), False)

    def _lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        sink = self._sink
        if sink is None:
            return
        self._over()
        if clean:
            self.engine.shutdown()
        # An alert or a close_notify on its way should arrive, so this is not a reset.
        self._flush_quietly()
        self.carrier.close()
        if self._unwrapped is not None:
            self._fail_unwrapping(
                reason if isinstance(reason, TunnelkitError) else DialError(str(reason))
            )
            return
        sink.tls_lost(reason, clean)

    def _flush_quietly(self) -> None:
        """One attempt to send what TLS still has to say."""
        size = self.engine.drain_into(self._ciphertext)
        if size and self._backlog is None:
            self.carrier.write(self._ciphertext[:size])

    def _over(self) -> None:
        self._sink = None
        self.writable = False
        self._backlog = None
        self._timer.stop()


class _Nobody:
    """The sink of a stream that is closing."""

    def tls_ready(self) -> None:
        """Nothing to do."""

    def tls_received(self, view: memoryview) -> None:
        """Discard."""

    def tls_writable(self) -> None:
        """Nothing to do."""

    def tls_lost(self, reason: Any, clean: bool) -> None:
        """Nothing to do."""
