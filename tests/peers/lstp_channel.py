"""One LSTP channel of the independent peer: order, credit and ends, checked on both sides."""

from __future__ import annotations

import struct
import zlib
from typing import Protocol

from tests.peers.lstp_messages import (
    COMPRESSED,
    LAST,
    MAX_DATA,
    MAX_EARLY,
    MAX_WINDOW,
    Json,
    Message,
    PeerViolation,
    Type,
    require,
)

RESUME = struct.Struct(">QQ")

# What an end may send on a channel before its application start was acknowledged.
_BEFORE_BEGIN_ACK = frozenset(
    {Type.SERVICE_DATA_PAUSE, Type.SERVICE_DATA_RESUME, Type.SERVICE_FREE_REQUEST}
)


class ChannelFailed(Exception):
    """The other side refused, reset or aborted this channel, as it may."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Sender(Protocol):
    """What a channel needs of its peer: a way out, and a way to wait for what comes in."""

    compression: str

    def send(
        self, kind: int, channel: int = 0, body: bytes | Json | None = None, flags: int = 0
    ) -> None: ...

    def pump(self) -> None: ...

    def forget(self, channel: Channel, ignore: bool = False) -> None: ...


class Channel:
    """One channel, either way round; ``opener`` tells whether this side asked for it.

    Offsets count plain bytes. ``limit`` is how far this side may send,
    ``granted`` how far the other may.
    """

    def __init__(
        self, peer: Sender, number: int, opener: bool, request: Json, limit: int, granted: int
    ) -> None:
        self.peer = peer
        self.number = number
        self.opener = opener
        self.request = request
        self.window = granted
        self.accepted = False
        self.begin_asked = False
        self.begun = False
        self.bound = ""
        self.failure: ChannelFailed | None = None
        self.sent = 0
        self.limit = limit
        self.peer_taken = 0
        self.paused = False
        self.finished = False
        self.arrived = 0
        self.granted = granted
        self.taken = 0
        self.announced_taken = 0
        self.inbox = bytearray()
        self.datagrams: list[bytes] = []
        self.ended = False
        self.resumes: list[tuple[int, int]] = []
        self.freed = False
        self.aborting = False
        self._free_sent = False
        self._free_asked = False
        self._ack_owed = False
        self._compressor = zlib.compressobj()
        self._decompressor = zlib.decompressobj()

    def __repr__(self) -> str:
        return f"<channel {self.number}>"

    # -- opening ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask the far end to start the application."""
        self.begin_asked = True
        self.peer.send(Type.SERVICE_BEGIN_REQUEST, self.number, {})

    def wait_open(self) -> str:
        """The far socket's address, once the application has been started there."""
        while not self.begun:
            self._raise_failure()
            self.peer.pump()
        return self.bound

    def accept(self) -> None:
        """Answer CONNECTION_REQUEST with yes."""
        self._raise_failure()
        self.accepted = True
        self.peer.send(Type.CONNECTION_ACK, self.number, {})

    def refuse(self, code: str, reason: str = "") -> None:
        """Answer CONNECTION_REQUEST with no; what was pipelined behind it will be ignored."""
        self._raise_failure()
        self.peer.send(Type.CONNECTION_NACK, self.number, {"code": code, "reason": reason})
        self._free(ignore=True)

    def wait_begin(self) -> None:
        """Wait for SERVICE_BEGIN_REQUEST."""
        while not self.begin_asked:
            self._raise_failure()
            self.peer.pump()

    def started(self, bound: str) -> None:
        """Answer SERVICE_BEGIN_REQUEST with yes."""
        self._raise_failure()
        self.begun = True
        self.bound = bound
        self.peer.send(Type.SERVICE_BEGIN_ACK, self.number, {"bound": bound})

    def not_started(self, code: str, reason: str = "") -> None:
        """Answer SERVICE_BEGIN_REQUEST with no, and ignore all until FREE_REQUEST."""
        self._raise_failure()
        self.failure = ChannelFailed(code, reason)
        self.peer.send(Type.SERVICE_BEGIN_NACK, self.number, {"code": code, "reason": reason})

    # -- sending ---------------------------------------------------------------------------

    @property
    def credit(self) -> int:
        """How many bytes may be sent now."""
        limit = self.limit
        if self.opener and not self.begun:
            limit = min(limit, MAX_EARLY)
        return 0 if self.paused else limit - self.sent

    def send(self, data: bytes, piece: int = 65_536) -> None:
        """Send all of ``data`` in messages of at most ``piece`` bytes, waiting for credit."""
        view = memoryview(data)
        while view:
            size = self.send_some(view[:piece])
            view = view[size:]
            if not size:
                self.peer.pump()

    def send_some(self, data: bytes | memoryview) -> int:
        """Send in one message what credit allows of ``data``; returns how much that was."""
        self._raise_failure()
        size = min(len(data), max(self.credit, 0), MAX_DATA)
        if size:
            self._send_data(bytes(data[:size]), 0)
        return size

    def finish(self, data: bytes = b"") -> None:
        """Half-close: the last data, which may be empty and then needs no credit."""
        while len(data) > self.credit and data:
            data = data[self.send_some(data) :]
            if data:
                self.peer.pump()
        self.finished = True
        self._send_data(data, LAST)

    def _send_data(self, data: bytes, flags: int) -> None:
        self.sent += len(data)
        if self.peer.compression != "none" and data:
            attempt = self._compressor.copy()
            packed = attempt.compress(data) + attempt.flush(zlib.Z_SYNC_FLUSH)
            if len(packed) < len(data):
                self._compressor = attempt
                self.peer.send(Type.SERVICE_DATA, self.number, packed, flags | COMPRESSED)
                return
        self.peer.send(Type.SERVICE_DATA, self.number, data, flags)

    # -- receiving -------------------------------------------------------------------------

    def receive(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or fewer at the end of data; they count as taken."""
        found = bytearray()
        while len(found) < size and not self.at_end:
            if self.inbox:
                found += self.take(size - len(found), resume=False)
                self._grant_if_due(max(self.window // 4, 1))
            else:
                self._raise_failure()
                self.peer.pump()
        self._grant_if_due(1)
        return bytes(found)

    def receive_all(self) -> bytes:
        """Everything up to the end of data."""
        found = bytearray()
        while not self.at_end:
            found += self.receive(max(len(self.inbox), 1))
        return bytes(found)

    def receive_datagram(self) -> bytes:
        """The body of the next SERVICE_DATA, for channels on which each is one datagram."""
        while not self.datagrams:
            self._raise_failure()
            self.peer.pump()
        datagram = self.datagrams[0]
        if not datagram:
            self.datagrams.pop(0)
        self.take(len(datagram))
        return datagram

    @property
    def at_end(self) -> bool:
        """Whether the last data has come and has been taken."""
        return self.ended and not self.inbox

    def take(self, size: int, resume: bool = True) -> bytes:
        """Take up to ``size`` bytes that are here already; grants as many anew if ``resume``."""
        found = bytes(self.inbox[:size])
        del self.inbox[: len(found)]
        self.taken += len(found)
        left = len(found)
        while self.datagrams and left >= len(self.datagrams[0]):
            left -= len(self.datagrams.pop(0))
        if left:
            self.datagrams[0] = self.datagrams[0][left:]
        if resume:
            self._grant_if_due(1)
        self._acknowledge_free()
        return found

    def _grant_if_due(self, least: int) -> None:
        if self.taken - self.announced_taken >= least and not (self.freed or self._free_sent):
            self.grant(max(self.granted, self.taken + self.window))

    def grant(self, limit: int) -> None:
        """Send SERVICE_DATA_RESUME with what was taken and the new ``limit``."""
        self.granted = limit
        self.announced_taken = self.taken
        self.peer.send(Type.SERVICE_DATA_RESUME, self.number, RESUME.pack(self.taken, limit))

    def pause(self) -> None:
        """Ask the other side to stop until the next grant."""
        self.peer.send(Type.SERVICE_DATA_PAUSE, self.number)

    # -- ending ----------------------------------------------------------------------------

    def free(self) -> None:
        """End the channel in order, as its opener, and wait until it is gone."""
        while not (self.ended or self.failure):
            self.peer.pump()
        self._free_sent = True
        self.peer.send(Type.SERVICE_FREE_REQUEST, self.number)
        self.wait_freed()

    def abort(self, code: str = "reset", reason: str = "") -> None:
        """End the channel at once; everything that still comes is discarded."""
        self._free_sent = True
        self.aborting = True
        self.inbox.clear()
        self.datagrams.clear()
        self.peer.send(Type.SERVICE_FREE_REQUEST, self.number, {"code": code, "reason": reason})

    def wait_freed(self) -> None:
        """Wait until the channel's id is free again."""
        while not self.freed:
            self.peer.pump()

    def _free(self, ignore: bool = False) -> None:
        self.freed = True
        self.peer.forget(self, ignore)

    def _acknowledge_free(self) -> None:
        if self._ack_owed and not self.inbox:
            self._ack_owed = False
            self.peer.send(Type.SERVICE_FREE_ACK, self.number)
            if not self._free_sent:
                self._free()

    def _raise_failure(self) -> None:
        if self.failure:
            raise self.failure
        if self.freed:
            raise ChannelFailed("reset", "the channel is gone")

    # -- what the other side says ----------------------------------------------------------

    def received(self, message: Message) -> None:
        """Check ``message`` against the state of this channel, and apply it."""
        kind = message.type
        require(
            not self._free_asked or kind in (Type.SERVICE_FREE_ACK, Type.SERVICE_DATA_RESUME),
            f"{self}: {kind.name} after FREE_REQUEST",
        )
        if kind is Type.ERROR:
            self.failure = ChannelFailed(str(message.fields["code"]), str(message.fields["reason"]))
            self._free()
        elif kind is Type.SERVICE_FREE_ACK:
            require(self._free_sent, f"{self}: FREE_ACK that nobody asked for")
            self._free()
        elif kind is Type.SERVICE_FREE_REQUEST:
            self._free_requested(message)
        elif kind in (Type.CONNECTION_ACK, Type.CONNECTION_NACK):
            self._connection_answer(message)
        elif kind in (Type.SERVICE_BEGIN_ACK, Type.SERVICE_BEGIN_NACK):
            self._begin_answer(message)
        elif kind is Type.SERVICE_BEGIN_REQUEST:
            require(not self.opener, f"{self}: SERVICE_BEGIN_REQUEST from the side that accepts")
            require(not self.begin_asked, f"{self}: a second SERVICE_BEGIN_REQUEST")
            self.begin_asked = True
        else:
            self._check_started(kind)
            if kind is Type.SERVICE_DATA:
                self._data(message)
            elif kind is Type.SERVICE_DATA_RESUME:
                self._resume(message.body)
            else:
                self.paused = True

    def _check_started(self, kind: Type) -> None:
        if self.opener:
            require(self.accepted, f"{self}: {kind.name} before CONNECTION_ACK")
            require(
                self.begun or kind in _BEFORE_BEGIN_ACK,
                f"{self}: {kind.name} before SERVICE_BEGIN_ACK",
            )
        else:
            require(self.begin_asked, f"{self}: {kind.name} before SERVICE_BEGIN_REQUEST")

    def _connection_answer(self, message: Message) -> None:
        kind = message.type
        require(self.opener, f"{self}: {kind.name} from the side that asked")
        require(not self.accepted, f"{self}: {kind.name} after CONNECTION_ACK")
        if kind is Type.CONNECTION_ACK:
            self.accepted = True
            if self.request.get("resource") == "connection":
                self._free()
            return
        self.failure = ChannelFailed(str(message.fields["code"]), str(message.fields["reason"]))
        # Whoever sent NACK ignores an abort that crossed it, so no FREE_ACK will come.
        self._free()

    def _begin_answer(self, message: Message) -> None:
        kind = message.type
        require(self.opener, f"{self}: {kind.name} from the side that asked")
        require(self.accepted, f"{self}: {kind.name} before CONNECTION_ACK")
        require(self.begin_asked, f"{self}: {kind.name} that nobody asked for")
        require(not self.begun and not self.failure, f"{self}: a second SERVICE_BEGIN answer")
        if kind is Type.SERVICE_BEGIN_ACK:
            self.begun = True
            self.bound = str(message.fields["bound"])
        else:
            self.failure = ChannelFailed(str(message.fields["code"]), str(message.fields["reason"]))

    def _data(self, message: Message) -> None:
        require(not self.ended, f"{self}: SERVICE_DATA after the last data")
        require(
            not (self.opener and self.failure), f"{self}: SERVICE_DATA after SERVICE_BEGIN_NACK"
        )
        data = message.body
        if message.flags & COMPRESSED:
            data = self._inflate(data)
        self.arrived += len(data)
        require(
            self.arrived <= self.granted,
            f"{self}: data up to {self.arrived}, granted were {self.granted}",
        )
        require(
            self.opener or self.begun or self.aborting or self.arrived <= MAX_EARLY,
            f"{self}: {self.arrived} bytes before SERVICE_BEGIN_ACK",
        )
        self.ended = bool(message.flags & LAST)
        if self.aborting or self.failure:
            return
        self.inbox += data
        if data or not self.ended:
            self.datagrams.append(data)

    def _inflate(self, data: bytes) -> bytes:
        require(self.peer.compression != "none", f"{self}: compressed data, which was not agreed")
        try:
            plain = self._decompressor.decompress(data, MAX_DATA + 1)
        except zlib.error as error:
            raise PeerViolation(f"{self}: data that does not decompress: {error}") from None
        require(len(plain) <= MAX_DATA, f"{self}: a message of more than {MAX_DATA} plain bytes")
        require(len(data) < len(plain), f"{self}: compressed data that did not shrink")
        return plain

    def _resume(self, body: bytes) -> None:
        taken, limit = RESUME.unpack(body)
        require(taken >= self.peer_taken, f"{self}: taken went from {self.peer_taken} to {taken}")
        require(limit >= self.limit, f"{self}: limit went from {self.limit} to {limit}")
        require(taken <= self.sent, f"{self}: taken {taken}, but only {self.sent} were sent")
        require(limit - taken <= MAX_WINDOW, f"{self}: {limit - taken} bytes of window")
        self.peer_taken, self.limit, self.paused = taken, limit, False
        self.resumes.append((taken, limit))

    def _free_requested(self, message: Message) -> None:
        self._free_asked = True
        if message.fields:
            self.failure = self.failure or ChannelFailed(
                str(message.fields["code"]), str(message.fields["reason"])
            )
            self.inbox.clear()
            self.datagrams.clear()
        elif not self.failure:
            require(not self.opener, f"{self}: orderly FREE_REQUEST from the accepting side")
            require(
                self.aborting or (self.ended and self.finished),
                f"{self}: orderly FREE_REQUEST before both directions ended",
            )
        self._ack_owed = True
        self._acknowledge_free()
