"""SOCKS and HTTP proxy clients that are not ours, against the front ends (conformance).

Each program fetches a page through the tunnel, and is told when the far side refuses.
"""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator

import attrs
import pytest

from tests.acceptance.processes import Identities, Processes
from tests.acceptance.tunnels import start_usher_tunnel

BODY = b"the page\n"
LOGIN = "me:pass word"


class Pages(http.server.BaseHTTPRequestHandler):
    """One page, and an echo of what is sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(BODY)

    do_HEAD = do_OPTIONS = do_DELETE = do_GET

    def do_POST(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"got " + body)

    do_PUT = do_POST

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Path", self.path)
        self.send_header("X-Agent", self.headers.get("User-Agent", ""))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests say nothing."""


@attrs.frozen
class World:
    """The places that a program is told."""

    port: int
    """Of the pages, at 127.0.0.1."""
    socks: str
    http: str
    locked_socks: str
    locked_http: str

    def fill(self, words: tuple[str, ...], port: int | None = None) -> list[str]:
        """A command line with the places put in."""
        places = {"port": str(self.port if port is None else port)}
        for name in ("socks", "http", "locked_socks", "locked_http"):
            places[name] = getattr(self, name)
            places[f"{name}_port"] = getattr(self, name).rpartition(":")[2]
        return [word.format(**places) for word in words]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, identities: Identities) -> Iterator[World]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    processes = Processes(tmp_path_factory.mktemp("proxies"))
    users = processes.directory / "users"
    users.touch(mode=0o600)
    users.write_text(f"{LOGIN}\n")
    try:
        allow = [f"tcp:127.0.0.1:{server.server_port}"]
        front_ends = ("--socks", "0", "--http-proxy", "0")
        tunnel = start_usher_tunnel(processes, identities, allow, *front_ends)
        locked = start_usher_tunnel(
            processes, identities, allow, *front_ends,
            "--socks-auth-file", users, "--http-proxy-auth-file", users,
        )  # fmt: skip
        yield World(
            server.server_port,
            tunnel.socks,
            tunnel.client.address("http-proxy"),
            locked.socks,
            locked.client.address("http-proxy"),
        )
    finally:
        processes.end()
        server.shutdown()
        server.server_close()
        thread.join()


def run(words: list[str], given: bytes = b"") -> tuple[int, bytes]:
    """Exit status, and what it printed."""
    found = shutil.which(words[0])
    assert found, f"{words[0]} is not installed, see scripts/test-packages"
    done = subprocess.run(
        [found, *words[1:]], input=given, capture_output=True, timeout=60, env={"PATH": "/usr/bin"}
    )
    return done.returncode, done.stdout


