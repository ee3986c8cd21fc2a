"""What two paired ends say to count their meetings: on a channel, with pairing's framing (row Q2).

See ``docs/spec/pairing.md``, 'How often they have met'.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import ClassVar

import attrs

from tunnelkit.wire.json_body import Fields, load
from tunnelkit.wire.message_fields import body_of
from tunnelkit.wire.message_set import MessageSet
from tunnelkit.wire.pairing import Refuse

MOST = 1 << 52
"""No two ends meet more often."""
MAX_COMING = 4

_MARK = re.compile("(?:[0-9a-f]{32})?")
_KEY = re.compile("[0-9a-f]{64}")


class MessageType(IntEnum):
    """The type byte of the header; REFUSE is as in `tunnelkit.wire.pairing`."""

    MET = 8
    NEXT = 9
    NOTED = 10


@attrs.frozen
class Count:
    """One meeting: how many there have been, and 16 random bytes that tell it from all others."""

    number: int = 0
    mark: str = ""
    """32 hex digits; empty: there has been none."""

    def fields(self) -> dict[str, object]:
        """As fields of a message."""
        return {"number": self.number, "mark": self.mark}

    @classmethod
    def read(cls, fields: Fields) -> Count:
        """Raises `RemoteProtocolError`."""
        number = fields.integer("number", 0, MOST)
        mark = fields.matching("mark", _MARK, "32 lower-case hex digits, or empty")
        return cls(number, mark)


@attrs.frozen
class Met:
    """The last meeting that its sender knows of."""

    type: ClassVar[MessageType] = MessageType.MET

    own: str
    """The sender's key: 64 hex digits."""
    other: str
    """The receiver's."""
    last: Count
    coming: tuple[Count, ...] = ()
    """Those that the sender has named, and has never heard to have been noted."""

    def body(self) -> bytes:
        """Its fields as bytes."""
        return body_of(
            {
                "own": self.own,
                "other": self.other,
                **self.last.fields(),
                "coming": [count.fields() for count in self.coming],
            }
        )

    @classmethod
    def read(cls, body: bytes) -> Met:
        """Raises `RemoteProtocolError`."""
        fields = load(body, "MET")
        return cls(
            fields.matching("own", _KEY, "64 lower-case hex digits"),
            fields.matching("other", _KEY, "64 lower-case hex digits"),
            Count.read(fields),
            tuple(Count.read(each) for each in fields.objects("coming", MAX_COMING)),
        )


@attrs.frozen
class Next:
    """What this meeting is."""

    type: ClassVar[MessageType] = MessageType.NEXT

    count: Count

    def body(self) -> bytes:
        """Its fields as bytes."""
        return body_of(self.count.fields())

    @classmethod
    def read(cls, body: bytes) -> Next:
        """Raises `RemoteProtocolError`."""
        return cls(Count.read(load(body, "NEXT")))


@attrs.frozen
class Noted:
    """It is in the file."""

    type: ClassVar[MessageType] = MessageType.NOTED

    def body(self) -> bytes:
        """Nothing."""
        return b""

    @classmethod
    def read(cls, body: bytes) -> Noted:
        """Whatever it holds is for later versions."""
        return cls()


Message = Met | Next | Noted | Refuse

MESSAGES: MessageSet[Message] = MessageSet((Met, Next, Noted, Refuse))
