"""The two proxies of the WTLS-style tunnel as processes, and unmodified devices."""

from __future__ import annotations

import http.server
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from tests.acceptance.processes import Identities, Processes, Role
from tests.wire.test_dtls_records import hello

MAP_KEY = "00112233445566778899aabbccddeeff" * 2
CLIENTS = ("coap-client-openssl", "coap-client-gnutls")


@attrs.frozen
class Domain:
    """A domain's CA and its proxy."""

    proxy: Role
    identities: Identities

    @property
    def place(self) -> str:
        """``HOST:PORT``."""
        return self.proxy.address("listening on")

    @property
    def ca(self) -> Path:
        return self.identities.directory / "ca.pem"


def private_file(directory: Path, name: str, text: str) -> Path:
    """A new file that only its owner reads."""
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def start_domain(
    processes: Processes,
    *origins: str,
    listen: str = "127.0.0.1:0",
    identities: Identities | None = None,
    options: Sequence[object] = (),
    env: dict[str, str] | None = None,
) -> Domain:
    """A domain proxy with a CA of its own (or that of ``identities``); ``HOST=URL`` each."""
    if identities is None:
        identities = Identities.create(processes.directory / "domain")
    key = private_file(processes.directory, "map.key", MAP_KEY)
    named = [word for origin in origins for word in ("--origin", origin)]
    proxy = processes.role(
        "wtls-domain-proxy", "--listen", listen, "--identity", identities("door"),
        "--map-key-file", key, *named, *options, env=env,
    )  # fmt: skip
    return Domain(proxy, identities)


def map_keys(directory: Path, *places: str) -> Path:
    """The operator's file, with the key of each of ``places``."""
    return private_file(directory, "map.keys", "".join(f"{p} {MAP_KEY}\n" for p in places))


def start_operator(
    processes: Processes,
    identities: Identities,
    *options: object,
    domain: str | None = None,
    secure: str = "bank.example",
) -> Role:
    """An operator's proxy; ``domain`` is the place of the domain proxy of ``secure``."""
    more: Sequence[object] = ()
    if domain is not None:
        keys = map_keys(processes.directory, domain)
        more = ("--secure", f"{secure}={domain}", "--map-key-file", keys)
    return processes.role(
        "wtls-proxy", "--listen", "127.0.0.1:0", "--identity", identities("operator"),
        *more, *options,
    )  # fmt: skip


def free_udp_port() -> int:
    """A UDP port of 127.0.0.1 that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_memory(pid: int, what: bytes) -> bool:
    """Whether ``what`` is anywhere in the writable memory of a process."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            area, permissions, *_ = line.split()
            if not permissions.startswith("rw"):
                continue
            start, end = (int(word, 16) for word in area.split("-"))
            memory.seek(start)
            if what in (memory.read(end - start) or b""):
                return True
    return False


@attrs.frozen
class Device:
    """An unmodified CoAP client at one port, which it keeps."""

    proxy: str
    port: int = attrs.field(factory=free_udp_port)
    program: str = CLIENTS[0]

    def says_hello(self) -> None:
        """Send one ClientHello, and nothing after it."""
        host, _, port = self.proxy.rpartition(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", self.port))
            sock.sendto(hello(), (host, int(port)))

    def asks(self, url: str, ca: Path, *options: object, limit: float = 15) -> str:
        """What it prints: the page, or the code and text of an error."""
        done = subprocess.run(
            [self.program, "-v", "3", "-B", f"{limit:g}", "-p", str(self.port), "-R", str(ca),
             "-P", f"coaps://{self.proxy}", *map(str, options), url],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=limit + 20,
        )  # fmt: skip
        return (done.stdout + done.stderr).decode(errors="backslashreplace").strip()


class LossyRelay:
    """A UDP path to ``target`` that loses what ``loses`` says, asked for each datagram.

    ``loses(upwards, data)``: ``upwards`` is true towards the target.
    """

    def __init__(self, target: str, loses: Callable[[bool, bytes], bool]) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._loses = loses
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._backs: dict[tuple[str, int], socket.socket] = {}
        self._over = threading.Event()
        self.place = f"127.0.0.1:{self._front.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with self._front:
            while not self._over.is_set():
                ready, _, _ = select.select([self._front, *self._backs.values()], [], [], 0.05)
                for sock in ready:
                    if sock is self._front:
                        self._up()
                    else:
                        self._down(sock)
        for sock in self._backs.values():
            sock.close()

    def _up(self) -> None:
        data, device = self._front.recvfrom(65_535)
        back = self._backs.get(device)
        if back is None:
            back = self._backs[device] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            back.connect(self._target)
        if not self._loses(True, data):
            back.send(data)

    def _down(self, back: socket.socket) -> None:
        data = back.recv(65_535)
        (device,) = (each for each, sock in self._backs.items() if sock is back)
        if not self._loses(False, data):
            self._front.sendto(data, device)


class Backwards:
    """A web server that answers POST with the body, backwards.

    With an identity file it speaks HTTPS. With ``wait`` it answers once `go` has been called.
    """

    def __init__(self, identity: Path | None = None, wait: threading.Event | None = None) -> None:
        self.asked = threading.Event()
        self._wait = wait
        owner = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                owner.answer(self)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Tests say nothing."""

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
        if identity is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(identity)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.asked.set()
        if self._wait is not None:
            self._wait.wait(20)
        request.send_response(200)
        request.send_header("Content-Type", "application/octet-stream")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[::-1])

    def go(self) -> None:
        """Answer what waits."""
        if self._wait is not None:
            self._wait.set()

    def close(self) -> None:
        self.go()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
