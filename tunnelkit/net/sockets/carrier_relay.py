"""Two carriers joined, with their backpressure: a relay for what has no socket to take (L1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunnelkit.net.sockets.carrier import Carrier

OnEnd = Callable[[Any, int, int, str], object]
"""``on_end(relay, bytes a to b, bytes b to a, outcome)``; outcome ``closed`` (both directions
ended in order), ``reset`` (one side was lost) or what ``abort`` was told."""


class _Flow:
    """One carrier of a `CarrierRelay`, as its sink, and the direction that begins at it."""

    other: _Flow

    def __init__(self, relay: CarrierRelay, carrier: Carrier) -> None:
        self._relay = relay
        self.carrier = carrier
        self.count = 0
        self.held: bytes | None = None
        self.ended = False
        self._gone = False
        self._passed_on = False

    def carrier_received(self, view: memoryview) -> None:
        self.count += len(view)
        taken = 0 if self.held else self.other.carrier.write(view)
        if taken < len(view):
            self.held = (self.held or b"") + bytes(view[taken:])
            self.carrier.pause_reading()

    def carrier_writable(self) -> None:
        self.other.flush()

    def carrier_ended(self) -> None:
        self.ended = True
        self._relay.leaves(self)
        if not self.held:
            self._pass_on()

    def carrier_lost(self, reason: str, clean: bool) -> None:
        self._relay.leaves(self)
        if not clean:
            self._relay.finish("reset", True)
            return
        # In order, but both directions at once: nothing can be passed back any more.
        self.ended = self._gone = True
        if not self.held:
            self._relay.finish("closed", False)

    def flush(self) -> None:
        """Write what the other carrier has not taken yet, then go on."""
        if self.held:
            taken = self.other.carrier.write(self.held)
            self.held = self.held[taken:] or None
            if self.held:
                return
            if self.ended:
                self._pass_on()
            else:
                self.carrier.resume_reading()

    def _pass_on(self) -> None:
        self._passed_on = True
        if self._gone or self.other._passed_on:
            self._relay.finish("closed", False)
        else:
            self.other.carrier.finish_writing()


class CarrierRelay:
    """Two carriers joined; the same as `Relay` for what has no socket to take."""

    def __init__(
        self, a: Carrier, b: Carrier, on_end: OnEnd, *, to_a: bytes = b"", to_b: bytes = b""
    ) -> None:
        self._on_end = on_end
        self._over = False
        self.left_by_a: bool | None = None
        """Whether it was a that ended its stream first, or was lost; None: neither was."""
        self._a = _Flow(self, a)
        self._b = _Flow(self, b)
        self._a.other = self._b
        self._b.other = self._a
        self._b.held = to_a or None
        self._a.held = to_b or None

    @property
    def bytes_ab(self) -> int:
        """Bytes read from a so far."""
        return self._a.count

    @property
    def bytes_ba(self) -> int:
        """Bytes read from b so far."""
        return self._b.count

    def start(self) -> None:
        """Begin; ``on_end`` may be called before this returns."""
        for flow in (self._a, self._b):
            if flow.held:
                flow.carrier.pause_reading()
        for flow in (self._a, self._b):
            if not self._over:
                flow.carrier.start(flow)
        for flow in (self._a, self._b):
            if not self._over:
                flow.flush()

    def leaves(self, flow: _Flow) -> None:
        """``flow``'s carrier has ended its stream, or was lost."""
        if self.left_by_a is None:
            self.left_by_a = flow is self._a

    def abort(self, outcome: str) -> None:
        """End both connections as resets."""
        self.finish(outcome, True)

    def finish(self, outcome: str, as_reset: bool) -> None:
        """Close everything and tell ``on_end``, once."""
        if self._over:
            return
        self._over = True
        for flow in (self._a, self._b):
            flow.held = None
            if as_reset:
                flow.carrier.abort()
            else:
                flow.carrier.close()
        self._on_end(self, self._a.count, self._b.count, outcome)
