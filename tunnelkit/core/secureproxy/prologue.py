"""What two clients say to each other first, inside their own TLS (rows S6, S15; X3, X5).

Each sends SESSION: the names, the target and the resource as it knows them itself,
from certificates, its own configuration and what it asked for. Nothing that the
server said is believed: where the two differ, the server has lied to one of them.
"""

from __future__ import annotations

import hmac

import attrs

from tunnelkit.core.prologue import Export, Refused, Verified
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


_LABELS = (b"EXPORTER-secure-proxy-target", b"EXPORTER-secure-proxy-initiator")


@attrs.frozen
class Binding:
    """What ties SESSION to the TLS that it is said in: whoever ends TLS in between has two (S15).

    Exported with the clients' common secret as context, so that it cannot be made anew by who has
    not got that, and for each side with another label, so that it cannot be sent back.
    """

    said: str
    """What this client says, as hex digits."""
    expected: str
    """What the other one must say."""
    required: bool = True
    """An other client that says none is refused."""

    @classmethod
    def of(
        cls, export: Export, secret: bytes, initiator: bool, *, required: bool = True
    ) -> Binding:
        """For one of the two ends of the TLS that ``export`` belongs to."""
        said, expected = (
            export(_LABELS[first], secret).hex() for first in (initiator, not initiator)
        )
        return cls(said, expected, required)


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
        binding: Binding | None = None,
    ) -> None:
        self._own = own
        self._binding = binding
        self._expected = own.to if initiator else own.origin
        self._certificate_name = certificate_name
        self._same_key = same_key
        self._reader = FrameReader(check_header)
        said = None if binding is None else binding.said
        self._outbound = encode(attrs.evolve(own, binding=said))
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
        self._check_binding(told.binding)

    def _check_binding(self, told: str | None) -> None:
        binding = self._binding
        if binding is None:
            return
        if told is None:
            if binding.required:
                raise RemoteProtocolError(
                    "the other client does not say what this TLS is (binding): expected one that "
                    "does, or --session-binding optional here",
                    code=Code.SETUP_MISMATCH,
                )
        elif not hmac.compare_digest(told, binding.expected):
            raise RemoteProtocolError(
                "somebody on the way ends the TLS between the two clients, or their identities "
                "have different rendezvous secrets",
                code=Code.SETUP_MISMATCH,
            )
