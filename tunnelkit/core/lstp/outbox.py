"""What waits to be said on a connection: whole messages, and credit, worked out at the end."""

from __future__ import annotations

from tunnelkit.core.lstp.channel import RECEIVING, LstpChannel
from tunnelkit.core.lstp.life import Life
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import HEADER, MessageType

MAX_FRAMES = 65_536
"""Messages waiting to be sent that end the tunnel: the peer asks and asks, and does not read."""


class Outbox:
    """Messages in the order in which they go out, without the payload that is framed in place."""

    __slots__ = ("_granting", "_life", "datagram_bytes", "frames")

    def __init__(self, life: Life) -> None:
        self._life = life
        self.frames: list[bytes] = []
        self.datagram_bytes = 0
        """Bytes of datagrams in ``frames``."""
        self._granting: dict[int, LstpChannel] = {}

    def put(self, message: lstp.Message, channel: int = 0) -> None:
        """Say ``message``."""
        self.frames.append(lstp.encode(message, channel))

    def say(self, kind: MessageType, channel: int, flags: int = 0) -> None:
        """Say a message that is nothing but a header."""
        self.frames.append(HEADER.pack(0, kind, flags, 0, channel))

    def grant(self, channel: LstpChannel) -> None:
        """Tell the sender, behind what waits here, what was taken and how far it may go."""
        channel.report_at = 0.0
        self._granting[channel.id] = channel

    def take(self) -> bytes:
        """Everything due except payload; see `contract.Mux.data_to_send`."""
        frames = self.frames
        if self._granting:
            for channel in self._granting.values():
                channel.report_at = 0.0
                if channel.state in RECEIVING:
                    frames.append(
                        lstp.encode(lstp.ServiceDataResume(*channel.inbound.report()), channel.id)
                    )
            self._granting.clear()
        if not frames:
            return b""
        self._life.said = self._life.now
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        self.datagram_bytes = 0
        return data
