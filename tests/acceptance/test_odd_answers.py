"""Answers of web servers that curl takes, and takes through the HTTP proxy too (finding U-5)."""

from __future__ import annotations

import socket

from tests.acceptance.applications import Application
from tests.acceptance.processes import Identities, Processes, curl
from tests.acceptance.tunnels import start_usher_tunnel

BODY = b"what was asked for\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
ODD: dict[str, tuple[bytes, bytes]] = {
    "many-fields": (b"".join(b"X-%d: y\r\n" % n for n in range(300)) + LENGTH, BODY),
    "a-long-head": (b"Set-Cookie: " + b"c" * 30_000 + b"\r\n" + LENGTH, BODY),
    "its-length-twice": (LENGTH * 2, BODY),
    "a-length-beside-chunks": (LENGTH + b"Transfer-Encoding: chunked\r\n", CHUNK),
    "a-blank-before-the-colon": (LENGTH.replace(b":", b" :"), BODY),
    "a-folded-line": (b"X-Long: one\r\n two\r\n" + LENGTH, BODY),
    "identity": (b"Transfer-Encoding: identity\r\n" + LENGTH, BODY),
    "zeros-before-the-size-of-a-chunk": (b"Transfer-Encoding: chunked\r\n", b"000000" + CHUNK),
    "neither-length-nor-chunks": (b"", BODY),
}
DOUBTFUL: dict[str, tuple[bytes, bytes]] = {
    "two-lengths": (LENGTH + b"Content-Length: 5\r\n", BODY),
    "an-unknown-coding": (b"Transfer-Encoding: rot13\r\n" + LENGTH, BODY),
}


class Origin:
    """A web server whose answer is named by the path; ``/lines/...`` ends lines as Unix does."""

    def __call__(self, sock: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            piece = sock.recv(65_536)
            if not piece:
                return
            request += piece
        path = request.split()[1].decode().removeprefix("/")
        fields, body = (ODD | DOUBTFUL)[path.removeprefix("lines/")]
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + fields + b"\r\n"
        if path.startswith("lines/"):
            head = head.replace(b"\r\n", b"\n")
        sock.sendall(head + body)


def test_curl_takes_the_same_answers_with_and_without_the_proxy(
    processes: Processes, identities: Identities
) -> None:
    with Application(Origin()) as web:
        tunnel = start_usher_tunnel(
            processes, identities, [web.destination], "--http-proxy", "0"
        )  # fmt: skip
        proxy = ("--proxy", f"http://{tunnel.client.address('http-proxy')}")
        place = f"http://{web.destination.removeprefix('tcp:')}"
        urls = [f"{place}/{lines}{name}" for lines in ("", "lines/") for name in ODD]
        for way in (("--noproxy", "*"), proxy):
            fetched = curl(*way, *urls)
            assert (fetched.status, fetched.size, fetched.said) == (0, len(BODY) * len(urls), "")
        for name in DOUBTFUL:
            assert "502" in curl(*proxy, f"{place}/{name}").said, name
