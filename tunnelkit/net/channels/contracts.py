"""What the parts of this package ask of one another, and of parts that somebody else writes.

    application -- LocalSide  <->  ChannelHandle -- tunnel         a byte stream
    application -- DatagramSink  <->  Flow       -- tunnel         datagrams

`tunnelkit.interfaces` has what a plug-in author implements, in terms of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import attrs
from twisted.internet.defer import Deferred

from tunnelkit.core.mux import contract as t
from tunnelkit.errors import Code
from tunnelkit.net.role_status import Durations, Histogram, metric

END = -1
"""What `LocalSide.pull_into` returns once the application has sent everything."""

Remote = tuple[str, int]
"""A host, name or address without brackets, and a port."""


@attrs.frozen
class ChannelOpening:
    """A channel that is open now, for the access log (row O8)."""

    serial: int
    """The same as that of its `ChannelRecord`; no other channel of this process has it."""
    peer: str
    destination: str
    inbound: bool
    """The far side asked for it."""
    rule: str
    """The rule that has allowed it; empty where the far side's rules decide."""
    origin: str
    """The address that it came from: the program's here; of an inbound one, the connection's that
    carries the tunnel, or what the far side says of the client that came in over its listener."""
    seconds: float = 0.0
    """From the request to the answer."""


@attrs.frozen
class ChannelRecord:
    """One finished channel, for the access log (rows O1, O8)."""

    peer: str
    destination: str
    inbound: bool
    """The far side asked for it."""
    bytes_sent: int
    """To the far side."""
    bytes_received: int
    seconds: float
    code: Code | None
    """None: both directions ended cleanly."""
    reason: str
    refused: bool
    serial: int = 0
    """0: nobody counts them."""
    rule: str = ""
    """See `ChannelOpening`."""
    origin: str = ""


ChannelEvent = ChannelOpening | ChannelRecord
"""What an access log is told."""


class HasOrigin:
    """A side that may know the address of the program that it belongs to."""

    __slots__ = ()

    def origin(self) -> str:
        """``HOST:PORT``, a path, or empty."""
        return ""


@attrs.frozen
class PeerStatus:
    """What there is with one peer, at one moment; what counts up does so since the start."""

    peer: str
    """Its verified name; ``other``: all beyond the first thousand."""
    up: bool = metric("tunnel_up", "Whether a tunnel with the peer is up")
    channels: int = metric("channels_open", "Channels open now")
    channels_opened: int = metric("channel_opens_total", "Channels", outcome="opened")
    channels_refused: int = metric("channel_opens_total", "Channels", outcome="refused")
    channels_broken: int = metric("channels_broken_total", "Open channels that did not end cleanly")
    bytes_sent: int = metric("bytes_total", "Bytes of channels", direction="sent")
    bytes_received: int = metric("bytes_total", "Bytes of channels", direction="received")
    round_trip: float | None = metric(
        "round_trip_seconds", "What the last round trip took that was measured"
    )
    in_flight: int = metric(
        "path_bytes_in_flight", "Bytes under way that no far application has been seen to take"
    )
    queued: int = metric("queued_bytes", "Bytes that wait for applications here")


@attrs.frozen
class PathHop:
    """A party on the path of a tunnel."""

    name: str
    """What it calls itself; of the two ends the verified name, once a tunnel is up."""
    role: str = ""
    """What it is, e.g. ``middle``; empty if nobody says."""
    address: str = ""
    """What it says of where it is; empty if it does not say."""
    seen: str = ""
    """Of this end the address it connects from. Of the next party the address that it is connected
    to; a proxy in between has that one itself. Empty of those behind."""
    proved: bool = False
    """The name is in a certificate, or given to a key: true of the two ends alone."""


@attrs.frozen(kw_only=True)
class HopStatus(PathHop):
    """The same of one tunnel of several."""

    tunnel: int
    """Counts them, 1 for the oldest one."""


@attrs.frozen
class TunnelStatus:
    """A snapshot for status pages and logs."""

    name: str
    up: bool
    peers: tuple[str, ...]
    topology: tuple[str, ...]
    """The parties on the path of the newest connection, own end first."""
    connections: int
    channels: int
    bytes_sent: int
    """Since the start, over all connections; the same of those below."""
    bytes_received: int
    last_error: str = ""
    """Why it is down; empty while it is up."""
    connects: int = 0
    """Connections that came up."""
    channels_opened: int = 0
    channels_refused: int = 0
    channels_broken: int = 0
    """Those that were open and did not end cleanly in both directions."""
    connects_failed: int = 0
    """Attempts that came to nothing."""
    handshakes_rejected: Mapping[str, int] = attrs.field(factory=dict)
    """By reason."""
    open_times: Histogram = attrs.field(factory=lambda: Durations().snapshot())
    """From requests to answers that channels are open."""
    with_peers: tuple[PeerStatus, ...] = ()
    hops: tuple[HopStatus, ...] = ()
    """The parties on the paths of the tunnels that are up, own end first."""


# -- channels and flows -----------------------------------------------------------


