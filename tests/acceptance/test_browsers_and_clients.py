"""A browser, and the clients that people use with SOCKS, over each transport.

What curl does through SOCKS with IPv4 and without a login is in
``test_tunnel_end_to_end.py``, the HTTP proxy with curl in ``test_front_ends.py``.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import socks

from tests.acceptance.processes import Processes, WebServer, curl
from tests.acceptance.ssh import Sshd
from tests.acceptance.tunnels import RunningTunnel, Transport
from tests.acceptance.x11 import program

MIB = 1 << 20
LIMIT = 10.0
"""Seconds that a small client may take for anything."""
BROWSER_LIMIT = 60.0
"""Seconds that a browser may take to start, show a page and end; about 1 on an idle machine."""


@attrs.frozen
class Login:
    """Who may use the SOCKS server, by ``options`` of the client end."""

    user: str
    password: str
    options: tuple[str, ...]


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """One user."""
    users = tmp_path / "users"
    users.write_text("me:secret\n")
    users.chmod(0o600)
    return Login("me", "secret", ("--socks-auth-file", str(users)))


@pytest.fixture
def denied(processes: Processes) -> WebServer:
    """A second web server, which no rule of the far side allows."""
    return WebServer.among(processes, "denied")


@pytest.fixture
def web6(processes: Processes) -> WebServer:
    """A web server at ``::1``, nowhere else."""
    return WebServer.among(processes, "www6", "::1")


# -- Chromium -------------------------------------------------------------


def page(web: WebServer, denied: WebServer) -> str:
    """A page with a script that is allowed and one that is not; its address."""
    (web.directory / "page.html").write_text(
        '<!DOCTYPE html><p id="made">nothing</p><p id="denied">nothing</p>'
        '<script src="made.js"></script>'
        f'<script src="http://localhost:{denied.port}/denied.js"'
        " onerror=\"document.getElementById('denied').textContent = 'did not' + ' come'\">"
        "</script>"
    )
    (web.directory / "made.js").write_text(
        "document.getElementById('made').textContent = [3, 4, 5].map(n => n * n).join(' and ');"
    )
    (denied.directory / "denied.js").write_text(
        "document.getElementById('denied').textContent = [3, 4, 5].join(' came ');"
    )
    return f"http://localhost:{web.port}/page.html"


def dumped(processes: Processes, proxy: str, url: str) -> str:
    """The DOM that Chromium has of ``url``, for which it may use nothing but the proxy."""
    home = processes.directory / "chromium"
    home.mkdir()
    browser = processes.start(
        "chromium",
        *(program("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu"),
        *("--disable-dev-shm-usage", "--disable-breakpad", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={home}",
        *(f"--proxy-server={proxy}", "--proxy-bypass-list=<-loopback>"),
        # Names are for the far side: here none is known.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        *("--dump-dom", url),
        env={"HOME": str(home)},
    )
    assert browser.wait(BROWSER_LIMIT) == 0
    return "\n".join(browser.lines)


# Not SOCKS 4: for that Chromium looks names up itself, which it cannot here.
@pytest.mark.parametrize(("front_end", "scheme"), [("socks", "socks5"), ("http-proxy", "http")])
def test_chromium_runs_the_scripts_of_a_page_that_the_far_side_allows(
    processes: Processes,
    transport: Transport,
    web: WebServer,
    denied: WebServer,
    front_end: str,
    scheme: str,
) -> None:
    tunnel = transport([f"tcp:localhost:{web.port}@127.0.0.0/8"], f"--{front_end}", "0")
    proxy = f"{scheme}://{tunnel.client.address(front_end)}"
    text = dumped(processes, proxy, page(web, denied))
    assert '<p id="made">9 and 16 and 25</p>' in text
    assert '<p id="denied">did not come</p>' in text


# -- curl: login, IPv6 ----------------------------------------------------


def test_curl_logs_in_at_the_socks_server(
    transport: Transport, web: WebServer, login: Login
) -> None:
    digest = web.add("file", MIB)
    target = f"127.0.0.1:{web.port}"
    url = f"http://{target}/file"
    tunnel = transport([f"tcp:{target}"], "--socks", "0", *login.options)
    for way in ("--socks5", "--socks5-hostname"):
        named = (way, tunnel.socks, "--proxy-user")
        assert curl(*named, f"{login.user}:{login.password}", url).sha256 == digest
        for refused in (
            curl(way, tunnel.socks, url),
            curl(*named, f"{login.user}:wrong", url),
            curl(*named, f"nobody:{login.password}", url),
        ):
            assert (refused.status, refused.size) == (97, 0), refused.said
    for way in ("--socks4", "--socks4a"):
        # They have no password.
        refused = curl(way, tunnel.socks, "--proxy-user", login.user, url)
        assert (refused.status, refused.size) == (97, 0), refused.said


def test_curl_fetches_over_ipv6_through_every_front_end(
    transport: Transport, web6: WebServer
) -> None:
    digest = web6.add("file", MIB)
    target = f"[::1]:{web6.port}"
    url = f"http://{target}/file"
    tunnel = transport(
        [f"tcp:{target}"],
        *("--socks", "0", "--socks", "[::1]:0", "--http-proxy", "[::1]:0"),
        *("--forward", f"[::1]:0=tcp:{target}"),
    )
    near = tunnel.client
    assert near.address("socks", 1).startswith("[::1]:")
    http_proxy = f"http://{near.address('http-proxy')}"
    for way in (
        ("--socks5", near.address("socks", 0), url),
        ("--socks5-hostname", near.address("socks", 0), url),
        ("--socks5", near.address("socks", 1), url),
        ("--socks5-hostname", near.address("socks", 1), url),
        ("--proxy", http_proxy, url),
        ("--proxy", http_proxy, "--proxytunnel", url),
        ("--noproxy", "*", f"http://{near.address('forward')}/file"),
    ):
        fetched = curl("--globoff", *way)
        assert (fetched.status, fetched.said) == (0, ""), way
        assert fetched.sha256 == digest, way


# -- PySocks --------------------------------------------------------------


def fetched_with_pysocks(
    tunnel: RunningTunnel, host: str, port: int, kind: int, rdns: bool, login: Login | None = None
) -> bytes:
    """The body of ``/file`` at this host."""
    near, _, near_port = tunnel.socks.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    user, password = (login.user, login.password) if login else (None, None)
    with socks.socksocket(family, socket.SOCK_STREAM) as client:
        client.set_proxy(kind, near, int(near_port), rdns, user, password)
        client.settimeout(LIMIT)
        client.connect((host, port))
        client.sendall(b"GET /file HTTP/1.0\r\n\r\n")
        with client.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    assert b" 200 OK" in head
    return body


def test_pysocks_connects_to_names_and_addresses(transport: Transport, web: WebServer) -> None:
    digest = web.add("file", MIB)
    allow = [f"tcp:127.0.0.1:{web.port}", f"tcp:localhost:{web.port}@127.0.0.0/8"]
    tunnel = transport(allow, "--socks", "0")
    for kind in (socks.SOCKS4, socks.SOCKS5):
        for host, rdns in (("127.0.0.1", False), ("127.0.0.1", True), ("localhost", True)):
            body = fetched_with_pysocks(tunnel, host, web.port, kind, rdns)
            assert hashlib.sha256(body).hexdigest() == digest


def test_pysocks_logs_in(
    transport: Transport, web: WebServer, denied: WebServer, login: Login
) -> None:
    digest = web.add("file", 1000)
    denied.add("file", 1000)
    tunnel = transport([f"tcp:127.0.0.1:{web.port}"], "--socks", "0", *login.options)
    body = fetched_with_pysocks(tunnel, "127.0.0.1", web.port, socks.SOCKS5, True, login)
    assert hashlib.sha256(body).hexdigest() == digest
    wrong = attrs.evolve(login, password="wrong")
    with pytest.raises(socks.ProxyError, match="authentication failed"):
        fetched_with_pysocks(tunnel, "127.0.0.1", web.port, socks.SOCKS5, True, wrong)
    with pytest.raises(socks.ProxyError, match="not allowed"):
        fetched_with_pysocks(tunnel, "127.0.0.1", denied.port, socks.SOCKS5, True, login)


# -- proxychains4 ---------------------------------------------------------


def in_chains(processes: Processes, proxy: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs programs all of whose connections go through ``proxy``, a line of its list."""
    config = processes.directory / "proxychains.conf"
    config.write_text(f"strict_chain\n[ProxyList]\n{proxy}\n")
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}

    def run(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program("proxychains4"), "-q", "-f", str(config), *command],
            input=text, env=environment, capture_output=True, text=True, timeout=30,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("kind", ["socks4", "socks5", "socks5 with a login", "http"])
