"""What the owner of a connection is told of its channels and flows, for the access log (row O8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tunnelkit.errors import Code
from tunnelkit.net.channels.channel import Channel
from tunnelkit.net.channels.contracts import ChannelOpening, ChannelRecord
from tunnelkit.net.channels.request import ChannelRequest


class ChannelLogOwner(Protocol):
    """Who is told."""

    def channel_began(self, opening: ChannelOpening) -> None:
        """It is open."""

    def channel_ended(self, record: ChannelRecord) -> None:
        """It is over, or has been refused."""


class ChannelLog:
    """Of one connection with ``peer``, which comes from, or leads to, ``far_address``.

    ``serials`` are those of the process.
    """

    __slots__ = ("_far_address", "_owner", "_peer", "serials")

    def __init__(
        self, peer: str, far_address: str, serials: Iterator[int], owner: ChannelLogOwner
    ) -> None:
        self._peer = peer
        self._far_address = far_address
        self.serials = serials
        self._owner = owner

    def began(self, channel: Channel, seconds: float) -> None:
        """The channel is open, ``seconds`` after it was asked for."""
        self._owner.channel_began(
            ChannelOpening(
                channel.serial,
                self._peer,
                channel.destination,
                channel.inbound,
                channel.rule,
                channel.origin,
                seconds,
            )
        )

    def ended(
        self, channel: Channel, now: float, code: Code | None, reason: str, refused: bool
    ) -> None:
        """The channel is over, see `ChannelRecord`."""
        self._owner.channel_ended(
            ChannelRecord(
                self._peer,
                channel.destination,
                channel.inbound,
                channel.bytes_sent,
                channel.bytes_received,
                now - channel.started,
                code,
                reason,
                refused,
                channel.serial,
                channel.rule,
                channel.origin,
            )
        )

    def refused(self, request: ChannelRequest, code: Code, reason: str) -> None:
        """This end has refused ``request``."""
        self._owner.channel_ended(
            ChannelRecord(
                self._peer,
                request.destination,
                True,
                0,
                0,
                0.0,
                code,
                reason,
                refused=True,
                serial=next(self.serials),
                origin=request.origin or self._far_address,
            )
        )

    def flow_began(self, destination: str, inbound: bool, near: str) -> ChannelOpening:
        """A flow without a channel has begun, here for ``near``."""
        origin = self._far_address if inbound else near
        serial = next(self.serials)
        opening = ChannelOpening(serial, self._peer, destination, inbound, "", origin)
        self._owner.channel_began(opening)
        return opening
