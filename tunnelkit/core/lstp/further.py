"""Further connections of a tunnel: asking for them, and being asked (row L5)."""

from __future__ import annotations

from collections.abc import Sequence

from tunnelkit.core.lstp.channels import LiveChannels
from tunnelkit.core.lstp.events import ConnectionRequested
from tunnelkit.core.lstp.life import Life
from tunnelkit.core.lstp.outbox import Outbox
from tunnelkit.core.mux import contract as t
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import MessageType as M


class FurtherConnections:
    """The part of `LstpMux` that settles where a further connection meets.

    ``further``: this is one itself, and has none.
    """

    __slots__ = ("_channels", "_further", "_life", "_outbox", "asked")

    def __init__(self, life: Life, outbox: Outbox, channels: LiveChannels, further: bool) -> None:
        self.asked: set[int] = set()
        """Ids under which further connections have been asked for."""
        self._life = life
        self._outbox = outbox
        self._channels = channels
        self._further = further

    def request(self, join: str, now: float) -> int:
        """Ask for a further tunnel connection that meets under ``join``; raises `LimitReached`.

        The answer is `ChannelOpened` or `ChannelEnded` for the id that is returned.
        """
        self._life.now = now
        self._channels.check_open()
        number = self._channels.ids.allocate(self._channels.by_id, self.asked)
        self.asked.add(number)
        self._outbox.put(lstp.ConnectionRequest("connection", join=join), number)
        return number

    def requested(self, number: int, join: str) -> Sequence[t.Event]:
        """CONNECTION_REQUEST with ``resource: connection`` has come."""
        if self._further:
            self._channels.nack(number, Code.NOT_ALLOWED, "ask on the tunnel's first connection")
            return t.NO_EVENTS
        return [ConnectionRequested(number, join)]

    def accept(self, number: int) -> None:
        """Answer `ConnectionRequested`: this end dials too."""
        self._outbox.say(lstp.MessageType.CONNECTION_ACK, number)

    def refuse(self, number: int, code: Code, reason: str) -> None:
        """Answer `ConnectionRequested`: it does not."""
        self._channels.nack(number, code, reason)

    def answered(self, number: int, kind: int, flags: int, body: bytes) -> Sequence[t.Event]:
        """A message has come for an id under which one was asked for.

        CONNECTION_ACK: ``{}``. CONNECTION_NACK and ERROR: ``{"code": ..., "reason": ...}``.
        """
        self.asked.discard(number)
        try:
            message = lstp.decode(kind, flags, body)
            if isinstance(message, lstp.ConnectionAck):
                return [t.ChannelOpened(number)]
            if not isinstance(message, lstp.ConnectionNack | lstp.Error):
                raise RemoteProtocolError(f"{M(kind).name} in answer to a CONNECTION_REQUEST")
        except RemoteProtocolError as error:
            if kind != M.ERROR:
                self._channels.put_error(number, error.code, str(error))
            return [t.ChannelEnded(number, error.code, str(error), refused=True)]
        return [t.ChannelEnded(number, message.code, message.reason, refused=True)]
