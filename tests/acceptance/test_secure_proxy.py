"""Real clients of a real Communication Server, on one port (S1, S4 to S7, S10)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.communication import (
    POLICY,
    SERVER,
    Communication,
    HttpsSite,
    Names,
    start_server,
)
from tests.acceptance.processes import (
    Fetched,
    Identities,
    Processes,
    WebServer,
    curl,
    tunnelkit,
)
from tests.acceptance.ssh import Sshd
from tests.acceptance.x11 import program
from tests.peers.secureproxy_peer import Client

MIB = 1 << 20


@pytest.fixture
def server(processes: Processes, identities: Identities) -> Communication:
    """A server with the usual policy."""
    return start_server(processes, identities)


@pytest.fixture
def site(tmp_path: Path, processes: Processes) -> HttpsSite:
    """A web server inside."""
    made = HttpsSite(tmp_path, "site.example")
    processes.on_end(made.close)
    return made


def test_a_web_server_and_an_sshd_by_name(
    server: Communication, web: WebServer, processes: Processes
) -> None:
    sshd = Sshd(processes)
    digest = web.add("file", 8 * MIB)
    allowed = ("--allow", f"tcp:127.0.0.1:{web.port}", "--allow", f"tcp:127.0.0.1:{sshd.port}")
    server.client("server", *allowed)
    near = server.client(
        "client", "--target", "server", "--socks", "0",
        "--forward", f"0=tcp:127.0.0.1:{sshd.port}",
    )  # fmt: skip
    fetched = curl("--socks5-hostname", near.address("socks"), f"http://127.0.0.1:{web.port}/file")
    assert (fetched.status, fetched.sha256) == (0, digest)
    said = os.urandom(200_000)
    port = near.port("forward")
    assert sshd.cat(said, "-p", str(port)).stdout == said
    server.role.wait_for(r"session-end|session-open")


def test_who_is_not_allowed_is_told_and_so_is_the_log(server: Communication) -> None:
    guest = server.client("guest", "--target", "server", "--socks", "0", wait=False)
    guest.wait_for("not-allowed: no rule allows it")
    server.role.wait_for(r"decision who=guest action=connect what=server/tunnel allowed=False")
    client = server.client("client", "--target", "server", "--socks", "0", wait=False)
    client.wait_for("not-present")


def test_a_member_of_a_group(server: Communication, web: WebServer) -> None:
    digest = web.add("file", 1000)
    allow = ("--allow", f"tcp:127.0.0.1:{web.port}")
    server.client("second", *allow)
    near = server.client(
        "client", "--target", "group:servers", "--peer", "server", "--peer", "second",
        "--forward", f"0=tcp:127.0.0.1:{web.port}",
    )  # fmt: skip
    fetched = curl(f"http://{near.address('forward')}/file")
    assert (fetched.status, fetched.sha256) == (0, digest)
    near.wait_for("with second is up")


def test_a_browser_reaches_a_site_inside_with_the_sites_own_certificate(
    server: Communication, site: HttpsSite
) -> None:
    publisher = server.client(
        "server", "--publish", f"pass:site.example=tcp:127.0.0.1:{site.port}",
        "--allow", f"tcp:127.0.0.1:{site.port}",
    )  # fmt: skip
    publisher.wait_for("Present at relay.example")
    server.role.wait_for("action=publish what=pass:site.example allowed=True")
    names = Names(server.port)
    address = f"https://site.example:{server.port}/"
    fetched = curl(*names("site.example"), "--cacert", site.authority, address, address)
    assert fetched.status == 0, fetched.said
    assert fetched.size == 2 * len("this is site.example\n")
    assert site.asked == 2
    opened = [line for line in server.role.process.lines if "session-open" in line]
    assert len(opened) == 1, "one connection for both"
    assert "peer=server resource=pass:site.example" in opened[0]


def test_chromium_shows_the_certificate_of_the_site(
    server: Communication, site: HttpsSite, processes: Processes
) -> None:
    """Its key is pinned here in place of an installed CA: another one's would not be shown."""
    server.client(
        "server", "--publish", f"pass:site.example=tcp:127.0.0.1:{site.port}",
        "--allow", f"tcp:127.0.0.1:{site.port}",
    )  # fmt: skip
    server.role.wait_for("action=publish what=pass:site.example allowed=True")
    home = processes.directory / "chromium"
    home.mkdir()
    browser = processes.start(
        "chromium",
        *(program("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu"),
        *("--disable-dev-shm-usage", "--disable-breakpad", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={home}", "--no-proxy-server"),
        f"--ignore-certificate-errors-spki-list={site.pin}",
        "--host-resolver-rules=MAP site.example 127.0.0.1",
        *("--dump-dom", f"https://site.example:{server.port}/"),
        env={"HOME": str(home)},
    )
    assert browser.wait(60) == 0
    assert any("this is site.example" in line for line in browser.lines), browser.log


@pytest.mark.parametrize("spares", [0, 2])
def test_a_site_that_is_not_there_is_an_alert(
    server: Communication, site: HttpsSite, spares: int
) -> None:
    names = Names(server.port)
    for host in ("site.example", "unknown.example"):
        fetched = curl(*names(host), f"https://{host}:{server.port}/")
        assert fetched.status == 35
        assert "unrecognized name" in fetched.said
    publisher = server.client(
        "server", "--publish", "pass:site.example=tcp:127.0.0.1:1", "--allow", "tcp:127.0.0.1:1",
        "--spares", spares,
    )  # fmt: skip
    server.role.wait_for("action=publish what=pass:site.example allowed=True")
    fetched = curl(*names("site.example"), f"https://site.example:{server.port}/")
    assert fetched.status == 35
    assert "unrecognized name" in fetched.said
    publisher.wait_for("pass:site.example: 127.0.0.1:1: Connection refused")
    if not spares:
        server.role.wait_for("the web server cannot be reached")


def test_a_changed_policy_counts_within_seconds_and_a_broken_one_does_not(
    server: Communication, web: WebServer
) -> None:
    web.add("file", 1000)
    server.client("server", "--allow", f"tcp:127.0.0.1:{web.port}")
    near = server.client("client", "--target", "server", "--forward", f"0=tcp:127.0.0.1:{web.port}")
    server.policy.write_text("[clients.client]\nconect = []\n")
    server.role.wait_for(r"policy.toml:2: clients.client.conect: not known .*connect")
    assert curl(f"http://{near.address('forward')}/file").status == 0
    server.policy.write_text(POLICY.replace('connect = ["server/tunnel", ', 'connect = ["'
        'nobody/tunnel", ').replace('"group:servers/tunnel"', ""))  # fmt: skip
    server.role.wait_for(r"session-end .*no rule for server/tunnel")
    near.wait_for("not-allowed")


def test_the_revoked_are_cut_with_their_sessions(
    processes: Processes, tmp_path: Path, web: WebServer
) -> None:
    identities = Identities.create(tmp_path / "own")
    identities("client")
    server = start_server(processes, identities, "--crl", identities.revoked)
    # The list is at the server only: otherwise the far end may be the one that cuts.
    server.client("server", "--allow", f"tcp:127.0.0.1:{web.port}", "--no-crl")
    forward = ("--forward", f"0=tcp:127.0.0.1:{web.port}")
    near = server.client("client", "--target", "server", *forward, "--no-crl")
    identities.revoke("client")
    server.role.wait_for("client has been revoked: cut")
    server.role.wait_for("session-end .*revoked")
    near.wait_for("trying again")


def test_a_login_instead_of_a_certificate_that_the_server_knows(
    processes: Processes, identities: Identities, tmp_path: Path, web: WebServer
) -> None:
    """The client has a certificate for the other client; for the server it has a password."""
    secrets = tmp_path / "logins"
    secrets.write_text("# who may log in\nclient:correct horse\n")
    mine = tmp_path / "mine"
    mine.write_text("correct horse\n")
    for path in (secrets, mine):
        path.chmod(0o600)
    server = start_server(processes, identities, "--login-file", secrets)
    digest = web.add("file", 1000)
    server.client("server", "--allow", f"tcp:127.0.0.1:{web.port}")
    near = server.client(
        "client", "--login", "client", "--login-file", mine, "--target", "server",
        "--forward", f"0=tcp:127.0.0.1:{web.port}",
    )  # fmt: skip
    assert curl(f"http://{near.address('forward')}/file").sha256 == digest
    mine.write_text("wrong\n")
    wrong = server.client(
        "client", "--login", "client", "--login-file", mine, "--target", "server",
        "--socks", "0", wait=False,
    )  # fmt: skip
    wrong.wait_for("the login is wrong")


def test_the_central_log_has_each_session_twice_with_one_id(
    processes: Processes, identities: Identities, tmp_path: Path, web: WebServer
) -> None:
    log = tmp_path / "access.log"
    server = start_server(processes, identities, "--log", log)
    server.client("server", "--allow", f"tcp:127.0.0.1:{web.port}")
    near = server.client("client", "--target", "server", "--socks", "0")
    near.process.stop()
    server.role.wait_for("session-end")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    opened, ended = (
        [line for line in lines if line["event"] == event]
        for event in ("session-open", "session-end")
    )
    assert [line["id"] for line in opened] == [line["id"] for line in ended]
    assert ended[0]["who"] == "client"
    assert ended[0]["peer"] == "server"
    assert ended[0]["rule"] == 'clients.client connect "server/tunnel"'
    assert ended[0]["sent"] > 0
    # The other one answers the end in words of the channels, and may be quicker with its FIN.
    assert "left first" in ended[0]["outcome"]
    assert oct(log.stat().st_mode)[-3:] == "600"
    assert {line["event"] for line in lines} == {"decision", "session-open", "session-end"}


def test_a_server_that_comes_back_under_load_finds_its_clients_again(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    first = start_server(processes, identities)
    digest = web.add("file", 3 * MIB)
    far = first.client("server", "--allow", f"tcp:127.0.0.1:{web.port}")
    near = first.client("client", "--target", "server", "--forward", f"0=tcp:127.0.0.1:{web.port}")
    port = first.port
    fetched: list[Fetched] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            fetched.append(curl(f"http://{near.address('forward')}/file"))

    loads = [threading.Thread(target=load) for _ in range(3)]
    processes.on_end(stop.set)
    for thread in loads:
        thread.start()
    while not fetched:
        stop.wait(0.01)
    first.role.process.kill()
    far.wait_for("Not present at the server")
    before = len(near.process.lines)
    processes.role(
        "secure-proxy-server", "--listen", f"127.0.0.1:{port}", "--identity",
        identities(SERVER), "--policy", first.policy,
    )  # fmt: skip
    near.wait_for("with server is up", since=before)
    stop.set()
    for thread in loads:
        thread.join(60)
    assert curl(f"http://{near.address('forward')}/file").sha256 == digest
    # What was cut off was seen to be: nothing was taken for the whole file that is not.
    assert all(one.sha256 == digest for one in fetched if one.status == 0)


def test_the_page_of_the_one_port_that_needs_nobody(server: Communication) -> None:
    names = Names(server.port)
    healthy = curl("--insecure", f"https://127.0.0.1:{server.port}/healthz")
    assert (healthy.status, healthy.size) == (0, 3), healthy.said
    named = curl("--insecure", *names(SERVER), f"https://{SERVER}:{server.port}/healthz")
    assert named.status == 0
    other = curl("--insecure", *names(SERVER), "-H", "Host: other.example",
        f"https://{SERVER}:{server.port}/healthz")  # fmt: skip
    assert "421" in other.said
    head = subprocess.run(
        ["curl", "-sik", f"https://127.0.0.1:{server.port}/nothing"],
        capture_output=True, text=True, timeout=30,
    ).stdout.lower()  # fmt: skip
    assert "404" in head.splitlines()[0]
    for field in ("cache-control: no-store", "referrer-policy: no-referrer", "frame-ancestors"):
        assert field in head


def test_strangers_at_the_port(server: Communication) -> None:
    for data in (b"GET / HTTP/1.1\r\nHost: relay.example\r\n\r\n", b"SSH-2.0-x\r\n", bytes(64)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(data)
            try:
                assert sock.recv(100) == b""
            except ConnectionResetError:
                continue


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda words: [*words, "--policy", "none.toml"], "cannot be read"),
        (lambda words: [word for word in words if word != "--policy"][:4], "--policy is missing"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    change: Callable[[list[str]], list[str]],
    words: str,
    processes: Processes,
    identities: Identities,
) -> None:
    options = ["--listen", "127.0.0.1:0", "--identity", str(identities(SERVER))]
    role = processes.role("secure-proxy-server", *change(options), wait=False)
    role.wait_for(words)
    assert role.process.wait() == 2


def test_asking_a_running_server_and_its_policy(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    server = start_server(processes, identities, "--control", control)
    server.client("server", "--publish", "tunnel")
    server.client("client", "--target", "server", "--socks", "0")
    (session,) = tunnelkit("sessions", "--control", control, "--json").splitlines()
    assert json.loads(session)["who"] == "client"
    assert json.loads(session)["state"] == "joined"
    assert "event=session-open" in tunnelkit("log", "--control", control)
    assert "present" in tunnelkit("status", "--control", control)
    said = tunnelkit(
        "policy", "explain", "--policy", server.policy, "connect", "client", "server/tunnel"
    )
    assert said == 'allowed: clients.client connect "server/tunnel"\n'


def test_keys_init_leaves_an_example_of_a_policy(tmp_path: Path) -> None:
    tunnelkit("keys", "init", "--dir", tmp_path / "keys")
    said = (tmp_path / "keys" / "policy.toml").read_text()
    assert "# [clients.office]" in said
    (tmp_path / "more.toml").write_text(said + "[clients.office]\n")
    explained = tunnelkit(
        "policy", "explain", "--policy", tmp_path / "more.toml", "register", "office"
    )
    assert explained == "allowed: clients.office\n"


def test_limits_are_options(processes: Processes, identities: Identities) -> None:
    server = start_server(processes, identities, "--max-clients", 1, "--max-groups", 1)
    control = Client(server.port, SERVER, identities("server")).present("tunnel")
    second = Client(server.port, SERVER, identities("second")).connect("present")
    refused = second.expect("ERROR")
    assert (refused["code"], refused["reason"]) == ("limit", "too many clients")
    control.tls.sock.close()
    options = ("--listen", "127.0.0.1:0", "--identity", identities(SERVER))
    mistake = processes.role(
        "secure-proxy-server", *options, "--policy", server.policy, "--max-groups", 0, wait=False
    )
    assert mistake.process.wait(20) == 2
    mistake.wait_for("--max-groups 0: not possible: expected a whole number from 1 to 4096")
