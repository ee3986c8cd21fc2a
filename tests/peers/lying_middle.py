"""A middle for tests that lies as it is told: alters setups, pairs wrong ends, injects, cuts.

With nothing to lie about it is an honest middle. It exists to show that the
ends notice: rules X3, X4, X5 and X11 of the security design. Blocking sockets
and threads, nothing shared with the package under test.
"""

from __future__ import annotations

import json
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from tests.peers.lstp_messages import HEADER, Json, Type, encode

COMPLEMENT = {"client-end": "server-end", "server-end": "client-end"}


@dataclass
class Lies:
    """What happens to what one end sends on its way to the other.

    Offsets count the bytes behind that end's setup, as it sent them.
    """

    common: Json = field(default_factory=dict)
    """Fields of COMMON_UNIQUE_INFO to replace."""
    common_body: Callable[[bytes], bytes] | None = None
    """Rewrites the body of COMMON_UNIQUE_INFO, e.g. with other spacing."""
    own_hop: Json = field(default_factory=dict)
    """Fields to replace in the end's own hop."""
    middle_hop: Json = field(default_factory=dict)
    """Fields to replace in the middle's own hop, towards this receiver only."""
    hops: Callable[[list[Json]], list[Json]] | None = None
    """Rewrites the whole list of hops."""
    before_setup: bytes = b""
    """Sent to the receiver just before the setup."""
    after_setup: bytes = b""
    """Sent to the receiver in the same segment as the setup, behind it."""
    with_first_bytes: bool = False
    """Hold the setup back and send it in one piece with the first bytes that follow (if this
    end is master, the beginning of its ClientHello)."""
    inject: dict[int, bytes] = field(default_factory=dict)
    """Bytes to put in at these offsets."""
    drop: range = field(default_factory=lambda: range(0))
    """Offsets of bytes to leave out."""
    flip: dict[int, int] = field(default_factory=dict)
    """Offsets of bytes to alter, and the bits to flip there."""
    finish_at: int | None = None
    """Say an orderly end of the TCP stream to both ends once this many bytes have passed."""
    cut_at: int | None = None
    """Reset both TCP connections once this many bytes have passed."""

    @property
    def about_stream(self) -> bool:
        """Whether there is anything to do byte by byte."""
        return bool(self.inject or self.drop or self.flip) or (
            self.finish_at is not None or self.cut_at is not None
        )


@dataclass
class Arrival:
    """A connected end whose setup has been read."""

    sock: socket.socket
    common_body: bytes
    common: Json
    topology: Json

    @property
    def name(self) -> str:
        """What the end says its name is."""
        return str(self.common.get("unique"))

    def complements(self, other: Arrival) -> bool:
        """Whether an honest middle pairs these two."""
        own, theirs = str(self.common.get("role")), str(other.common.get("role"))
        return self.common.get("common") == other.common.get("common") and (
            "both" in (own, theirs) or COMPLEMENT.get(own) == theirs
        )