REQUEST = b"GET /page HTTP/1.0\r\n\r\n"
URL = "http://127.0.0.1:{port}/page"
CURL = ("curl", "-sS", "--fail", "--max-time", "30")
NCAT = ("ncat", "--idle-timeout", "20", "--proxy")
SOCAT = ("socat", "-t", "20", "-")
# What takes the request on its standard input, and what does not.
PIPES: dict[str, tuple[str, ...]] = {
    "ncat socks4": (*NCAT, "{socks}", "--proxy-type", "socks4", "127.0.0.1", "{port}"),
    "ncat socks5": (*NCAT, "{socks}", "--proxy-type", "socks5", "127.0.0.1", "{port}"),
    "ncat http": (*NCAT, "{http}", "--proxy-type", "http", "127.0.0.1", "{port}"),
    "ncat socks5 login": (
        *(*NCAT, "{locked_socks}", "--proxy-type", "socks5", "--proxy-auth", LOGIN),
        *("127.0.0.1", "{port}"),
    ),
    "socat socks4": (*SOCAT, "SOCKS4:127.0.0.1:127.0.0.1:{port},socksport={socks_port}"),
    "socat socks4a": (*SOCAT, "SOCKS4A:127.0.0.1:127.0.0.1:{port},socksport={socks_port}"),
    "socat connect": (*SOCAT, "PROXY:127.0.0.1:127.0.0.1:{port},proxyport={http_port}"),
    "connect-proxy 4": ("connect-proxy", "-4", "-S", "{socks}", "127.0.0.1", "{port}"),
    "connect-proxy 5": ("connect-proxy", "-5", "-S", "{socks}", "127.0.0.1", "{port}"),
    "connect-proxy http": ("connect-proxy", "-H", "{http}", "127.0.0.1", "{port}"),
    "nc 4": ("nc.openbsd", "-X", "4", "-x", "{socks}", "127.0.0.1", "{port}"),
    "nc 5": ("nc.openbsd", "-X", "5", "-x", "{socks}", "127.0.0.1", "{port}"),
    "nc connect": ("nc.openbsd", "-X", "connect", "-x", "{http}", "127.0.0.1", "{port}"),
}
FETCHES: dict[str, tuple[str, ...]] = {
    "curl socks4": (*CURL, "--socks4", "{socks}", URL),
    "curl socks4a": (*CURL, "--socks4a", "{socks}", URL),
    "curl socks5": (*CURL, "--socks5", "{socks}", URL),
    "curl socks5h": (*CURL, "--socks5-hostname", "{socks}", URL),
    "curl socks5 login": (*CURL, "--proxy-user", LOGIN, "--socks5-basic", "--socks5",
                          "{locked_socks}", URL),
    "curl http": (*CURL, "-x", "http://{http}", URL),
    "curl http1.0": (*CURL, "--http1.0", "-x", "http://{http}", URL),
    "curl proxy1.0": (*CURL, "--proxy1.0", "{http}", URL),
    "curl tunnel": (*CURL, "--proxytunnel", "-x", "http://{http}", URL),
    "curl tunnel, 1.0": (*CURL, "--proxytunnel", "--proxy1.0", "{http}", URL),
    "curl any login": (*CURL, "--proxy-anyauth", "-U", LOGIN, "-x", "http://{locked_http}", URL),
    "curl basic login": (*CURL, "--proxy-basic", "-U", LOGIN, "-x", "http://{locked_http}", URL),
    "curl tunnel with login": (*CURL, "-p", "-U", LOGIN, "-x", "http://{locked_http}", URL),
    "curl userinfo": (*CURL, "-x", "http://{http}", "http://u:p@127.0.0.1:{port}/page"),
    "curl header for the proxy": (*CURL, "-x", "http://{http}", "--proxy-header", "X: y", URL),
    "curl without user agent": (*CURL, "-x", "http://{http}", "-A", "", URL),
    "curl no keepalive": (*CURL, "-x", "http://{http}", "--no-keepalive",
                          "-H", "Connection: close", URL),
    "curl empty header": (*CURL, "-x", "http://{http}", "-H", "X-Empty;", URL),
    "curl range": (*CURL, "-x", "http://{http}", "--range", "0-100", URL),
    "curl long url": (*CURL, "-x", "http://{http}", URL + "?" + "q" * 7000),
    "curl big header": (*CURL, "-x", "http://{http}", "-H", "X: " + "y" * 20_000, URL),
    "curl options": (*CURL, "-x", "http://{http}", "-X", "OPTIONS", URL),
    "curl delete": (*CURL, "-x", "http://{http}", "-X", "DELETE", URL),
    "curl path as it is": (*CURL, "-x", "http://{http}", "--path-as-is", URL + "/../page"),
    "curl connect-to": (*CURL, "-x", "http://{http}", "--connect-to", "a.example:80:127.0.0.1:"
                        "{port}", "http://a.example/page"),
    "curl http2 if it can be": (*CURL, "-x", "http://{http}", "--http2", URL),
    "curl http2 through a tunnel": (*CURL, "-p", "-x", "http://{http}", "--http2", URL),
    "curl compressed": (*CURL, "-x", "http://{http}", "--compressed", "--tr-encoding", URL),
    "curl tcp fastopen": (*CURL, "-x", "http://{http}", "--tcp-fastopen", URL),
    "curl socks5h in a url": (*CURL, "-x", "socks5h://{socks}", URL),
    "curl socks4a in a url": (*CURL, "-x", "socks4a://{socks}", URL),
    "curl another host": (*CURL, "-x", "http://{http}", "-H", "Host: a.example", URL),
    "curl trailers": (*CURL, "-x", "http://{http}", "-H", "TE: trailers", "-H", "Trailer: X", URL),
    "curl upgrade": (*CURL, "-x", "http://{http}", "-H", "Connection: Upgrade, X-Mine", "-H",
                     "Upgrade: foo/2", "-H", "X-Mine: 1", URL),
    "curl fragment": (*CURL, "-x", "http://{http}", URL + "#part"),
    "curl resolve": (*CURL, "--socks5", "{socks}", "--resolve", "a.example:{port}:127.0.0.1",
                     "http://a.example:{port}/page"),
    "curl from a port": (*CURL, "--socks5", "{socks}", "--interface", "127.0.0.1", URL),
    "curl long login": (*CURL, "-x", "http://{http}", "--oauth2-bearer", "t" * 10_000, URL),
}  # fmt: skip


