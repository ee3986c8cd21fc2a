"""What a mux is to the layers above it: its verbs and its events.

`Mux` is the sans-IO contract that every channel protocol meets, so that `tunnelkit.net`
drives them all with the same code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import attrs

from tunnelkit.core.mux.flow_control import FlowControl
from tunnelkit.core.mux.path import Path
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.wire.checkpoint import Checkpoint


class LimitReached(LocalProtocolError):
    """No channel can be opened now; ``code`` says why."""

    def __init__(self, message: str, code: Code) -> None:
        super().__init__(message)
        self.code = code


EARLY_DATA = 16_384
"""Bytes that may be sent on a channel before it is answered, if its window allows as many: what an
end holds for destinations that do not answer stays small (rule X25)."""


# -- events ---------------------------------------------------------------


class Data(NamedTuple):
    """Bytes of a channel, in order. ``data`` is valid only until the next ``receive``.

    On a datagram channel one event is one datagram.
    """

    channel: int
    data: memoryview


class Writable(NamedTuple):
    """``sendable(channel)`` has become more than 0."""

    channel: int


class Datagram(NamedTuple):
    """A UDP datagram came through the tunnel; ``data`` is valid only until the next ``receive``.

    ``source`` sent it, ``destination`` is to get it: (host, port), host an IP
    address without brackets or a name. See `DatagramMux` for ``flow``.
    """

    flow: int
    source: tuple[str, int]
    destination: tuple[str, int]
    data: memoryview


class Finished(NamedTuple):
    """The far application has ended this direction cleanly; no Data follows."""

    channel: int


@attrs.frozen
class TunnelUp:
    """The far side's properties have arrived: channels may be opened."""

    software: str = ""


@attrs.frozen
class ChannelRequested:
    """The far side asks for a channel to ``destination``; answer with ``opened`` or ``refuse``.

    With ``listener`` it is no wish to connect anywhere: the far side has
    accepted a connection of ``origin`` on the listener that this side opened
    as channel ``listener``; ``destination`` is empty then. ``via``: by which ends
    the wish has come, as the far side tells it; see `OnwardMux`.
    """

    channel: int
    destination: str
    datagrams: bool = False
    listener: int = 0
    origin: str = ""
    via: tuple[str, ...] = ()


@attrs.frozen
class ChannelOpened:
    """A channel this side asked for is connected; ``bound`` is the far socket's own address."""

    channel: int
    bound: str = ""


@attrs.frozen
class ChannelEnded:
    """A channel is over, whoever ended it; its id may be used again.

    ``code`` None: both directions ended cleanly. Otherwise it was refused
    (``refused`` True: it was never open), reset or lost.
    """

    channel: int
    code: Code | None = None
    reason: str = ""
    refused: bool = False


@attrs.frozen
class Draining:
    """The far side is shutting down: no new channels; it ends after ``grace`` seconds at most."""

    grace: float
    reason: str = ""


@attrs.frozen
class TunnelEnded:
    """The mux is finished; ``code`` None: cleanly, after a shutdown.

    Every channel that was open has had its ChannelEnded before this event.
    The connection is to be closed once ``data_to_send`` has gone out.
    """

    code: Code | None = None
    reason: str = ""


class ExtensionEvent:
    """Base of the events that only one channel protocol has.

    Who does not know one gives it to `Mux.decline`.
    """


@attrs.frozen
class CheckpointCame(ExtensionEvent):
    """The far side says how far its audit file has come; see `VouchingMux`."""

    checkpoint: Checkpoint


Event = (
    Data
    | Writable
    | Datagram
    | Finished
    | TunnelUp
    | ChannelRequested
    | ChannelOpened
    | ChannelEnded
    | Draining
    | TunnelEnded
    | ExtensionEvent
)

NO_EVENTS: Sequence[Event] = ()


def has_slept(last: float, due: float | None, now: float) -> bool:
    """Whether this machine was suspended, or its process stopped: nothing was done between ``last``
    and ``now`` though ``due`` lay in between. The far side may have spoken all that time (R14)."""
    return now - last > LONGEST_PAUSE and due is not None and now > due + 1.0


LONGEST_PAUSE = 30.0
"""Seconds between two turns that a process that runs never takes."""


# -- the contract ---------------------------------------------------------


