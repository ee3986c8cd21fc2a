"""A Communication Server that ends the TLS of browsers whose connection it should pass on (S15)."""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

from tests.peers.lying_server import LyingServer
from tests.peers.secureproxy_peer import ALPN, Talk, Tls, tls_context


class EndingServer(LyingServer):
    """Knows one publisher. Shows browsers that ask for ``site`` the certificate in ``shown``.

    With ``hello_passed`` the publisher gets the browser's own hello, otherwise that of a TLS
    connection of this server's, whose content it copies.
    """

    def __init__(
        self, identity: Path, site: str, shown: Path, *, hello_passed: bool = False
    ) -> None:
        super().__init__(identity)
        self._site = site
        self._hello_passed = hello_passed
        self._as_site = tls_context(shown, True, ALPN, False)
        self._as_site.set_alpn_protocols(["http/1.1"])
        self._as_site.verify_mode = ssl.CERT_NONE
        self._browsers: dict[str, tuple[Tls, bytes]] = {}

        def named(tls: Any, name: str | None, context: ssl.SSLContext) -> None:
            if name == self._site:
                tls.context = self._as_site

        self._context.sni_callback = named

    def _one(self, sock: socket.socket) -> None:
        hello = self._first_record(sock)
        tls = Tls(sock, self._context, True)
        if self._site.encode() in hello:
            self._browse(tls, hello)
            return
        talk = Talk(tls)
        if talk.expect("HELLO")["for"] == "present":
            self._welcome(talk)
            self._stay(talk)
            return
        kind, fields = talk.hear()
        if kind == "JOIN":
            self._join(talk, fields["session"])

    def _first_record(self, sock: socket.socket) -> bytes:
        while True:
            seen = sock.recv(65536, socket.MSG_PEEK)
            if not seen or (len(seen) > 5 and len(seen) >= 5 + int.from_bytes(seen[3:5], "big")):
                return seen

    def _browse(self, tls: Tls, hello: bytes) -> None:
        assert self._control is not None
        session = secrets.token_hex(16)
        self._browsers[session] = tls, hello
        self._control.say(
            "INCOMING", session=session, from_="", target="server", resource=f"pass:{self._site}",
            token=secrets.token_hex(32), deadline=10, generation=100, host=self._site,
            observed="192.0.2.9:1000",
        )  # fmt: skip

    def _join(self, talk: Talk, session: str) -> None:
        browser, hello = self._browsers[session]
        talk.say("START_PASS", session=session, host=self._site, observed="192.0.2.9:1000")
        early = talk.tls.taken_off()
        if self._hello_passed:
            talk.tls.sock.sendall(hello)
            return
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        onwards = Tls(talk.tls.sock, context, False, early, self._site)
        for source, sink in ((browser, onwards), (onwards, browser)):
            threading.Thread(target=self._quietly, args=(_pour, source, sink), daemon=True).start()


def _pour(source: Tls, sink: Tls) -> None:
    while True:
        sink.send(source.receive())
