"""A Communication Server that lies to two real clients, each time in one way.

It knows one client that is present and one that asks, and introduces them as honestly as its
lie allows.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

from tests.peers.secureproxy_peer import ALPN, Ended, Talk, Tls, tls_context

Fields = dict[str, Any]
Change = Callable[[Fields], Fields]


def unchanged(fields: Fields) -> Fields:
    """The truth."""
    return fields


class LyingServer:
    """``incoming``, ``to_initiator`` and ``to_target`` change what is said to whom.

    With ``forged`` (two identity files) it ends the clients' TLS in between, as the first of these
    towards the initiator, as the second towards the target; ``sessions`` changes what the two say
    to each other there.
    """

    def __init__(
        self,
        identity: Path,
        *,
        incoming: Change = unchanged,
        to_initiator: Change = unchanged,
        to_target: Change = unchanged,
        forged: tuple[Path, Path] | None = None,
        sessions: Change = unchanged,
        present: str = "server",
    ) -> None:
        self._context = tls_context(identity, True, ALPN, False)
        self._name = identity.stem
        self._incoming = incoming
        self._to_initiator = to_initiator
        self._to_target = to_target
        self._forged = forged
        self._sessions = sessions
        self._present_name = present
        self._control: Talk | None = None
        self.registered = threading.Event()
        self.answers: Queue[tuple[str, Fields]] = Queue()
        """What the client that is present said after its first PUBLISH."""
        self._asking: dict[str, tuple[Talk, Fields]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """End everything."""
        self._listener.close()
        for sock in self._sockets:
            sock.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            threading.Thread(target=self._quietly, args=(self._one, sock), daemon=True).start()

    def _quietly(self, what: Callable[..., object], *given: Any) -> None:
        try:
            what(*given)
        except (Ended, OSError, ssl.SSLError):
            return

    def _one(self, sock: socket.socket) -> None:
        talk = Talk(Tls(sock, self._context, True))
        hello = talk.expect("HELLO")
        if hello["for"] != "session":
            self._welcome(talk)
            if hello["for"] == "present":
                self._stay(talk)
            return
        kind, fields = talk.hear()
        if kind == "CONNECT":
            self._ask(talk, fields)
        elif kind == "JOIN":
            initiator, asked = self._asking[fields["session"]]
            self._introduce(initiator, talk, asked)

    def _welcome(self, talk: Talk) -> None:
        talk.say("WELCOME", version=1, server=self._name, observed="192.0.2.1:1",
            instance=secrets.token_hex(16), generation=100, keepalive=10)  # fmt: skip

    def _stay(self, talk: Talk) -> None:
        talk.expect("PUBLISH")
        talk.say("OK")
        if talk.tls.peer == self._present_name:
            self._control = talk
            self.registered.set()
        while True:
            self.answers.put(talk.hear())

    def _ask(self, talk: Talk, connect: Fields) -> None:
        assert self._control is not None
        session = secrets.token_hex(16)
        asked = {"session": session, "from": talk.tls.peer, **connect}
        self._asking[session] = talk, asked
        incoming = {**asked, "token": secrets.token_hex(32), "deadline": 10, "generation": 100}
        incoming.pop("mode", None)
        changed = self._incoming(incoming)
        self._control.say(
            "INCOMING", **{f"{name}_" if name == "from" else name: value
                for name, value in changed.items()},
        )  # fmt: skip

    def _introduce(self, initiator: Talk, target: Talk, asked: Fields) -> None:
        about = {"session": asked["session"], "resource": asked["resource"], "server": self._name}
        named = asked["target"] if not asked["target"].startswith("group:") else target.tls.peer
        initiator.say("START_SECURE",
            **self._to_initiator({**about, "role": "tls-client", "peer": named}))  # fmt: skip
        target.say("START_SECURE",
            **self._to_target({**about, "role": "tls-server", "peer": asked["from"]}))  # fmt: skip
        near, far = initiator.tls.taken_off(), target.tls.taken_off()
        if self._forged is None:
            _splice(initiator.tls.sock, target.tls.sock, near, far)
            return
        alpn = "usher/1.1"
        as_target, as_initiator = (
            tls_context(file, server_side, alpn, True)
            for file, server_side in zip(self._forged, (True, False), strict=True)
        )
        towards = Tls(initiator.tls.sock, as_target, True, near)
        onwards = Tls(target.tls.sock, as_initiator, False, far)
        for source, sink in ((towards, onwards), (onwards, towards)):
            threading.Thread(
                target=self._quietly, args=(self._copy, source, sink), daemon=True
            ).start()

    def _copy(self, source: Tls, sink: Tls) -> None:
        talk = Talk(source)
        told = self._sessions(talk.expect("SESSION"))
        Talk(sink).say("SESSION", **{f"{name}_": value for name, value in told.items()})
        sink.send(talk.rest)
        while True:
            sink.send(source.receive())


def _splice(a: socket.socket, b: socket.socket, from_a: bytes, from_b: bytes) -> None:
    b.sendall(from_a)
    a.sendall(from_b)

    def one_way(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for sock in (source, sink):
                sock.close()

    threading.Thread(target=one_way, args=(b, a), daemon=True).start()
    one_way(a, b)
