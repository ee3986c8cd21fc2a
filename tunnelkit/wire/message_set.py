"""The messages of one protocol with LSTP's header on channel 0 and JSON bodies (rules X4, X7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.buffer import Frame
from tunnelkit.wire.lstp import HEADER, MAX_BODY


class _Message(Protocol):
    type: ClassVar[Any]

    def body(self) -> bytes: ...

    @classmethod
    def read(cls, body: bytes) -> Any: ...


M = TypeVar("M", bound=_Message)


class MessageSet(Generic[M]):
    """How they are told apart, read and written; ``messages`` are their classes."""

    def __init__(self, messages: Iterable[type[M]]) -> None:
        self._readers = {int(message.type): message.read for message in messages}

    def check_header(self, length: int, kind: int) -> None:
        """Refuse a message by its header, before any of its body is kept (rule X7).

        Raises `RemoteProtocolError` for an unknown type or a body over its limit.
        """
        if length > MAX_BODY:
            raise RemoteProtocolError(
                f"a message of type {kind} with {length} bytes; at most {MAX_BODY} are allowed"
            )
        if kind not in self._readers:
            raise RemoteProtocolError(f"unknown message type {kind}")

    def decode(self, frame: Frame) -> M:
        """The message in ``frame``; flags and unknown fields are ignored.

        Raises `RemoteProtocolError` naming the message, the field and what is expected.
        """
        if frame.channel:
            raise RemoteProtocolError(f"channel {frame.channel}, channel 0 expected")
        self.check_header(len(frame.body), frame.type)
        message: M = self._readers[frame.type](frame.body)
        return message

    def encode(self, message: M) -> bytes:
        """Header and body. Raises `LocalProtocolError` if the body is over its limit."""
        body = message.body()
        if len(body) > MAX_BODY:
            raise LocalProtocolError(f"a body of {len(body)} bytes is too large for {message.type}")
        return HEADER.pack(len(body), message.type, 0, 0, 0) + body
