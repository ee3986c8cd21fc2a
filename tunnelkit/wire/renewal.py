"""What two paired ends say to renew their keys: on a channel, with pairing's framing (row Q2).

See ``docs/spec/pairing.md``, 'Again'.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

import attrs

from tunnelkit.wire.json_body import load
from tunnelkit.wire.message_fields import body_of
from tunnelkit.wire.message_set import MessageSet
from tunnelkit.wire.pairing import Refuse, read_der, write_der

VERSION = 1


class MessageType(IntEnum):
    """The type byte of the header; REFUSE is as in `tunnelkit.wire.pairing`."""

    RENEW = 6
    KEPT = 7


@attrs.frozen
class Renew:
    """The certificate of the key that its sender has from now on, or soon."""

    type: ClassVar[MessageType] = MessageType.RENEW

    certificate: bytes
    """DER, self-signed."""
    in_force: bool
    """The sender proves itself by it already, and by no other."""
    asks: bool
    """The other end is to renew its key too."""
    version: int = VERSION

    def body(self) -> bytes:
        """Its fields as bytes."""
        return body_of(
            {
                "version": self.version,
                "certificate": write_der(self.certificate),
                "in_force": self.in_force,
                "asks": self.asks,
            }
        )

    @classmethod
    def read(cls, body: bytes) -> Renew:
        """Raises `RemoteProtocolError`."""
        fields = load(body, "RENEW")
        return cls(
            certificate=read_der(fields, "certificate"),
            in_force=fields.flag("in_force"),
            asks=fields.flag("asks"),
            version=fields.integer("version", 1, 65535),
        )


@attrs.frozen
class Kept:
    """The key that the other end has named is kept, beside the one from before."""

    type: ClassVar[MessageType] = MessageType.KEPT

    in_force: bool
    """The key that the sender itself has named on this channel is the one that it has now."""

    def body(self) -> bytes:
        """Its fields as bytes."""
        return body_of({"in_force": self.in_force})

    @classmethod
    def read(cls, body: bytes) -> Kept:
        """Raises `RemoteProtocolError`."""
        return cls(load(body, "KEPT").flag("in_force"))


Message = Renew | Kept | Refuse

MESSAGES: MessageSet[Message] = MessageSet((Renew, Kept, Refuse))
