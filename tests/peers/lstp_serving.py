"""A server end around `LstpPeer`: joins every channel to a TCP server, or echoes."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from tests.peers.lstp_channel import Channel, ChannelFailed
from tests.peers.lstp_peer import LstpPeer
from tests.peers.lstp_stream import ConnectionEnded

PIECE = 65_536


class ServingEnd:
    """Accepts all channels of ``peer``, which must be up.

    With ``target`` each is joined to its own TCP connection there; without,
    it echoes what it gets and half-closes after the other side did.
    """

    def __init__(self, peer: LstpPeer, target: tuple[str, int] | None = None) -> None:
        self.peer = peer
        self.target = target
        self.joined: dict[Channel, socket.socket | None] = {}
        self.destinations: list[str] = []

    def run(self, until: Callable[[], bool]) -> None:
        """Serve until ``until`` holds or the connection ends."""
        try:
            while not until():
                while self.peer.poll():
                    pass
                self._accept_waiting()
                for channel, sock in list(self.joined.items()):
                    if channel.freed or channel.failure:
                        self._drop(channel)
                    elif sock is None:
                        self._echo(channel)
                    else:
                        self._relay(channel, sock)
                readable = [
                    sock for channel, sock in self.joined.items() if sock and channel.credit > 0
                ]
                select.select([self.peer.sock, *readable], [], [], 0.05)
        except ConnectionEnded:
            pass
        finally:
            for channel in list(self.joined):
                self._drop(channel)

    def _accept_waiting(self) -> None:
        # One that has not asked for its application yet stays in the queue.
        for _ in range(len(self.peer.incoming)):
            channel = self.peer.incoming.popleft()
            if channel.freed:
                continue
            if not channel.accepted:
                channel.accept()
            if channel.begin_asked:
                self._start(channel)
            else:
                self.peer.incoming.append(channel)

    def _start(self, channel: Channel) -> None:
        self.destinations.append(str(channel.request.get("destination", "")))
        if self.target is None:
            channel.started("tcp:192.0.2.1:7")
            self.joined[channel] = None
            return
        try:
            sock = socket.create_connection(self.target, self.peer.timeout)
        except OSError as error:
            channel.not_started("refused", str(error))
            return
        sock.setblocking(False)
        host, port = sock.getsockname()[:2]
        channel.started(f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}")
        self.joined[channel] = sock

    def _echo(self, channel: Channel) -> None:
        while channel.inbox and channel.credit > 0:
            size = channel.send_some(bytes(channel.inbox[:PIECE]))
            channel.take(size)
        if channel.at_end and not channel.finished:
            channel.finish()

    def _relay(self, channel: Channel, sock: socket.socket) -> None:
        try:
            if channel.inbox:
                channel.take(sock.send(bytes(channel.inbox[:PIECE])))
            if channel.at_end:
                sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError as error:
            if not channel.at_end:
                self._reset(channel, str(error))
                return
        try:
            while not channel.finished and channel.credit > 0:
                data = sock.recv(min(PIECE, channel.credit))
                if data:
                    channel.send(data)
                else:
                    channel.finish()
        except BlockingIOError:
            pass
        except (OSError, ChannelFailed) as error:
            self._reset(channel, str(error))

    def _reset(self, channel: Channel, reason: str) -> None:
        if not channel.freed and not channel.failure:
            channel.abort("reset", reason)
        self._drop(channel)

    def _drop(self, channel: Channel) -> None:
        sock = self.joined.pop(channel, None)
        if sock is not None:
            sock.close()
