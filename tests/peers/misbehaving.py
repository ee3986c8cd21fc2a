"""An LSTP end that breaks the rules on request: what a real end must survive and refuse."""

from __future__ import annotations

import json

from tests.peers.lstp_channel import RESUME, Channel
from tests.peers.lstp_messages import (
    COMPRESSED,
    HEADER,
    MAX_DATA,
    MAX_STRUCTURED,
    Json,
    Type,
    encode,
)
from tests.peers.lstp_peer import LstpPeer
from tests.peers.lstp_stream import ConnectionEnded, PeerError


class MisbehavingPeer(LstpPeer):
    """An `LstpPeer` with one method for each broken rule; the rest stays honest.

    ``repeat_with`` replaces fields of the COMMON_UNIQUE_INFO repeated inside
    TLS, ``repeat_hop_with`` those of one hop of the repeated path.
    """

    repeat_with: Json = {}
    repeat_hop_with: tuple[int, Json] | None = None

    # -- before the tunnel is up -----------------------------------------------------------

    def repeated_setup(self) -> bytes:
        """The setup inside TLS, altered as the attributes say."""
        common = self.common_message
        if self.repeat_with:
            body = json.loads(common[HEADER.size :])
            common = encode(Type.COMMON_UNIQUE_INFO, body={**body, **self.repeat_with})
        hops = [dict(hop) for hop in self.path]
        if self.repeat_hop_with is not None:
            place, fields = self.repeat_hop_with
            hops[place].update(fields)
        return common + encode(Type.TOPOLOGY_EXCHANGE, body={"hops": hops})

    def send_before_properties(self) -> None:
        """CONNECTION_REQUEST in place of the first PROPERTY_EXCHANGE."""
        self.send(Type.CONNECTION_REQUEST, self._next_number, {"destination": "tcp:127.0.0.1:9"})

    def speak_before_partner(self) -> None:
        """Anything at all behind the own setup, while no partner is there."""
        self.send(Type.PROPERTY_EXCHANGE)

    # -- single messages -------------------------------------------------------------------

    def send_length_bomb(self, kind: int = Type.SERVICE_DATA, length: int = 0) -> None:
        """Only a header, which announces more than is allowed (2**32 - 1 by default)."""
        self.send_bytes(HEADER.pack(length or 0xFFFF_FFFF, kind, 0, 0, 1))

    def send_just_too_long(self, kind: int) -> None:
        """A header whose length is one more than the most for ``kind``."""
        most = MAX_DATA if kind == Type.SERVICE_DATA else MAX_STRUCTURED
        self.send_length_bomb(kind, most + 1)

    def send_unknown_type(self, kind: int = 17) -> None:
        """A message of a type that does not exist."""
        self.send(kind)

    def send_body(self, kind: int, body: bytes, channel: int = 0) -> None:
        """A message with any body: not JSON, not an object, not UTF-8."""
        self.send(kind, channel, body)

    def send_wrong_parity_request(self) -> None:
        """CONNECTION_REQUEST with an id that belongs to the other side."""
        number = self._next_number + 1
        self.send(Type.CONNECTION_REQUEST, number, {"destination": "tcp:127.0.0.1:9"})

    def send_live_id_request(self, channel: Channel) -> None:
        """CONNECTION_REQUEST with the id of a channel that is open."""
        self.send(Type.CONNECTION_REQUEST, channel.number, {"destination": "tcp:127.0.0.1:9"})

    def truncate(self, channel: Channel, announced: int = 1_000, sent: int = 10) -> None:
        """Cut the connection in the middle of a SERVICE_DATA, without close_notify."""
        self.send_bytes(
            HEADER.pack(announced, Type.SERVICE_DATA, 0, 0, channel.number) + bytes(sent)
        )
        self.cut()

    # -- flow control ----------------------------------------------------------------------

    def send_beyond_credit(self, channel: Channel, extra: int = 1) -> None:
        """Use up all credit of ``channel`` and send ``extra`` bytes more."""
        left = channel.limit - channel.sent + extra
        while left:
            size = min(left, MAX_DATA)
            self.send(Type.SERVICE_DATA, channel.number, bytes(size))
            left -= size

    def send_early(self, channel: Channel, size: int) -> None:
        """``size`` bytes at once, whatever may be sent before SERVICE_BEGIN_ACK."""
        self.send(Type.SERVICE_DATA, channel.number, bytes(size))

    def send_resume(self, channel: Channel, taken: int, limit: int) -> None:
        """RESUME with any two offsets."""
        self.send(Type.SERVICE_DATA_RESUME, channel.number, RESUME.pack(taken, limit))

    def send_resume_beyond_sent(self, channel: Channel) -> None:
        """Say that one byte more was taken than ever arrived."""
        self.send_resume(channel, channel.arrived + 1, channel.granted)

    def send_taken_going_back(self, channel: Channel) -> None:
        """A RESUME that is true, and one that takes a byte of it back."""
        channel.grant(channel.granted)
        self.send_resume(channel, channel.taken - 1, channel.granted)

    def send_limit_going_back(self, channel: Channel) -> None:
        """A RESUME that is true, and one whose limit is a byte lower."""
        channel.grant(channel.granted)
        self.send_resume(channel, channel.taken, channel.granted - 1)

    def send_huge_window(self, channel: Channel) -> None:
        """Grant a byte more than 16 MiB."""
        self.send_resume(channel, channel.taken, channel.taken + 16 * 1024 * 1024 + 1)

    def send_unagreed_compression(self, channel: Channel) -> None:
        """Data marked as compressed, whatever was agreed."""
        self.send(Type.SERVICE_DATA, channel.number, b"\x78\x9c not zlib", COMPRESSED)

    # -- what comes of it ------------------------------------------------------------------

    def expect_error(self) -> PeerError:
        """The fatal ERROR that the other side must answer with; it must close after it."""
        try:
            while True:
                message = self.next_message()
                if self.up:
                    self.handle(message)
        except PeerError as error:
            self.expect_close()
            return error

    def expect_close(self) -> bool:
        """Wait for the end of the connection; returns whether it was in order."""
        try:
            while True:
                self.next_message()
        except ConnectionEnded as end:
            return end.clean
