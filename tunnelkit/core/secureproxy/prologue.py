"""What two clients say to each other first, inside their own TLS (rows S6, S15; X3, X5).

Each sends SESSION: the names, the target and the resource as it knows them itself,
from certificates, its own configuration and what it asked for. Nothing that the
server said is believed: where the two differ, the server has lied to one of them.
"""

from __future__ import annotations

from tunnelkit.core.prologue import Refused, Verified
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.secureproxy import (
    Error,
    MessageType,
    Session,
    check_header,
    decode,
    encode,
)

PROLOGUE_LIMIT = 10.0
"""Seconds for the other client's SESSION to come."""


class SessionPrologue:
    """``own`` is what this client knows; ``initiator`` says which of the two names is its own.

    The other client's certificate must say the other name; ``same_key`` says that it holds
    this client's own key. Send ``data_to_send()`` after making it and after every call. `receive`
    raises `RemoteProtocolError` for any difference: send ``data_to_send()``, then close.
    """

    def __init__(
        self,
        own: Session,
        initiator: bool,
        certificate_name: str,
        now: float,
        *,
        same_key: bool = False,
    ) -> None:
        self._own = own
        self._expected = own.to if initiator else own.origin
        self._certificate_name = certificate_name
        self._same_key = same_key
        self._reader = FrameReader(check_header)
        self._outbound = encode(own)
        self._deadline: float | None = now + PROLOGUE_LIMIT

    def data_to_send(self) -> bytes:
        """What has to go out now; empties the queue."""
        data, self._outbound = self._outbound, b""
        return data

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called; None once it is over."""
        return self._deadline

    def deadline_passed(self, now: float) -> list[Verified | Refused]:
        """`Refused` if nothing has come in time."""
        if self._deadline is None or now < self._deadline:
            return []
        self._deadline = None
        reason = f"the other client sent no SESSION for {PROLOGUE_LIMIT:.0f} seconds"
        return [Refused(Code.TIMED_OUT, reason)]

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> list[Verified | Refused]:
        """Take bytes as they come, cut anywhere: at most one event."""
        if self._deadline is None:
            raise LocalProtocolError("this prologue is over: the bytes belong to what follows it")
        self._reader.feed(data)
        try:
            frame = self._reader.next_frame()
            if frame is None:
                return []
            self._deadline = None
            message = decode(frame)
            if isinstance(message, Error):
                return [Refused(message.code, message.reason)]
            if not isinstance(message, Session):
                raise RemoteProtocolError(
                    f"{message.type.name} is not allowed before {MessageType.SESSION.name}"
                )
            self._compare(message)
        except RemoteProtocolError as error:
            self._deadline = None
            self._outbound += encode(Error(error.code, str(error), True))
            raise
        return [Verified(self._certificate_name, self._reader.leftover)]

    def _compare(self, told: Session) -> None:
        if self._same_key:
            raise RemoteProtocolError(
                "the other client has this client's own key", code=Code.ROLE_CONFLICT
            )
        own = self._own
        for what, here, there in (
            ("the other client's name", self._expected, self._certificate_name),
            ("the session", own.session, told.session),
            ("the initiator", own.origin, told.origin),
            ("the target's name", own.to, told.to),
            ("the target", own.target, told.target),
            ("the resource", own.resource, told.resource),
        ):
            if here != there:
                raise RemoteProtocolError(
                    f"{what} is {here!r} here and {there!r} there", code=Code.SETUP_MISMATCH
                )
