"""What a carrier is to those who use one; the text is in `tunnelkit.net.sockets.socket_carrier`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class CarrierSink(Protocol):
    """Who uses a carrier; see the module's text."""

    def carrier_received(self, view: memoryview) -> None:
        """Bytes have arrived."""

    def carrier_writable(self) -> None:
        """A write that was cut short can go on."""

    def carrier_lost(self, reason: str, clean: bool) -> None:
        """The stream is over."""


@runtime_checkable
class HalfCloseSink(Protocol):
    """A sink that goes on writing after the far side's end of stream."""

    def carrier_ended(self) -> None:
        """No more bytes will arrive; ``write`` still works."""


class Carrier(Protocol):
    """The contract; see the module's text."""

    near_address: str
    far_address: str

    def start(self, sink: CarrierSink) -> None:
        """Begin reading for ``sink``; called again, hand everything that follows to another."""

    def hand_over(self, sink: CarrierSink) -> None:
        """From now on ``sink`` is told instead of the one that `start` was given."""

    def write(self, view: memoryview | bytes | bytearray) -> int:
        """Bytes of ``view`` taken now; fewer than given: ``carrier_writable`` will follow."""

    def pause_reading(self) -> None:
        """No ``carrier_received`` until `resume_reading`."""

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""

    def set_low_water(self, size: int) -> None:
        """Take no more while ``size`` bytes or more wait unsent, where the platform can tell."""

    def finish_writing(self) -> None:
        """End this side's stream in order behind what was taken (half-close); only once."""

    def close(self) -> None:
        """End in order: what was taken still goes out. The sink hears nothing more."""

    def abort(self) -> None:
        """End at once, as a reset. The sink hears nothing more."""
