"""Somebody in between who ends TLS on both sides and passes on what is said in it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path


class EndsTls:
    """Listens on a free port; whoever comes is led to ``target``, over two TLS connections.

    A context manager. ``identity`` is its certificate and key; nobody's certificate is judged.
    """

    def __init__(self, target: tuple[str, int], identity: Path, alpn: str) -> None:
        self._target = target
        self._contexts = [
            ssl.SSLContext(kind) for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
        ]
        for context in self._contexts:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.load_cert_chain(identity)
            context.set_alpn_protocols([alpn])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.passed = 0
        """Bytes of what was said."""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> EndsTls:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.close()
        self._thread.join(20)

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(self._target, 20)
        near.settimeout(20)
        server, client = self._contexts
        with (
            server.wrap_socket(near, server_side=True) as joiner,
            client.wrap_socket(far) as inside,
        ):
            back = threading.Thread(target=self._pass_on, args=(inside, joiner))
            back.start()
            self._pass_on(joiner, inside)
            back.join(20)

    def _pass_on(self, source: ssl.SSLSocket, target: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.passed += len(data)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
