"""A Secure Proxy client and server of their own, written from ``docs/spec/secureproxy.md`` alone.

Blocking sockets, Python's `ssl`, and nothing of tunnelkit.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

ALPN = "secure-proxy/1"
TYPES = {
    "HELLO": 1, "WELCOME": 2, "PUBLISH": 3, "CONNECT": 4, "INCOMING": 5, "ANSWER": 6, "JOIN": 7,
    "START_SECURE": 8, "START_PASS": 9, "LOOKUP": 10, "PRESENCE": 11, "DRAIN": 12, "ERROR": 13,
    "OK": 14, "KEEPALIVE": 15, "SESSION": 16, "SPARE": 17, "START_WEB": 18,
}  # fmt: skip
NAMES = {number: name for name, number in TYPES.items()}

Message = tuple[str, dict[str, Any]]


class Ended(Exception):
    """The other side has ended TLS, or the connection."""


def tls_context(identity: Path, server_side: bool, alpn: str, required: bool) -> ssl.SSLContext:
    """TLS 1.3 with the certificate in an identity file, and its CA as the only one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    context.load_cert_chain(identity)
    context.load_verify_locations(cadata=authority_of(identity))
    context.set_alpn_protocols([alpn])
    if server_side:
        context.num_tickets = 0
    return context


def authority_of(identity: Path) -> str:
    """The CA in an identity file: its second certificate."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return begin + identity.read_text().split(begin)[2].split(end)[0] + end + "\n"


class Tls:
    """TLS on a connected socket that can be taken off again: one record at a time is fed."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_side: bool, early: bytes = b"",
        name: str | None = None,
    ) -> None:  # fmt: skip
        self.sock = sock
        self.raw = early
        """Bytes that have come and were not fed."""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side, name)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except ssl.SSLError:
                self._flush()
                raise
        self._flush()

    def _flush(self) -> None:
        if data := self._out.read():
            self.sock.sendall(data)

    def _feed(self) -> None:
        """Give TLS one record."""
        while len(self.raw) < 5 or len(self.raw) < 5 + struct.unpack(">H", self.raw[3:5])[0]:
            data = self.sock.recv(65536)
            if not data:
                raise Ended("end of file")
            self.raw += data
        size = 5 + struct.unpack(">H", self.raw[3:5])[0]
        self._in.write(self.raw[:size])
        self.raw = self.raw[size:]

    @property
    def peer(self) -> str:
        """The name in the other side's certificate."""
        certificate: Any = self._tls.getpeercert()
        (name,) = [
            value.removeprefix("tunnelkit:")
            for kind, value in certificate["subjectAltName"]
            if kind == "URI"
        ]
        return str(name)

    def send(self, data: bytes) -> None:
        """Plaintext."""
        self._tls.write(data)
        self._flush()

    def receive(self) -> bytes:
        """Some plaintext; raises `Ended` at close_notify."""
        while True:
            try:
                data = self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
                continue
            except ssl.SSLZeroReturnError:
                raise Ended("close_notify") from None
            if not data:
                raise Ended("close_notify")
            return data

    def say_goodbye(self) -> None:
        """close_notify; what comes is still received."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            pass
        self._flush()

    def taken_off(self) -> bytes:
        """Exchange close_notify; the bytes behind the other side's."""
        self.say_goodbye()
        while True:
            try:
                self._tls.unwrap()
                break
            except ssl.SSLWantReadError:
                self._feed()
            except ssl.SSLError:
                # Application data before close_notify is read and dropped.
                try:
                    self._tls.read(65536)
                except ssl.SSLWantReadError:
                    self._feed()
                except ssl.SSLZeroReturnError:
                    break
        return self.raw