class LyingMiddle:
    """Listens on 127.0.0.1; a context manager that ends all its threads.

    ``lies`` is by the name of the end that sends. ``pair_anyone`` joins ends in
    the order of their arrival, whatever they ask for. ``waiting_signs``: how
    many empty PROPERTY_EXCHANGE a stored end gets at once. ``refuse``: every
    arrival gets this ERROR (code, reason) and is closed.
    ``passed`` holds what came from each end behind its setup.
    """

    def __init__(
        self,
        lies: Mapping[str, Lies] | None = None,
        *,
        name: str = "lying-middle",
        pair_anyone: bool = False,
        waiting_signs: int = 0,
        refuse: tuple[str, str] | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.lies = dict(lies or {})
        self.name = name
        self.pair_anyone = pair_anyone
        self.waiting_signs = waiting_signs
        self.refuse = refuse
        self.timeout = timeout
        self.passed: dict[str, bytearray] = {}
        self.pairings: list[tuple[str, str]] = []
        self._waiting: list[Arrival] = []
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()[:2]

    def __enter__(self) -> LyingMiddle:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _shut(self._listener)
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            _shut(sock)
        for thread in list(self._threads):
            thread.join(self.timeout)
        for sock in [self._listener, *sockets]:
            sock.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    # -- arrivals --------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets.append(sock)
            self._start(self._arrived, sock)

    def _arrived(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(self.timeout)
            body = _read_message(sock, Type.COMMON_UNIQUE_INFO)
            topology = json.loads(_read_message(sock, Type.TOPOLOGY_EXCHANGE))
            sock.settimeout(None)
            arrival = Arrival(sock, body, json.loads(body), topology)
            if self.refuse is not None:
                code, reason = self.refuse
                fields: Json = {"code": code, "reason": reason, "fatal": True}
                sock.sendall(encode(Type.ERROR, body=fields))
                _shut(sock)
                return
            with self._lock:
                partner = self._match(arrival)
                if partner is None:
                    self._waiting.append(arrival)
                    sock.sendall(encode(Type.PROPERTY_EXCHANGE) * self.waiting_signs)
                    return
                self._waiting.remove(partner)
                self.pairings.append((partner.name, arrival.name))
            self._pair(partner, arrival)
        except (OSError, ValueError, EOFError):
            _shut(sock)

    def _match(self, arrival: Arrival) -> Arrival | None:
        for waiting in self._waiting:
            if self.pair_anyone or waiting.complements(arrival):
                return waiting
        return None

    # -- pairings --------------------------------------------------------------------------

    def _pair(self, first: Arrival, second: Arrival) -> None:
        hop: Json = {
            "name": self.name,
            "role": "middle",
            "address": f"{self.host}:{self.port}",
            "nonce": secrets.token_hex(16),
        }
        for sender, receiver in ((first, second), (second, first)):
            lies = self.lies.get(sender.name, Lies())
            setup = _altered_setup(sender, hop, lies)
            if not lies.with_first_bytes:
                receiver.sock.sendall(setup)
                setup = b""
            self._start(self._pass_on, sender, receiver, lies, setup)

    def _pass_on(self, sender: Arrival, receiver: Arrival, lies: Lies, held: bytes) -> None:
        passed = self.passed.setdefault(sender.name, bytearray())
        stream = _Stream(lies)
        try:
            stream.deliver(b"", held if not lies.with_first_bytes else b"", receiver.sock)
            while data := sender.sock.recv(65_536):
                passed += data
                stream.deliver(data, held, receiver.sock)
                held = b""
            receiver.sock.shutdown(socket.SHUT_WR)
        except _Finish:
            for end in (sender, receiver):
                _shut(end.sock)
        except _Cut:
            for end in (sender, receiver):
                end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # Wakes the thread that reads from it, so that close() resets at once.
                end.sock.shutdown(socket.SHUT_RD)
                end.sock.close()
        except OSError:
            for end in (sender, receiver):
                _shut(end.sock)


class _Finish(Exception):
    """The place in the stream has come at which it ends in order."""


class _Cut(Exception):
    """The place in the stream has come at which it is cut."""


class _Stream:
    """One direction behind the setup, with the lies about its bytes."""

    def __init__(self, lies: Lies) -> None:
        self.lies = lies
        self.offset = 0
        self.inject = dict(lies.inject)

    def deliver(self, data: bytes, before: bytes, to: socket.socket) -> None:
        """Send ``before`` and what becomes of ``data`` in one piece; ends as the lies say."""
        if not self.lies.about_stream:
            if before or data:
                to.sendall(before + data)
            return
        out = bytearray(before)
        ending: Exception | None = self._reach(out)
        for byte in data:
            if ending is not None:
                break
            if self.offset not in self.lies.drop:
                out.append(byte ^ self.lies.flip.get(self.offset, 0))
            self.offset += 1
            ending = self._reach(out)
        to.sendall(out)
        if ending is not None:
            raise ending

    def _reach(self, out: bytearray) -> Exception | None:
        out += self.inject.pop(self.offset, b"")
        if self.offset == self.lies.finish_at:
            return _Finish()
        if self.offset == self.lies.cut_at:
            return _Cut()
        return None


def _altered_setup(sender: Arrival, hop: Json, lies: Lies) -> bytes:
    body = sender.common_body
    if lies.common:
        body = json.dumps({**sender.common, **lies.common}).encode()
    if lies.common_body is not None:
        body = lies.common_body(body)
    topology = {name: value for name, value in sender.topology.items() if name != "admission"}
    listed = topology.get("hops")
    hops: list[Json] = [dict(item) for item in listed] if isinstance(listed, list) else []
    if hops:
        hops[0].update(lies.own_hop)
    hops.append({**hop, **lies.middle_hop})
    topology["hops"] = lies.hops(hops) if lies.hops is not None else hops
    return (
        lies.before_setup
        + encode(Type.COMMON_UNIQUE_INFO, body=body)
        + encode(Type.TOPOLOGY_EXCHANGE, body=topology)
        + lies.after_setup
    )


def _read_message(sock: socket.socket, expected: Type) -> bytes:
    length, kind, _, _, _ = HEADER.unpack(_read_exactly(sock, HEADER.size))
    if kind != expected:
        raise ValueError(f"message {kind} where {expected} is due")
    return _read_exactly(sock, length)


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = sock.recv(size - len(found))
        if not data:
            raise EOFError
        found += data
    return bytes(found)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
