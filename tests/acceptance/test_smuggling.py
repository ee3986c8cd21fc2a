"""Nothing on the HTTP side of the one port reaches another site, or the tunnel side (X21)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.communication import Communication, start_server
from tests.acceptance.processes import Identities, Processes
from tests.acceptance.test_vhosts import browser
from tests.acceptance.web_app import App
from tunnelkit.wire.secureproxy import Connect, Hello, encode

SECOND = b"GET /second HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n"
"""What a request that is taken for something else would let through."""
RUN = "0123456789abcdef0123456789abcdef"


def get(*fields: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = b"app.example") -> bytes:
    """A request; without ``host`` none is named."""
    named = [b"Host: " + host] if host else []
    return b"\r\n".join([first, *named, *fields, b"", b""])


def post(body: bytes, *fields: bytes) -> bytes:
    """A request with a body."""
    return get(*fields, first=b"POST / HTTP/1.1") + body


CHUNKED = b"Transfer-Encoding: chunked"
TRICKS = [
    # Another site than the one in TLS.
    get(host=b"other.example"),
    get(host=b""),
    get(b"Host: other.example"),
    get(b"Host: app.example"),
    get(host=b" "),
    get(host=b"app.example, other.example"),
    get(host=b"app.example@other.example"),
    get(host=b"app.example/other.example"),
    get(host=b"app.example:port"),
    get(host=b"app.example:44 3"),
    get(host=b"127.0.0.1"),
    get(host=b"[::1]"),
    get(host=b"relay.example"),
    get(host=b"sub.app.example"),
    get(host=b"app.example.other.example"),
    get(host=b"app.example\x00.other.example"),
    get(host=b"app.example%00.other.example"),
    get(first=b"GET https://other.example/ HTTP/1.1"),
    get(first=b"GET https://app.example/ HTTP/1.1", host=b"other.example"),
    get(first=b"GET https://app.example@other.example/ HTTP/1.1"),
    get(first=b"GET http://app.example/ HTTP/1.1"),
    get(first=b"GET ftp://app.example/ HTTP/1.1"),
    get(first=b"OPTIONS * HTTP/1.1", host=b"other.example"),
    get(first=b"GET / HTTP/1.0", host=b""),
    # Where a body ends.
    post(b"abc", b"Content-Length: 3", b"Content-Length: 4"),
    post(b"0\r\n\r\n", b"Content-Length: 3", CHUNKED),
    post(b"0\r\n\r\n", CHUNKED, b"Content-Length: 3"),
    post(b"abc", b"Content-Length: -1"),
    post(b"abc", b"Content-Length: +3"),
    post(b"abc", b"Content-Length: 0x3"),
    post(b"abc", b"Content-Length: 3, 4"),
    post(b"abc", b"Content-Length: 3 4"),
    post(b"abc", b"Content-Length: 1e1"),
    post(b"abc", b"Content-Length:"),
    post(b"abc", b"Content-Length: " + b"9" * 40),
    post(b"abc", b"Content-Length: \xd9\xa3"),
    post(b"0\r\n\r\n", b"Transfer-Encoding: xchunked"),
    post(b"0\r\n\r\n", b"Transfer-Encoding: identity"),
    post(b"0\r\n\r\n", b"Transfer-Encoding: chunked, identity"),
    post(b"0\r\n\r\n", b"Transfer-Encoding: gzip, chunked"),
    post(b"0\r\n\r\n", CHUNKED, b"Transfer-Encoding: identity"),
    post(b"0\r\n\r\n", b"Transfer-Encoding: \x0bchunked"),
    post(b"-1\r\nabc\r\n0\r\n\r\n", CHUNKED),
    post(b"0x3\r\nabc\r\n0\r\n\r\n", CHUNKED),
    post(b"+3\r\nabc\r\n0\r\n\r\n", CHUNKED),
    post(b" 3\r\nabc\r\n0\r\n\r\n", CHUNKED),
    post(b"3\r\nabcd\r\n0\r\n\r\n", CHUNKED),
    post(b"f" * 20 + b"\r\nabc\r\n0\r\n\r\n", CHUNKED),
    # Where a field ends.
    get(b" folded"),
    get(b"\tfolded: 1"),
    get(b"Host : other.example"),
    get(b"No colon"),
    get(b": no name"),
    get(b"Na me: 1"),
    get(b"Na\x01me: 1"),
    get(b"Name: a\x00b"),
    get(b"Name: " + b"a" * 100_000),
    # What a request is.
    b"GET / HTTP/1.1\nHost: other.example\n\n",
    b"GET\r\n\r\n",
    get(first=b"GET / / HTTP/1.1"),
    get(first=b"GET / HTTP/2.0"),
    get(first=b"GET /\x00 HTTP/1.1"),
    get(first=b"CONNECT app.example:443 HTTP/1.1"),
    get(b"Upgrade: secure-proxy/1", b"Connection: Upgrade", host=b"other.example"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # What belongs to the tunnel side, or to something else.
    encode(Hello("session", RUN)) + encode(Connect("server", "tunnel")),
    b"\x16\x03\x01\x00\x05hello",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x05\x01\x00",
]


@pytest.fixture
def server(processes: Processes, identities: Identities, app: App) -> Communication:
    made = start_server(processes, identities)
    made.client(
        "server", "--publish", f"web:app.example=http://127.0.0.1:{app.port}",
        "--allow", f"tcp:127.0.0.1:{app.port}", "--publish", "tunnel",
    )  # fmt: skip
    made.role.wait_for("action=publish what=tunnel allowed=True")
    return made


def answers(server: Communication, trick: bytes) -> bytes:
    """All that comes back for it, with another request behind it."""
    answer = b""
    with browser(server) as tls:
        tls.settimeout(3)
        try:
            tls.sendall(trick + SECOND)
            while data := tls.recv(65536):
                answer += data
        except OSError:
            pass
    return answer


def test_no_trick_reaches_the_application_or_anything_else(server: Communication, app: App) -> None:
    assert len(TRICKS) >= 60
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda trick: answers(server, trick), TRICKS))
    let_through = []
    for trick, answer in zip(TRICKS, found, strict=True):
        statuses = {
            line.split(b" ")[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")
        }
        if statuses & {b"200", b"101"}:
            let_through.append((trick, answer))
    assert let_through == [], [trick for trick, _ in let_through]
    assert app.connections == 0
    assert not any("session-open" in line for line in server.role.process.lines)
    assert not any("Traceback" in line for line in server.role.process.lines)