class Talk:
    """Messages on a TLS connection."""

    def __init__(self, tls: Tls) -> None:
        self.tls = tls
        self._data = b""

    def say(self, name: str, /, **fields: Any) -> None:
        """One message; ``from_`` and ``for_`` stand for words that Python keeps for itself."""
        given = {key.rstrip("_"): value for key, value in fields.items()}
        body = json.dumps(given).encode() if given else b""
        header = struct.pack(">IBBHI", len(body), TYPES[name], 0, 0, 0)
        self.tls.send(header + body)

    def hear(self) -> Message:
        """The next message that is no KEEPALIVE."""
        while True:
            while len(self._data) < 12 or len(self._data) < 12 + self._length():
                self._data += self.tls.receive()
            size = 12 + self._length()
            kind, body = self._data[4], self._data[12:size]
            self._data = self._data[size:]
            if NAMES[kind] != "KEEPALIVE":
                return NAMES[kind], json.loads(body or b"{}")

    def expect(self, name: str) -> dict[str, Any]:
        """The next message, which must be this one."""
        kind, fields = self.hear()
        assert kind == name, (kind, fields)
        return fields

    def _length(self) -> int:
        length: int = struct.unpack(">I", self._data[:4])[0]
        return length

    @property
    def rest(self) -> bytes:
        """Bytes behind the last message."""
        return self._data


class Client:
    """A client of the server at ``port``."""

    def __init__(self, port: int, server: str, identity: Path) -> None:
        self._port = port
        self._server = server
        self.identity = identity
        self.run = secrets.token_hex(16)

    def connect(self, purpose: str) -> Talk:
        """TLS to the server, and HELLO."""
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        context = tls_context(self.identity, False, ALPN, True)
        tls = Tls(sock, context, False, name=self._server)
        assert tls.peer == self._server
        talk = Talk(tls)
        talk.say("HELLO", version=1, for_=purpose, run=self.run)
        return talk

    def present(self, *resources: str) -> Talk:
        """A registration that publishes these for sessions."""
        talk = self.connect("present")
        talk.expect("WELCOME")
        talk.say("PUBLISH", resources=[{"name": name, "kind": "session"} for name in resources])
        talk.expect("OK")
        return talk

    def start(self, talk: Talk) -> tuple[dict[str, Any], socket.socket, bytes]:
        """Wait for START_SECURE and take TLS off: what it said, the socket, what came behind."""
        started = talk.expect("START_SECURE")
        return started, talk.tls.sock, talk.tls.taken_off()

    def initiate(
        self, target: str, resource: str, peer: str, alpn: str = "usher/1.1"
    ) -> tuple[Tls, bytes]:
        """A session as its initiator: TLS with the other client, SESSION exchanged."""
        talk = self.connect("session")
        talk.say("CONNECT", target=target, resource=resource)
        started, sock, early = self.start(talk)
        assert started["role"] == "tls-client"
        tls = Tls(sock, tls_context(self.identity, False, alpn, True), False, early)
        assert tls.peer == peer
        return tls, self._agree(tls, started["session"], "initiator", target, resource, peer)

    def join(
        self, incoming: dict[str, Any], own: str, alpn: str = "usher/1.1"
    ) -> tuple[Tls, bytes]:
        """A session as its target."""
        talk = self.connect("session")
        talk.say("JOIN", session=incoming["session"], token=incoming["token"])
        started, sock, early = self.start(talk)
        assert started["role"] == "tls-server"
        assert started["peer"] == incoming["from"]
        tls = Tls(sock, tls_context(self.identity, True, alpn, True), True, early)
        assert tls.peer == incoming["from"]
        rest = self._agree(
            tls, incoming["session"], own, incoming["target"], incoming["resource"], tls.peer
        )
        return tls, rest

    def _agree(
        self, tls: Tls, session: str, own: str, target: str, resource: str, peer: str
    ) -> bytes:
        name = self.identity.stem
        names = (name, peer) if own == "initiator" else (peer, name)
        fields = {"session": session, "from": names[0], "to": names[1], "target": target,
            "resource": resource}  # fmt: skip
        talk = Talk(tls)
        talk.say("SESSION", **fields)
        told = talk.expect("SESSION")
        told.pop("binding", None)  # Python's ssl has no exporter to check it with.
        assert told == fields
        return talk.rest
