"""Two tunnel connections of one process, joined without TLS, each with a data budget of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tunnelkit.core.mux.contract import TunnelMux
from tunnelkit.errors import Code, TunnelkitError
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import ChannelHandle, ChannelOpening, ChannelRecord
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.stream import TlsStream


class Nowhere:
    """The carrier of one."""

    far_address = "192.0.2.9:7"


class Session:
    """Its TLS session, which has buffers to give back."""

    trimmed = 0

    def trim(self) -> None:
        self.trimmed += 1


class Wire:
    """Stands for a `TlsStream`: what is sent comes out at the other one a turn later."""

    writable = True
    carrier = Nowhere()

    def __init__(self) -> None:
        self.other: Wire | None = None
        self.engine = Session()
        self.sink: Any = None
        self.sent = bytearray()
        """What nobody has received, where there is no other end."""

    def replace_sink(self, sink: object) -> None:
        self.sink = sink

    def set_low_water(self, size: int) -> None:
        """There is no socket."""

    def send(self, view: memoryview) -> None:
        if self.other is None:
            self.sent += view
        else:
            cast(Any, reactor).callLater(0, self.other.arrives, bytes(view))

    def arrives(self, data: bytes) -> None:
        if self.sink is not None:
            self.sink.tls_received(memoryview(data))

    def close(self) -> None:
        self.sink = None

    def lose(self, reason: TunnelkitError | str) -> None:
        """The connection breaks."""
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.tls_lost(reason, False)


class Owner:
    """Keeps what happens to a connection; requests may be for somebody else."""

    answers: Callable[[ChannelRequest], object] | None = None

    def __init__(self) -> None:
        self.requests: list[ChannelRequest] = []
        self.openings: list[ChannelOpening] = []
        self.records: list[ChannelRecord] = []
        self.ended: list[tuple[Code | None, str]] = []

    def connection_up(self, connection: TunnelConnection) -> None:
        """As expected."""

    def connection_ended(
        self, connection: TunnelConnection, code: Code | None, reason: str
    ) -> None:
        self.ended.append((code, reason))

    def channel_requested(self, request: ChannelRequest) -> None:
        if self.answers is not None:
            self.answers(request)
        else:
            self.requests.append(request)

    def channel_began(self, opening: ChannelOpening) -> None:
        self.openings.append(opening)

    def channel_ended(self, record: ChannelRecord) -> None:
        self.records.append(record)


class OneEnd:
    """A connection, its wire and its owner; started."""

    def __init__(self, mux: TunnelMux, peer: str, shared: Shared) -> None:
        self.wire = Wire()
        self.owner = Owner()
        stream = cast(TlsStream, self.wire)
        self.connection = TunnelConnection(shared, stream, mux, peer, self.owner)

    def end(self) -> None:
        """The connection breaks; nothing of it is left."""
        self.wire.lose("the test is over")


class StuckSide:
    """An application that takes nothing, until `take`, and sends nothing."""

    def __init__(self) -> None:
        self.taken: bytearray | None = None
        self.finished = False
        self.channel: Channel | None = None
        self.ended: list[Code | None] = []

    def attach(self, channel: ChannelHandle) -> None:
        assert isinstance(channel, Channel)
        self.channel = channel

    def pull_into(self, view: memoryview) -> int:
        return 0

    def push(self, view: memoryview) -> int:
        if self.taken is None:
            return 0
        self.taken += view
        return len(view)

    def take(self) -> None:
        """Take everything from now on."""
        self.taken = bytearray()
        assert self.channel is not None
        self.channel.drained()

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.ended.append(None)

    def reset(self, code: Code, reason: str) -> None:
        self.ended.append(code)


def join(one: OneEnd, two: OneEnd) -> None:
    """What one sends, the other receives; both begin."""
    one.wire.other, two.wire.other = two.wire, one.wire
    one.connection.start()
    two.connection.start()


def sockets() -> tuple[socket.socket, socket.socket]:
    """A TCP connection of loopback: the program's end (blocking) and this process's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    program.settimeout(5)
    return program, ours


def socket_side(shared: Shared, sock: socket.socket) -> SocketSide:
    """The socket as the application's side."""
    return SocketSide(shared.poller, sock)


def later(seconds: float = 0.0) -> Deferred[None]:
    """Fires after ``seconds``."""
    done: Deferred[None] = Deferred()
    cast(Any, reactor).callLater(seconds, done.callback, None)
    return done