class ChannelHandle(Protocol):
    """The tunnel's side of a channel, as the application's side sees it."""

    def ready(self) -> None:
        """The application has data, or its end, to pull."""

    def drained(self) -> None:
        """The application takes data again."""

    def abort(self, code: Code, reason: str) -> None:
        """Reset the channel at the far side, and this side."""

    @property
    def bytes_received(self) -> int:
        """How many have come for the application."""

    def hand_over(self, side: LocalSide) -> None:
        """Attach ``side`` in place of the side that there was."""

    def open_accepted(self, origin: str, side: LocalSide) -> Deferred[str]:
        """Hand a connection of ``origin`` to the far side, which listens here by this channel.

        Otherwise as `Connection.open`.
        """


class LocalSide(Protocol):
    """The application's side of a channel.

    ``pull_into`` and ``push`` may raise OSError: the application is gone, and
    the channel is reset.
    """

    def attach(self, channel: ChannelHandle) -> None:
        """The channel exists from here on; `ChannelHandle.ready` may be called."""

    def pull_into(self, view: memoryview) -> int:
        """Bytes of the application placed in ``view``; 0: nothing now, `END`: no more ever.

        ``view`` is empty where nothing may be sent now: an end that is not behind data is to be
        told all the same (finding D-9).
        """

    def push(self, view: memoryview) -> int:
        """Bytes the application takes now; fewer than given: it calls `ChannelHandle.drained`."""

    def finish(self) -> None:
        """The far application has ended its direction cleanly; everything has been pushed."""

    def close(self) -> None:
        """Both directions have ended cleanly."""

    def reset(self, code: Code, reason: str) -> None:
        """The channel ended early; the application must be able to tell (rule X11)."""


class DatagramSink(Protocol):
    """Who takes what comes out of the tunnel on a flow. May be called from within the verbs."""

    def flow_opened(self) -> None:
        """The far side takes datagrams. Only told to who opened the flow; it need not wait."""

    def datagram_received(self, remote: Remote, data: memoryview) -> None:
        """One datagram; ``data`` is valid only during the call."""

    def flow_ended(self, code: Code | None, reason: str) -> None:
        """Nothing comes any more. ``code`` None: it was closed."""


class Flow(Protocol):
    """What one local UDP peer sends through a tunnel; answers go to its `DatagramSink`."""

    @property
    def over(self) -> bool:
        """It has ended, and the sink has been told."""

    def send(self, remote: Remote, data: bytes | memoryview) -> bool:
        """Send one datagram. False: it was dropped, as UDP may.

        If the tunnel cannot carry such an address at all, the flow ends with the reason.
        """

    def end(self) -> None:
        """No more datagrams in either direction."""

    def abort(self, code: Code, reason: str) -> None:
        """The same, and the far side is told why, if it can be."""


class Connection(Protocol):
    """One connection of a tunnel that is up; channels can be opened on this very one."""

    @property
    def peer(self) -> str:
        """Verified name of the other end."""

    @property
    def up(self) -> bool:
        """It carries channels."""

    @property
    def draining(self) -> bool:
        """It takes no new ones."""

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        """Open a channel to ``destination`` for ``side``.

        The result is the far socket's own address. Fails with `ChannelRefused`;
        the side has been reset then.
        """

    def lacks(self, destination: str) -> str:
        """Why the far side cannot be asked for ``destination``, whatever it allows; empty if it
        can, see `Mux.lacks`."""

    def another(self) -> Deferred[Connection]:
        """A further connection to the same peer, that no others share, and that ends with its last
        channel (row L16). Fails with `ChannelRefused` where this end cannot make one."""


class ExtendedConnection(Connection, Protocol):
    """A connection as the channel protocol on it sees it, see `IChannelProtocol.extend`."""

    @property
    def mux(self) -> t.TunnelMux:
        """What the protocol's ``make_mux`` made. After a verb of it: `dispatch`, then `pump`."""

    @property
    def clock(self) -> Callable[[], float]:
        """The time that the mux is told."""

    def handle(self, event: type, handler: Callable[[Any], None]) -> None:
        """Let ``handler`` have the events of that type from now on.

        Those that nobody handles are declined (`Mux.decline`).
        """

    def make_another(self, make: Callable[[], Deferred[Connection]]) -> None:
        """Let `Connection.another` be ``make`` from now on."""

    def dispatch(self, events: Iterable[t.Event]) -> None:
        """Do what has happened, as any verb of the mux says."""

    def pump(self) -> None:
        """Send what can be sent."""

    def channel_opened(self, event: t.ChannelOpened) -> None:
        """What is done with the event where nobody handles it."""

    def channel_ended(self, event: t.ChannelEnded) -> None:
        """The same."""

    def end(self, code: Code, reason: str) -> None:
        """End the connection at once; its channels are reset."""


@runtime_checkable
class ServiceBook(Protocol):
    """A channel protocol that tells the far side which services are accepted here."""

    def service_accepted(self, name: str) -> None:
        """``service:NAME`` is answered from now on. Raises ValueError if the name is taken,
        `LocalProtocolError` if it cannot be told: it is not accepted then."""

    def service_withdrawn(self, name: str) -> None:
        """It is not answered any more."""