class Mux(Protocol):
    """Many channels on one byte stream, sans-IO.

    Times are seconds of one monotonic clock. Every verb returns the events it
    caused, which the caller treats like those of `receive`. Remote input
    raises nothing: a broken rule ends the channel or, with `TunnelEnded`, the
    tunnel. Misuse raises `LocalProtocolError`.
    """

    header_size: int
    """Bytes before each frame's payload."""
    max_frame: int
    """Largest payload of one frame."""

    flow: FlowControl
    """Credit and reports of all channels."""

    @property
    def path(self) -> Path:
        """What is known of the way to the other end."""

    def receive(self, data: memoryview, now: float) -> Sequence[Event]:
        """Take bytes as they come, cut anywhere."""

    def receive_data(self, data: memoryview, now: float) -> int:
        """The fast path of `receive`, for small messages: if ``data`` is exactly one whole frame of
        plain payload for a connected channel, that channel. `receive` would have reported `Data`
        of it, with ``data[header_size:]``.

        0: it is something else, nothing has been done, and `receive` takes it.
        """

    def data_to_send(self) -> bytes:
        """Frames other than payload that are due now; empties their queue."""

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called at the latest.

        It is asked for when that was, and when it may have become earlier: see
        `FlowControl.soonest`.
        """

    def deadline_passed(self, now: float) -> Sequence[Event]:
        """Do what is due: keepalive, acknowledgements, expiry."""

    def open(self, destination: str, now: float) -> int:
        """Ask for a channel; its id. `EARLY_DATA` bytes at most may be sent at once, with the
        request, where the protocol has that; `Writable` follows the answer if there were more."""

    def lacks(self, destination: str) -> str:
        """Why nothing of the kind of ``destination`` can be asked for over this mux, whatever the
        far side allows; empty if it can. For datagrams it is ``udp:HOST:PORT`` or ``udp:*``."""

    def opened(self, channel: int, bound: str) -> Sequence[Event]:
        """Answer `ChannelRequested`: the destination is connected."""

    def refuse(self, channel: int, code: Code, reason: str) -> Sequence[Event]:
        """Answer `ChannelRequested`: it is not."""

    def decline(self, event: ExtensionEvent) -> Sequence[Event]:
        """Nobody here knows ``event``: refuse it on the wire if the far side waits for an answer,
        otherwise do nothing."""

    def sendable(self, channel: int) -> int:
        """Payload bytes that may be sent on this channel now; 0: see `waits_for_path`."""

    def waits_for_path(self, channel: int) -> bool:
        """True if ``sendable`` is 0 only because enough is in flight: no `Writable` will come,
        it is worth asking again after the next ``receive``."""

    def frame_into(
        self, buffer: bytearray | memoryview, offset: int, channel: int, size: int, now: float
    ) -> int:
        """Account for ``size`` payload bytes, at most ``sendable``, that stand in ``buffer`` at
        ``offset + header_size``, and write the frame's header at ``offset``.

        The result is how many bytes of payload the frame has; fewer than ``size`` where it has
        been compressed, in place.
        """

    def send(self, channel: int, data: bytes, now: float) -> None:
        """Queue one frame of at most ``sendable`` bytes, for callers off the hot path."""

    def finish(self, channel: int, now: float) -> Sequence[Event]:
        """This side has no more data for the channel (half-close)."""

    def consumed(self, channel: int, size: int, now: float) -> Sequence[Event]:
        """The near application has taken ``size`` bytes of `Data`: grants credit.

        Nothing where the channel has ended while it took them.
        """

    def abort(self, channel: int, code: Code, reason: str, now: float) -> Sequence[Event]:
        """End the channel at once, as a reset."""

    def shutdown(self, grace: float, reason: str, now: float) -> Sequence[Event]:
        """No new channels from now on; `TunnelEnded` once the open ones are over or ``grace``
        seconds have passed."""

    def connection_lost(self, clean: bool, now: float) -> Sequence[Event]:
        """The connection under the mux has ended; ``clean``: with close_notify."""

    def channels(self) -> Iterable[int]:
        """Ids of the channels that are not over."""


class DatagramMux(Mux, Protocol):
    """A mux that carries UDP too.

    A *flow* is what one local UDP peer (a SOCKS association, a client of a
    forward) sends and is answered:

    - where datagrams have a channel of their own, it is that channel
      (``udp:*`` or ``udp:HOST:PORT``). The far side sees
      `ChannelRequested` with ``datagrams``; it ends as any channel does. The
      address of the side that opened it does not travel: it is ``("", 0)``;
    - where every datagram carries both addresses, it is 0 for all of them. The
      pair of addresses tells them apart, and nothing begins or ends but in the
      tables of the layer above: a `Datagram` from A to B is an answer if there
      is a live mapping from B to A, otherwise a new flow that has to be
      authorized. While that flow lives, its answers go back with ``source`` B
      and ``destination`` A.
    """

    addressed_datagrams: bool
    """Every datagram carries both addresses, and the flow of each is 0."""

    def open_datagrams(self, now: float, destination: str = "udp:*") -> int:
        """A flow for one local peer's datagrams; raises like `open`.

        ``udp:*``: each goes where it says. ``udp:HOST:PORT``: all of them go there.
        """

    def send_datagram(
        self,
        flow: int,
        source: tuple[str, int],
        destination: tuple[str, int],
        data: bytes | memoryview,
        now: float,
    ) -> bool:
        """Send one datagram. False: it was dropped, as UDP may, because the far side is behind.

        Raises `LocalProtocolError` for an address or size that this mux cannot carry.
        """


class ListeningMux(Mux, Protocol):
    """A mux over which the far side can be asked to listen (``open("listen:tcp:HOST:PORT")``)."""

    def open_accepted(self, listener: int, origin: str, now: float) -> int:
        """Hand a connection of ``origin`` that this side accepted to the far side.

        ``listener`` is the channel over which the far side asked to listen. Otherwise as `open`.
        """


@runtime_checkable
class VouchingMux(Protocol):
    """A mux over which ends can tell each other how far their audit files have come (row O8)."""

    def say_checkpoint(self, checkpoint: Checkpoint, now: float) -> None:
        """Tell the far side, which has a `CheckpointCame` of it."""


@runtime_checkable
class OnwardMux(Protocol):
    """A mux by which ends can ask on behalf of others, so that no wish goes round (row U18)."""

    def open_onward(self, destination: str, via: tuple[str, ...], now: float) -> int:
        """As `Mux.open`, for a wish that has come by the ends named ``via``, this one last."""


def open_onward(mux: Mux, destination: str, via: tuple[str, ...], now: float) -> int:
    """The same over any mux: over one that cannot say by whom a wish has come, only what nobody
    but this end has been asked for."""
    if isinstance(mux, OnwardMux):
        return mux.open_onward(destination, via, now)
    if len(via) > 1:
        raise LimitReached("what has come from a gate cannot go on from here", Code.UNREACHABLE)
    return mux.open(destination, now)


class TunnelMux(DatagramMux, ListeningMux, Protocol):
    """What `tunnelkit.net` drives."""