@pytest.mark.parametrize("name", PIPES)
def test_a_program_gets_its_page_through_a_pipe(world: World, name: str) -> None:
    words = world.fill(PIPES[name])
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(REQUEST)
        program.stdin.close()
        printed = b""
        while not printed.endswith(BODY) and (piece := os.read(program.stdout.fileno(), 4096)):
            printed += piece
        # ncat would wait for its own time limit.
        program.kill()
    assert printed.endswith(BODY), printed


@pytest.mark.parametrize("name", FETCHES)
def test_curl_gets_its_page_whatever_it_is_told(world: World, name: str) -> None:
    assert run(world.fill(FETCHES[name])) == (0, BODY)


@pytest.mark.parametrize("name", [*PIPES, "curl socks4", "curl socks5", "curl http"])
def test_a_refusal_is_told(world: World, name: str) -> None:
    words = world.fill((PIPES | FETCHES)[name], port=1)
    status, printed = run(words, REQUEST)
    assert BODY not in printed
    # nc says so in words only.
    assert status != 0 or name.startswith("nc ")


@pytest.mark.parametrize("more", [(), ("-H", "Transfer-Encoding: chunked"),
                                  ("-H", "Expect: 100-continue"), ("--http1.0",)])  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_curl_sends_a_body_in_every_way(world: World, method: str, more: tuple[str, ...]) -> None:
    words = (*CURL, "-x", "http://{http}", "-X", method, "--data-binary", "@-", *more, URL)
    assert run(world.fill(words), b"x" * 100_000) == (0, b"got " + b"x" * 100_000)


def test_curl_reads_the_head_alone_and_uses_one_connection_for_several(world: World) -> None:
    words = world.fill((*CURL, "-x", "http://{http}", "--head", URL))
    status, printed = run(words)
    assert status == 0
    assert printed.startswith(b"HTTP/1.1 200")
    several = world.fill((*CURL, "-x", "http://{http}", "-w", "%{{num_connects}} ", URL, URL, URL))
    status, printed = run(several)
    assert status == 0
    # The first takes a connection, the others none of their own.
    assert printed == BODY + b"1 " + BODY + b"0 " + BODY + b"0 "


def test_a_login_that_is_missing_or_wrong_is_told(world: World) -> None:
    for words, expected in (
        ((*CURL, "-x", "http://{locked_http}", URL), 22),
        ((*CURL, "-x", "http://{locked_http}", "-U", "me:wrong", URL), 22),
        ((*CURL, "--socks5", "{locked_socks}", URL), 97),
        ((*CURL, "--socks5", "{locked_socks}", "-U", "me:wrong", URL), 97),
    ):
        assert run(world.fill(words))[0] == expected
