"""Strictly read LSTP messages over a blocking socket, in clear and then through TLS 1.3."""

from __future__ import annotations

import select
import socket
import ssl
import time

from tests.peers.lstp_identity import ALPN, Identity
from tests.peers.lstp_messages import (
    HEADER,
    Json,
    Message,
    Type,
    encode,
    read_header,
    read_message,
    require,
)

DEFAULT_KEEPALIVE = 10


class ConnectionEnded(Exception):
    """The connection is over; ``clean`` tells whether close_notify came first."""

    def __init__(self, clean: bool) -> None:
        super().__init__("closed cleanly" if clean else "cut")
        self.clean = clean


class PeerError(Exception):
    """ERROR came for the whole connection; ``secured`` tells whether it came inside TLS."""

    def __init__(self, code: str, reason: str, secured: bool) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.secured = secured


class MessageStream:
    """Sends any message, reads only right ones; every wait ends with TimeoutError.

    Once ``up``, it sends a sign of life twice in ``own_keepalive`` seconds while it
    waits, and takes a peer for dead that is silent for three times ``peer_keepalive``.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.up = False
        self.own_keepalive: float = DEFAULT_KEEPALIVE
        self.peer_keepalive: float = DEFAULT_KEEPALIVE
        self.longest_silence = 0.0
        self.received_types: list[Type] = []
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLObject | None = None
        self._wire_in = ssl.MemoryBIO()
        self._wire_out = ssl.MemoryBIO()
        self._plain = bytearray()
        self._lost = False
        self._close_notify = False
        self._last_sent = self._last_heard = time.monotonic()

    def connect(self, host: str, port: int) -> None:
        """Dial the middle."""
        sock = socket.create_connection((host, port), self.timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._socket = sock

    def secure(self, identity: Identity, client: bool) -> None:
        """The handshake in either role; bytes read too early belong to it."""
        context = identity.context(client)
        self._tls = context.wrap_bio(self._wire_in, self._wire_out, server_side=not client)
        self._wire_in.write(bytes(self._plain))
        self._plain.clear()
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._wait_for_bytes(deadline)
            except ssl.SSLError:
                self._flush()
                raise
        self._flush()
        require(self._tls.version() == "TLSv1.3", f"TLS version {self._tls.version()}")
        require(
            self._tls.selected_alpn_protocol() == ALPN,
            f"ALPN {self._tls.selected_alpn_protocol()!r}, {ALPN!r} expected",
        )

    def close(self) -> None:
        """End TLS in order and close the socket."""
        if self._socket is None:
            return
        if self._tls is not None and not self._lost:
            try:
                self._tls.unwrap()
            except (ssl.SSLError, OSError):
                pass
            try:
                self._flush()
            except (ConnectionEnded, TimeoutError):
                pass
        self.cut()

    def cut(self) -> None:
        """Close the socket without a word."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def tls(self) -> ssl.SSLObject:
        """The TLS session; only once the handshake has begun."""
        if self._tls is None:
            raise RuntimeError("no TLS yet")
        return self._tls

    @property
    def sock(self) -> socket.socket:
        """The connected socket."""
        if self._socket is None:
            raise ConnectionEnded(self._close_notify)
        return self._socket

    def send(
        self, kind: int, channel: int = 0, body: bytes | Json | None = None, flags: int = 0
    ) -> None:
        """Send one message as it is given, right or wrong."""
        self.send_bytes(encode(kind, channel, body, flags))

    def send_bytes(self, data: bytes) -> None:
        """Send ``data`` through TLS if that stands, in clear before."""
        self._last_sent = time.monotonic()
        if self._tls is None:
            self._write(data)
        else:
            self._tls.write(data)
            self._flush()

    def next_message(self, timeout: float | None = None) -> Message:
        """The next message, checked on its own; raises what else may happen."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            message = self._parse()
            if message is not None:
                return message
            if not self._decrypt():
                self._wait_for_bytes(deadline)

    def _parse(self) -> Message | None:
        if len(self._plain) < HEADER.size:
            return None
        length, kind, flags, channel = read_header(bytes(self._plain[: HEADER.size]))
        end = HEADER.size + length
        if len(self._plain) < end:
            return None
        message = read_message(kind, flags, channel, bytes(self._plain[HEADER.size : end]))
        del self._plain[:end]
        self.received_types.append(kind)
        fatal = channel == 0 and (message.fields.get("fatal") or not self.up)
        if kind is Type.ERROR and fatal:
            fields = message.fields
            raise PeerError(str(fields["code"]), str(fields["reason"]), self._tls is not None)
        return message

    def _decrypt(self) -> bool:
        """Move plain bytes out of TLS; False if there is nothing to move."""
        if self._tls is None:
            return False
        try:
            plain = self._tls.read(65_536)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            plain = b""
        if not plain:
            self._close_notify = True
            raise ConnectionEnded(clean=True)
        self._plain += plain
        return True

    def _wait_for_bytes(self, deadline: float) -> None:
        """Wait for bytes from the socket; sends a sign of life when one is due."""
        if self._lost:
            raise ConnectionEnded(clean=False)
        while True:
            now = time.monotonic()
            due = self._last_sent + self.own_keepalive / 2
            if self.up and now >= due:
                self.send(Type.PROPERTY_EXCHANGE)
                continue
            if select.select([self.sock], [], [], 0)[0]:
                break
            silence = now - self._last_heard
            require(
                not self.up or silence <= 3 * self.peer_keepalive,
                f"silent for {silence:.1f} s",
            )
            if now >= deadline:
                raise TimeoutError("nothing came in time")
            until = min(deadline, due) if self.up else deadline
            select.select([self.sock], [], [], max(until - now, 0.0))
        self._read()

    def _read(self) -> None:
        try:
            data = self.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.monotonic()
        self.longest_silence = max(self.longest_silence, now - self._last_heard)
        self._last_heard = now
        if not data:
            self._lost = True
        elif self._tls is None:
            self._plain += data
        else:
            self._wire_in.write(data)

    def _flush(self) -> None:
        self._write(self._wire_out.read())

    def _write(self, data: bytes) -> None:
        """Write all of ``data``, reading meanwhile so that two writers never block each other."""
        view = memoryview(data)
        deadline = time.monotonic() + self.timeout
        while view:
            watched = [] if self._lost else [self.sock]
            readable, writable, _ = select.select(
                watched, [self.sock], [], max(deadline - time.monotonic(), 0.0)
            )
            if not readable and not writable:
                raise TimeoutError("could not write in time")
            if readable:
                self._read()
            if writable:
                try:
                    view = view[self.sock.send(view) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise ConnectionEnded(clean=False) from None
