"""wget and apt through the HTTP proxy front end, with logins in their URLs (finding U-4)."""

from __future__ import annotations

import hashlib
import socket
import subprocess
from pathlib import Path

from tests.acceptance.applications import Application
from tests.acceptance.tunnels import Transport

BODY = b"Package: nothing\n"
LOGIN = "me:opensesame"


class Origin:
    """A web server that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, sock: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = sock.recv(10_000)
            if not piece:
                return
            head += piece
        self.asked.append(head.split()[1].decode())
        length = f"Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + length.encode() + BODY)


def test_wget_and_apt_fetch_with_a_login_in_the_url(transport: Transport, tmp_path: Path) -> None:
    origin = Origin()
    with Application(origin) as web:
        tunnel = transport([web.destination], "--http-proxy", "0")
        proxy = f"http://{tunnel.client.address('http-proxy')}"
        _fetch(proxy, f"http://{LOGIN}@{web.destination.removeprefix('tcp:')}", tmp_path)
    assert origin.asked == ["/file", "/packages"]
    assert not any("opensesame" in line for line in tunnel.client.process.lines)


def _fetch(proxy: str, url: str, directory: Path) -> None:
    # wget's own way: the whole URL, login and all, in the request line.
    got = subprocess.run(
        ["wget", "--quiet", "--tries=1", "--timeout=20", "--output-document=-", f"{url}/file"],
        env={"http_proxy": proxy, "PATH": "/usr/bin:/bin", "HOME": str(directory)},
        capture_output=True,
        timeout=60,
    )
    assert (got.returncode, got.stdout) == (0, BODY), got.stderr
    digest = hashlib.sha256(BODY).hexdigest()
    helper = subprocess.run(
        [
            *("/usr/lib/apt/apt-helper", "-o", f"Acquire::http::Proxy={proxy}"),
            *("-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=0"),
            *("download-file", f"{url}/packages", str(directory / "packages"), f"SHA256:{digest}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert helper.returncode == 0, helper.stderr
    assert (directory / "packages").read_bytes() == BODY
