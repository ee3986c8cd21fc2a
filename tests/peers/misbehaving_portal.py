"""A portal that breaks the rules on request: what a gate must survive and refuse."""

from __future__ import annotations

from tests.peers.usher_portal import UsherPortal
from tests.peers.usher_records import (
    HEADER,
    MAX_ID,
    Kind,
    encode,
    open_body,
    text,
)
from tests.peers.usher_session import Session


class MisbehavingPortal(UsherPortal):
    """One method for each broken rule; the rest stays honest."""

    def announce(self, length: int, kind: Kind = Kind.SEND) -> None:
        """A header alone, with any LENGTH: a length bomb, a negative length."""
        self.send_bytes(HEADER.pack(length, kind, 1))

    def send_unknown_type(self) -> None:
        """A TYPE that nobody knows."""
        self.send(99, 0, b"")

    def open_again(self, session: Session, host: str, port: int) -> None:
        """UsherOpen for a live id."""
        self.send(Kind.OPEN, session.own, open_body(host, port))

    def acknowledge_unsent(self, session: Session) -> None:
        """Acknowledge one byte more than came."""
        self.send(Kind.ACK, session.theirs, (session.owed + 1).to_bytes(2, "big"))

    def send_to_nobody(self, kind: Kind = Kind.SEND) -> None:
        """A record for an id that was never used."""
        body = text("") if kind in (Kind.RST, Kind.END) else b"\0\1"
        self.send(kind, MAX_ID - 1, body)

    def wrong_bodies(self) -> list[bytes]:
        """Records with impossible bodies, each enough to be thrown out."""
        return [
            encode(Kind.OPEN, 1, b"\0\6\0\1"),
            encode(Kind.OPEN, 0, open_body("127.0.0.1", 9)),
            encode(Kind.OPEN, -1, open_body("127.0.0.1", 9)),
            encode(Kind.OPEN, 1, open_body("name", 9)[:-1]),
            encode(Kind.OPEN, 1, open_body("na\0me", 9)),
            encode(Kind.OPEN, 1, open_body("name", 9)[:-1] + b"\xff\0"),
            encode(Kind.OPEN, 1, open_body("127.0.0.1", 9) + b"\0"),
            encode(Kind.OPEN, 1, b"\0\6\0\7" + b"\0" * 6),
            encode(Kind.OPEN, 1, open_body("n" * 1018, 9)),
            encode(Kind.END, 0, b"no NUL"),
            encode(Kind.SEND_UDP, 0, bytes(11)),
            encode(Kind.SEND_UDP, 0, bytes(65_520)),
        ]