def test_programs_in_proxychains_reach_what_the_far_side_allows_only(
    processes: Processes,
    transport: Transport,
    web: WebServer,
    denied: WebServer,
    login: Login,
    kind: str,
) -> None:
    for server, text in ((web, "through the chain\n"), (denied, "around it\n")):
        (server.directory / "file").write_text(text)
    scheme, _, with_login = kind.partition(" with ")
    front_end = "http-proxy" if scheme == "http" else "socks"
    more = login.options if with_login else ()
    tunnel = transport([f"tcp:127.0.0.1:{web.port}"], f"--{front_end}", "0", *more)
    host, _, port = tunnel.client.address(front_end).rpartition(":")
    credentials = f" {login.user} {login.password}" if with_login else ""
    run = in_chains(processes, f"{scheme} {host} {port}{credentials}")
    fetch = ("curl", "-sS", "--max-time", "20")
    assert run(*fetch, f"http://127.0.0.1:{web.port}/file").stdout == "through the chain\n"
    refused = run(*fetch, f"http://127.0.0.1:{denied.port}/file")
    assert (refused.returncode, refused.stdout) == (7, ""), refused.stderr
    request = "GET /file HTTP/1.0\r\n\r\n"
    netcat = program("nc.openbsd")
    answer = run(netcat, "127.0.0.1", str(web.port), text=request).stdout
    assert re.search(r" 200 OK\n.*\n\nthrough the chain\n$", answer, re.DOTALL), answer


# -- ssh ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("front_end", "kind"), [("socks", "4"), ("socks", "5"), ("http-proxy", "connect")]
)
def test_ssh_through_a_proxy_command(
    processes: Processes, transport: Transport, front_end: str, kind: str
) -> None:
    sshd = Sshd(processes)
    tunnel = transport([f"tcp:127.0.0.1:{sshd.port}"], f"--{front_end}", "0")
    connect = f"{program('nc.openbsd')} -X {kind} -x {tunnel.client.address(front_end)} %h %p"
    sent = os.urandom(MIB)
    received = sshd.cat(sent, "-o", f"ProxyCommand={connect}", "-p", str(sshd.port))
    assert received.stderr == b""
    assert received.returncode == 0
    assert received.stdout == sent
