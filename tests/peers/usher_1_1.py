"""A third Usher party, written from the specification of ``usher/1.1`` alone, on blocking sockets.

`Party` is either side of a tunnel: it says SETTINGS first, answers what asks, and gives every other
record to who waits for it. What is wrong raises `PeerViolation`.
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from pathlib import Path

from tests.peers.lstp_identity import load_identity
from tests.peers.usher_records import HEADER, PeerViolation, require, text

ALPN = "usher/1.1"
OPEN, OPEN_REPLY, SEND, CLOSE, END = 1, -1, 3, 2, 6
SETTINGS, PING, CREDIT, CHECKPOINT = 16, 17, 20, 22
TCP = 6
NAME, ONWARD = 2, 6
"""ADDRTYPEs."""


@dataclass(frozen=True)
class Onward:
    """What an OPEN with ADDRTYPE 6 asks for, and the gates that the wish has come by."""

    via: tuple[str, ...]
    destination: str


@dataclass(frozen=True)
class Checkpoint:
    """How far an audit file has come."""

    seq: int
    chain: bytes
    hash: bytes


def onward_body(destination: str, *via: str) -> bytes:
    """What follows the header of an OPEN that has come by gates."""
    names = b"".join(map(text, via))
    return struct.pack(">hhHH", TCP, ONWARD, 0, len(via)) + names + text(destination)


def read_onward(body: bytes) -> Onward:
    """The same read."""
    protocol, kind, port, count = struct.unpack(">hhHH", body[:8])
    require((protocol, kind, port) == (TCP, ONWARD, 0), f"OPEN {body!r}, ADDRTYPE 6 expected")
    require(1 <= count <= 8, f"{count} names of gates")
    *parts, rest = body[8:].split(b"\0")
    require(len(parts) == count + 1 and not rest, f"texts of OPEN {parts!r}")
    return Onward(tuple(part.decode() for part in parts[:-1]), parts[-1].decode())


def read_checkpoint(body: bytes) -> Checkpoint:
    """What follows the header of a CHECKPOINT."""
    require(len(body) == 56, f"CHECKPOINT of {len(body)} bytes")
    return Checkpoint(int.from_bytes(body[:8], "big"), body[8:24], body[24:])


class Party:
    """One side of a tunnel on a TLS connection."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        require(tls.selected_alpn_protocol() == ALPN, f"ALPN {tls.selected_alpn_protocol()!r}")
        tls.settimeout(20)
        self._tls = tls
        self._read = tls.makefile("rb")
        self.send(SETTINGS, 0, struct.pack(">H", 0) + text("third"))
        kind, session, _ = self._record()
        require((kind, session) == (SETTINGS, 0), f"record {kind} came before SETTINGS")

    @classmethod
    def dial(cls, place: str, identity: Path) -> Party:
        """A portal's side of a tunnel to the gate at ``place``."""
        host, _, port = place.rpartition(":")
        plain = socket.create_connection((host, int(port)), 20)
        return cls(_context(identity, client=True).wrap_socket(plain))

    @classmethod
    def take(cls, listening: socket.socket, identity: Path) -> Party:
        """A gate's side of the next tunnel that comes in."""
        listening.settimeout(20)
        plain, _ = listening.accept()
        return cls(_context(identity, client=False).wrap_socket(plain, server_side=True))

    def send(self, kind: int, session: int, body: bytes = b"") -> None:
        """One record."""
        self._tls.sendall(HEADER.pack(len(body), kind, session) + body)

    def expect(self, *kinds: int) -> tuple[int, int, bytes]:
        """The next record of one of ``kinds``: which, of which session, what follows the header.

        Others are passed over, if they may come at any time.
        """
        while True:
            kind, session, body = self._record()
            if kind in kinds:
                return kind, session, body
            require(kind in (SETTINGS, CREDIT, CHECKPOINT), f"record {kind}, {kinds} expected")

    def refusal(self, session: int) -> str:
        """Why the open of ``session`` is not answered with a session."""
        _, to, body = self.expect(OPEN_REPLY)
        require(to == session and body[:2] == b"\xff\xff", f"reply {body!r} to {to}")
        return body[2:].rstrip(b"\0").decode()

    def close(self) -> None:
        """End the tunnel."""
        self.send(END, 0, text("bye"))
        self._read.close()
        self._tls.close()

    def _record(self) -> tuple[int, int, bytes]:
        while True:
            header = self._read.read(HEADER.size)
            if len(header) < HEADER.size:
                raise PeerViolation("the tunnel has ended")
            size, kind, session = HEADER.unpack(header)
            body = self._read.read(size)
            require(kind != END, f"the other side has ended the tunnel: {body!r}")
            if kind != PING:
                return kind, session, body
            if body[:2] == b"\0\0":
                self.send(PING, 0, b"\0\1" + body[2:])


def _context(identity: Path, client: bool) -> ssl.SSLContext:
    context = load_identity(identity).context(client)
    context.set_alpn_protocols([ALPN])
    return context
