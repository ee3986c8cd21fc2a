"""A Communication Server of real processes, and the policy that its tests go by."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.acceptance.processes import Identities, Processes, Role, tunnelkit

SERVER = "relay.example"
POLICY = """
[clients.server]
publish = ["tunnel", "pass:site.example", "pass:*.wild.example", "web:app.example"]
groups = ["servers"]

[clients.second]
publish = ["tunnel"]
groups = ["servers"]

[clients.client]
connect = ["server/tunnel", "group:servers/tunnel"]
lookup = ["*"]

[clients.guest]
"""


@attrs.frozen
class Communication:
    """A server that runs, and how clients of it are started."""

    processes: Processes
    identities: Identities
    role: Role
    policy: Path

    @property
    def port(self) -> int:
        """The one port."""
        return self.role.port("listening on")

    def client(self, name: str, *options: object, wait: bool = True) -> Role:
        """A client of the server."""
        return self.processes.role(
            "secure-proxy-client", "--server", f"127.0.0.1:{self.port}", "--server-name", SERVER,
            "--identity", self.identities(name), *options, wait=wait,
        )  # fmt: skip


def start_server(
    processes: Processes,
    identities: Identities,
    *options: object,
    policy: str = POLICY,
    env: dict[str, str] | None = None,
) -> Communication:
    """A server that is ready."""
    file = processes.directory / "policy.toml"
    file.write_text(policy)
    role = processes.role(
        "secure-proxy-server", "--listen", "127.0.0.1:0", "--identity", identities(SERVER),
        "--policy", file, *options, env=env,
    )  # fmt: skip
    return Communication(processes, identities, role, file)


@attrs.frozen
class Names:
    """What curl needs to find a site at the server's port."""

    port: int

    def __call__(self, host: str) -> Sequence[str]:
        return ("--resolve", f"{host}:{self.port}:127.0.0.1")


class HttpsSite:
    """A web server inside, with a certificate of its own CA; says its name."""

    def __init__(self, directory: Path, host: str) -> None:
        keys = directory / "site-keys"
        tunnelkit("keys", "init", "--dir", keys)
        tunnelkit("keys", "issue", host, "--dir", keys)
        text = (keys / f"{host}.pem").read_text()
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        self.authority = directory / "site-ca.pem"
        self.authority.write_text(f"{begin}{text.split(begin)[2].split(end)[0]}{end}\n")
        own = x509.load_pem_x509_certificate(text.encode())
        spki = own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
        """What tells its key from another one's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys / f"{host}.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._context = context
        self._answer = f"this is {host}\n".encode()
        self.asked = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        try:
            with self._context.wrap_socket(sock, server_side=True) as tls:
                while (head := self._head(tls)) is not None:
                    self.asked += 1
                    body = self._answer if not head.startswith(b"POST") else head
                    tls.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "
                        + str(len(body)).encode() + b"\r\n\r\n" + body
                    )  # fmt: skip
        except OSError:
            sock.close()

    def _head(self, tls: ssl.SSLSocket) -> bytes | None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = tls.recv(65536)
            if not more:
                return None
            data += more
        return data

    def close(self) -> None:
        """Stop serving."""
        self._listener.close()
