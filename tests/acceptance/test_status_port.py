"""``--status``: state, metrics, health and commands over HTTP, and who is refused (O6, O7, X15)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
import subprocess
from itertools import product
from pathlib import Path

import attrs
import pytest

from tests.acceptance.processes import START_LIMIT, TWISTD, Identities, Processes, Role

ROUTES = ("/status.json", "/metrics", "/healthz", "/events", "/channels", "/connect", "/nothing")
ACTIONS = ("/drain", "/reload", "/disconnect")
ASSETS = ("/", "/page.css", "/page.js", "/icon.svg")


@attrs.frozen
class Port:
    """The port of a middle that runs."""

    role: Role
    address: str
    token_file: Path

    @property
    def token(self) -> str:
        return self.token_file.read_text(encoding="ascii").strip()

    def ask(self, request: str, body: str = "") -> tuple[int, str]:
        """Status and body of what ``request``, line and fields, is answered; 0: it is not."""
        host, _, port = self.address.rpartition(":")
        with socket.create_connection((host, int(port)), START_LIMIT) as sock:
            return answer_to(sock, request, body)

    def get(self, path: str, *fields: str, method: str = "GET") -> tuple[int, str]:
        """The same of a request that is all right but for what ``fields`` say."""
        own = (f"Host: {self.address}", f"Authorization: Bearer {self.token}")
        return self.ask("\r\n".join((f"{method} {path} HTTP/1.1", *own, *fields)))

    def post(self, path: str, body: str = "", *fields: str) -> tuple[int, str]:
        """The same for an action."""
        own = (f"Host: {self.address}", f"Authorization: Bearer {self.token}")
        return self.ask("\r\n".join((f"POST {path} HTTP/1.1", *own, *fields)), body)


def answer_to(sock: socket.socket, request: str, body: str = "") -> tuple[int, str]:
    sock.settimeout(START_LIMIT)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    sock.sendall(f"{request}\r\n{length}Connection: close\r\n\r\n{body}".encode("latin-1"))
    received = b""
    while piece := sock.recv(65536):
        received += piece
    head, _, body = received.decode("utf-8").partition("\r\n\r\n")
    found = re.match(r"HTTP/1\.1 (\d+)", head)
    return (int(found[1]) if found else 0), body


@pytest.fixture
def port(processes: Processes, tmp_path: Path) -> Port:
    token_file = tmp_path / "token"
    role = processes.role(
        "lstp-middle", "--listen", "127.0.0.1:0", "--status", "127.0.0.1:0",
        "--status-token-file", token_file,
    )  # fmt: skip
    found = role.wait_for(r"Status at http://(\S+)/, token in (\S+)")
    assert found[2] == str(token_file)
    return Port(role, found[1], token_file)


def test_a_port_with_a_token_shows_state_metrics_and_health(port: Port) -> None:
    assert stat.S_IMODE(os.stat(port.token_file).st_mode) == 0o600
    assert len(port.token) == 43
    status, body = port.get("/status.json")
    assert status == 200
    found = json.loads(body)
    assert (found["role"], found["last_problem"]) == ("lstp-middle", "")
    with socket.create_connection(("127.0.0.1", port.role.port("listening on"))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        port.role.wait_for("Sent away")
    found = json.loads(port.get("/status.json")[1])
    assert found["last_problem"].startswith("Sent away 127.0.0.1:")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["last_problem_at"])
    assert port.get("/healthz") == (200, "ok\n")
    assert 'tunnelkit_pairs_open{role="lstp-middle"} 0\n' in port.get("/metrics")[1]
    accept = "Accept: application/openmetrics-text; version=1.0.0"
    assert port.get("/metrics", accept)[1].endswith("# EOF\n")
    assert port.get("/status.json", method="POST")[0] == 405
    assert port.get("/nothing")[0] == 404
    # A middle does not dial: it has nothing to connect.
    assert port.get("/connect", method="POST")[0] == 405
    assert port.token not in "".join(port.role.process.lines)
    assert port.role.process.stop() == 0
    assert not port.token_file.exists()


def test_hostile_requests_are_refused(port: Port) -> None:
    right, token = port.address, f"Authorization: Bearer {port.token}"
    number = right.rpartition(":")[2]
    host = f"Host: {right}"
    without = [
        (path, [host, *given])
        for path, given in product(
            ROUTES,
            (
                [],
                ["Authorization: Bearer "],
                [f"Authorization: Basic {port.token}"],
                [f"Authorization: Bearer {port.token[:-1]}"],
                [f"Authorization: Bearer {port.token}x"],
                [f"Cookie: token={port.token}"],
                [token, token],
            ),
        )
    ]
    others = [
        [token],
        [token, host, host],
        [token, "Host: evil.example"],
        [token, f"Host: evil.example:{number}"],
        [token, "Host: 127.0.0.1"],
        [token, f"Host: 127.0.0.1.evil.example:{number}"],
        [token, f"Host: localhost.evil.example:{number}"],
        [token, f"Host: 127.1:{number}"],
        [token, f"Host: 2130706433:{number}"],
        [token, f"Host: 0.0.0.0:{number}"],
        [token, host, "Origin: http://evil.example"],
        [token, host, "Origin: null"],
        [token, host, f"Origin: https://{right}"],
        [token, host, "Origin: http://127.0.0.1:1"],
        [token, host, f"Origin: http://localhost:{number}"],
        [token, host, "Sec-Fetch-Site: cross-site"],
        [token, host, "Sec-Fetch-Site: same-site"],
        [token, host, "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"],
        [token, host, "Content-Length: 4097"],
        [token, host, "Content-Length: 0", "Content-Length: 9"],
    ]
    requests = [f"GET {path} HTTP/1.1\r\n" + "\r\n".join(fields) for path, fields in without]
    requests += ["\r\n".join(("GET /status.json HTTP/1.1", *fields)) for fields in others]
    requests += [
        f"GET http://evil.example/status.json HTTP/1.1\r\n{host}\r\n{token}",
        f"GET status.json HTTP/1.1\r\n{host}\r\n{token}",
        f"OPTIONS /status.json HTTP/1.1\r\n{host}\r\n{token}",
        f"TRACE /status.json HTTP/1.1\r\n{host}\r\n{token}",
    ]
    assert len(requests) >= 60
    answered = {request: port.ask(request) for request in requests}
    wrong = {request: got for request, got in answered.items() if not 400 <= got[0] < 500}
    assert wrong == {}
    assert not any("lstp-middle" in body for _, body in answered.values())
    assert port.get("/healthz") == (200, "ok\n")


def test_an_action_without_a_token_or_by_another_method_does_nothing(port: Port) -> None:
    for path in ACTIONS:
        assert port.ask(f"POST {path} HTTP/1.1\r\nHost: {port.address}")[0] == 401
        assert port.get(path)[0] == 405
        assert port.get(path, "Origin: http://evil.example", method="POST")[0] == 403
        assert port.get(path, "Host: evil.example", method="POST")[0] == 421
    unexpected = "surprise: not possible here: expected nothing\n"
    assert port.post("/drain", '{"surprise": 1}') == (400, unexpected)
    for body in ("[]", "1", "{", "\xff"):
        assert port.post("/drain", body)[0] == 400
    for body in (
        "",
        '{"peer": 1}',
        '{"peer": "a", "all": true}',
        '{"channel": "1", "for": 1}',
        '{"peer": "a", "for": -1}',
        '{"peer": "a", "for": true}',
        '{"peer": "a", "for": 1e300}',
    ):
        assert port.post("/disconnect", body)[0] == 400, body
    assert port.post("/disconnect", '{"channel": "pair-7"}') == (200, '{"ended": 0}')
    assert json.loads(port.get("/channels?sort=-sent&filter=x")[1])["rows"] == []
    # A middle has neither rules nor front ends.
    assert port.get("/policy/explain?peer=a&destination=tcp:b:1")[0] == 404
    assert port.get("/forwards")[0] == 404
    for query in ("sort=x", "sort=sent&sort=sent", "x=1"):
        assert port.get(f"/channels?{query}")[0] == 400
    assert port.get("/healthz") == (200, "ok\n")


def test_the_page_itself_holds_nothing_and_goes_by_the_host_alone(port: Port) -> None:
    for path in ASSETS:
        status, body = port.ask(f"GET {path} HTTP/1.1\r\nHost: {port.address}")
        assert status == 200
        assert port.token not in body
        for hostile in (
            "Host: evil.example",
            f"Host: {port.address}\r\nOrigin: http://evil.example",
            f"Host: {port.address}\r\nSec-Fetch-Site: cross-site",
        ):
            assert 400 <= port.ask(f"GET {path} HTTP/1.1\r\n{hostile}")[0] < 500
        assert port.ask(f"POST {path} HTTP/1.1\r\nHost: {port.address}")[0] == 405
    for path in ("/../page.html", "/%2e%2e/page.css", "//page.css", "/page.html", "/page/page.css"):
        assert port.ask(f"GET {path} HTTP/1.1\r\nHost: {port.address}")[0] == 401
        assert port.get(path)[0] == 404


def watching(port: Port) -> socket.socket:
    """A connection on which events come."""
    host, _, number = port.address.rpartition(":")
    sock = socket.create_connection((host, int(number)), START_LIMIT)
    sock.settimeout(START_LIMIT)
    sock.sendall(
        f"GET /events HTTP/1.1\r\nHost: {port.address}\r\n"
        f"Authorization: Bearer {port.token}\r\n\r\n".encode("ascii")
    )
    return sock


def test_sixteen_may_read_and_strangers_hold_none_of_their_places(port: Port) -> None:
    host, _, number = port.address.rpartition(":")
    strangers = [socket.create_connection((host, int(number)), START_LIMIT) for _ in range(40)]
    readers = []
    try:
        # The oldest strangers have given way; who has the token gets in all the same.
        strangers[0].settimeout(START_LIMIT)
        with contextlib.suppress(ConnectionResetError):
            assert strangers[0].recv(1) == b""
        for _ in range(16):
            readers.append(watching(port))
            assert readers[-1].recv(12) == b"HTTP/1.1 200"
        assert port.get("/healthz")[0] == 503
        readers.pop().close()
        while port.get("/healthz")[0] != 200:
            pass
    finally:
        for one in (*strangers, *readers):
            one.close()


def test_a_unix_socket_needs_no_token(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "status"
    role = processes.role("lstp-middle", "--listen", "127.0.0.1:0", "--status", f"unix:{path}")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    for name, expected in (("localhost", 200), ("evil.example", 421)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(path))
            assert answer_to(sock, f"GET /healthz HTTP/1.1\r\nHost: {name}")[0] == expected
    assert role.process.stop() == 0
    assert not path.exists()


def test_an_end_connects_and_disconnects_by_post(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    path = tmp_path / "status"
    with socket.create_server(("127.0.0.1", 0)) as middle:
        client = processes.role(
            "lstp-client-end", "--middle", f"127.0.0.1:{middle.getsockname()[1]}", "--tunnel", "t",
            "--identity", identities("client"), "--peer", "server", "--socks", "0", "--manual",
            "--status", f"unix:{path}",
        )  # fmt: skip

        def told(request: str) -> tuple[int, str]:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(str(path))
                return answer_to(sock, f"{request} HTTP/1.1\r\nHost: localhost")

        assert json.loads(told("GET /status.json")[1])["state"] == "disconnected"
        assert told("GET /connect")[0] == 405
        assert json.loads(told("POST /connect")[1])["state"] != "disconnected"
        middle.settimeout(START_LIMIT)
        middle.accept()[0].close()
        assert json.loads(told("POST /disconnect")[1])["state"] == "disconnected"
    assert client.process.stop() == 0


def test_a_place_that_is_not_safe_is_one_line(processes: Processes, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("not a token\n", encoding="ascii")
    link = tmp_path / "link"
    link.symlink_to(kept)
    middle = ["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0", "--status-token-file"]
    open_to_all = ["--listen", "127.0.0.1:0", "--status", "0.0.0.0:0"]
    for words, expected in (
        ([*middle, kept], "it is something else than a token: expected another path"),
        ([*middle, link], "it is something else than a token: expected another path"),
        ([*middle, tmp_path / "no" / "token"], "expected a path that can be written"),
        (open_to_all, "it is not on this machine alone"),
    ):
        done = subprocess.run(
            [*TWISTD, "-n", "--pidfile=", "lstp-middle", *map(str, words)],
            capture_output=True, text=True, timeout=60, cwd=tmp_path,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert expected in done.stderr
    assert kept.read_text(encoding="ascii") == "not a token\n"
    assert link.is_symlink()
