"""Web services inside that browsers reach under the server's certificate (S8, S10, X21)."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import subprocess

import pytest

from tests.acceptance.communication import Communication, Names, start_server
from tests.acceptance.processes import Identities, Processes, WebServer, curl
from tests.acceptance.web_app import App

MIB = 1 << 20


@pytest.fixture
def server(processes: Processes, identities: Identities, app: App) -> Communication:
    made = start_server(processes, identities)
    made.client(
        "server", "--publish", f"web:app.example=http://127.0.0.1:{app.port}",
        "--allow", f"tcp:127.0.0.1:{app.port}",
    )  # fmt: skip
    made.role.wait_for("action=publish what=web:app.example allowed=True")
    return made


def ask(server: Communication, path: str, *more: str) -> tuple[str, bytes]:
    """Head and body of an answer."""
    done = subprocess.run(
        ["curl", "-sik", "-H", "Expect:", *Names(server.port)("app.example"), *more,
            f"https://app.example:{server.port}{path}"],
        capture_output=True, timeout=30,
    )  # fmt: skip
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    return head.decode().lower(), body


def test_requests_and_answers_are_written_anew(server: Communication, app: App) -> None:
    head, body = ask(
        server, "/a%20b?c=d", "-H", "X-Forwarded-For: 1.2.3.4", "-H", "Connection: close, X-Mine",
        "-H", "X-Mine: 1", "-H", "Cookie: e=f",
    )  # fmt: skip
    asked = json.loads(body)
    assert asked["first"] == "GET /a%20b?c=d HTTP/1.1"
    fields = asked["fields"]
    assert fields["host"] == "app.example"
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert fields["x-forwarded-proto"] == "https"
    assert fields["cookie"] == "e=f"
    assert "x-mine" not in fields
    assert "set-cookie: a=b; path=/" in head.splitlines()
    assert app.connections == 1
    server.role.wait_for("session-open .*resource=web:app.example")


def test_connections_to_the_client_are_used_again(server: Communication, app: App) -> None:
    names = Names(server.port)("app.example")
    url = f"https://app.example:{server.port}/"
    for _ in range(3):
        assert curl("--insecure", *names, url, url, url).status == 0
    assert app.connections == 1


def test_a_large_body_each_way(
    processes: Processes, identities: Identities, web: WebServer, server: Communication
) -> None:
    upload = processes.directory / "upload"
    upload.write_bytes(os.urandom(3 * MIB))
    _, body = ask(server, "/", "--data-binary", f"@{upload}")
    asked = json.loads(body)
    assert asked["body"] == 3 * MIB
    assert asked["sha256"] == hashlib.sha256(upload.read_bytes()).hexdigest()


def test_a_body_that_is_announced_as_too_large_is_refused_at_once(
    server: Communication, app: App
) -> None:
    with browser(server) as tls:
        tls.sendall(
            b"POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 268435457\r\n\r\nbegin"
        )
        answer = b""
        while data := tls.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert app.connections == 0


def test_events_come_as_they_are_sent(server: Communication, app: App) -> None:
    with subprocess.Popen(
        ["curl", "-skN", *Names(server.port)("app.example"),
            f"https://app.example:{server.port}/events"],
        stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == b"data: 1\n"
        app.go_on.set()
        assert child.stdout.read() == b"\ndata: 2\n\n"
        assert child.wait(20) == 0


def browser(server: Communication) -> ssl.SSLSocket:
    """A browser's TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    return context.wrap_socket(sock, server_hostname="app.example")


def test_a_web_socket(server: Communication) -> None:
    with browser(server) as tls:
        tls.sendall(
            b"GET /socket HTTP/1.1\r\nHost: app.example\r\nConnection: keep-alive, Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += tls.recv(65536)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        for size in (1, 100_000):
            said = os.urandom(size)
            tls.sendall(said)
            got = b""
            while len(got) < size:
                got += tls.recv(65536)
            assert got == said


def test_an_answer_that_is_cut_short_is_seen_to_be(server: Communication) -> None:
    fetched = curl("--insecure", *Names(server.port)("app.example"),
        f"https://app.example:{server.port}/cut")  # fmt: skip
    assert fetched.status in (18, 56), fetched.said


def test_a_client_that_is_not_there_is_a_502(processes: Processes, identities: Identities) -> None:
    server = start_server(processes, identities)
    head, _ = ask(server, "/")
    assert head.startswith("http/1.1 502 ")
    assert "cache-control: no-store" in head
