"""No secret is in a log, a status, a metric, an audit record or an error (rows O12, X13)."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.applications import Application
from tests.acceptance.communication import start_server
from tests.acceptance.processes import (
    TUNNELKIT,
    Identities,
    Processes,
    Role,
    curl,
    tunnelkit,
)
from tests.acceptance.real_proxies import Proxies
from tests.acceptance.wtls import MAP_KEY, private_file, start_domain
from tunnelkit.cli.control_client import ask
from tunnelkit.errors import TunnelkitError
from tunnelkit.policy.identity import identity_pem, load_identity

CANARY = "canary-5e1f"
"""In every secret that somebody chooses."""
ORIGIN = "bank.example=https://127.0.0.1:9"
BLOCK = re.compile(r"-----BEGIN (PRIVATE KEY|TUNNELKIT RENDEZVOUS SECRET)-----\n(.*?)-----", re.S)


class Secrets:
    """Files with secrets of our own; what is secret in identities."""

    def __init__(self, directory: Path, identities: Identities) -> None:
        self._directory = directory
        self._identities = identities

    def file(self, name: str, line: str) -> Path:
        """A file with ``line``, whose ``*`` is the canary."""
        path = self._directory / name
        path.touch(mode=0o600)
        path.write_text(f"{line.replace('*', f'{CANARY}-{name}')}\n")
        return path

    @property
    def all(self) -> set[str]:
        """No line of these may be seen anywhere."""
        found = {CANARY}
        for file in self._identities.directory.glob("*.pem"):
            for _, lines in BLOCK.findall(file.read_text()):
                found.update(line for line in lines.split() if len(line) > 20)
        assert len(found) > 5, "the blocks of identities"
        return found


@pytest.fixture
def secrets(tmp_path: Path, identities: Identities) -> Secrets:
    return Secrets(tmp_path, identities)


def shown_by(role: Role, control: Path, status: Path) -> str:
    """What a role tells who asks, and what it has logged."""
    told = [tunnelkit("status", "--control", control)]
    for path in ("status.json", "metrics", "channels", ""):
        url = f"http://localhost/{path}"
        command = ["curl", "--silent", "--unix-socket", str(status), url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert done.stdout, path
        told.append(done.stdout)
    return "\n".join([*told, *role.process.lines])


def answer(sock: socket.socket) -> None:
    """What a web server says to any request."""
    if sock.recv(10_000):
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nx")


def test_no_secret_of_a_tunnel_is_to_be_seen(
    processes: Processes,
    identities: Identities,
    secrets: Secrets,
    tmp_path: Path,
) -> None:
    token = secrets.file("token", "*")
    proxy = Proxies(processes).microsocks("-u", "me", "-P", f"{CANARY}-proxy")
    middle = processes.role(
        "lstp-middle", "--listen", "127.0.0.1:0", "--admission-token-file", token
    )
    meet = ("--middle", middle.address("listening on"), "--tunnel", "test")
    control, status, audit = (tmp_path / name for name in ("control", "status", "audit"))
    client = (
        *("lstp-client-end", *meet, "--identity", identities("client"), "--peer", "server"),
        *("--via", f"socks5://me@127.0.0.1:{proxy}"),
    )  # fmt: skip
    admitted = ("--admission-token-file", token)
    with Application(answer) as web:
        server = processes.role(
            "lstp-server-end", *meet, *admitted, "--identity", identities("server"),
            "--peer", "client", "--allow", web.destination, "--log-json",
        )  # fmt: skip
        near = processes.role(
            *client, *admitted, "--via-password-file", secrets.file("proxy", "*"),
            "--socks", "0", "--socks-auth-file", secrets.file("socks", "me:*"),
            "--http-proxy", "0", "--http-proxy-auth-file", secrets.file("http", "me:*"),
            "--control", control, "--status", f"unix:{status}", "--audit", audit,
        )  # fmt: skip
        place, url = web.destination.removeprefix("tcp:"), f"it:{CANARY}-url"
        socks, http = near.address("socks"), near.address("http-proxy")
        for word, done in ((f"{CANARY}-socks", 0), (f"{CANARY}-other", 97)):
            way = ("--proxy-user", f"me:{word}", "--socks5-hostname", socks)
            assert curl(*way, f"http://{place}/").status == done
        by_http = ("--proxy", f"http://{http}", "--proxy-user")
        assert curl(*by_http, f"me:{CANARY}-http", f"http://{url}@{place}/").status == 0
        assert curl(*by_http, f"me:{CANARY}-other", f"http://{url}@{place}/").status != 0
    refused = [
        processes.role(*client, *more, "--socks", "0", wait=False)
        for more in (
            (*admitted, "--via-password-file", secrets.file("wrong", "*")),
            ("--admission-token-file", secrets.file("stranger", "*"),
             "--via-password-file", tmp_path / "proxy"),
        )
    ]  # fmt: skip
    for role, words in zip(refused, ("user name and password", "not admitted|token"), strict=True):
        role.wait_for(f"({words}).*trying again")
    everything = shown_by(near, control, status) + audit.read_text()
    for role in (middle, server, *refused):
        everything += "\n".join(role.process.lines)
    assert "me" in everything
    assert [secret for secret in secrets.all if secret in everything] == []


def test_no_login_is_to_be_seen_at_a_communication_server(
    processes: Processes, identities: Identities, secrets: Secrets, tmp_path: Path
) -> None:
    logins = secrets.file("logins", "client:*")
    control, status = tmp_path / "control", tmp_path / "status"
    server = start_server(
        processes, identities, "--login-file", logins, "--control", control,
        "--status", f"unix:{status}",
    )  # fmt: skip
    login = ("--login", "client", "--target", "server", "--socks", "0", "--login-file")
    right = tmp_path / "right"
    right.touch(mode=0o600)
    right.write_text(f"{CANARY}-logins\n")
    good = server.client("client", *login, right, wait=False)
    good.wait_for("not-present")
    wrong = server.client("client", *login, secrets.file("wrong", "*"), wait=False)
    wrong.wait_for("the login is wrong")
    everything = shown_by(server.role, control, status)
    everything += "\n".join([*good.process.lines, *wrong.process.lines])
    assert [secret for secret in secrets.all if secret in everything] == []


def test_neither_passphrase_nor_token_is_to_be_seen_where_somebody_brings_them(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    """Right ones, and wrong ones."""
    own, token, control, audit = (tmp_path / name for name in ("own", "token", "control", "audit"))
    passphrase = f"{CANARY}-passphrase"
    own.touch(mode=0o600)
    own.write_bytes(identity_pem(load_identity(identities("server")), passphrase.encode()))
    # A session of its own has no terminal on which it could ask.
    gate = processes.start(
        "gate", "setsid", "--wait", *TUNNELKIT, "gate", "--listen", "127.0.0.1:0",
        "--identity", own, "--peer", "client", "--allow", "tcp:127.0.0.1:9",
        "--control", control, "--audit", audit,
        "--status", "127.0.0.1:0", "--status-token-file", token, ready="LOCKED",
    )  # fmt: skip
    place = gate.wait_for(r"Status at http://(\S+)/")[1]
    told = []
    for word in ("guess", "passphrase"):
        said = base64.b64encode(f"{CANARY}-{word}".encode()).decode()
        try:
            told.append(str(ask(str(control), f"unlock {said}")))
        except TunnelkitError as error:
            told.append(str(error))
    gate.wait_for("READY")
    for word in (f"{CANARY}-token", token.read_text().strip()):
        for path in ("status.json", "metrics", "channels", f"channels?filter={word}", word):
            command = ["curl", "--silent", "-H", f"Authorization: Bearer {word}"]
            asked = [*command, f"http://{place}/{path}"]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
            assert done.stdout, path
            if "filter" not in path:
                told.append(done.stdout)
    told += [tunnelkit("status", "--control", control), audit.read_text(), *gate.lines]
    secrets = (CANARY, token.read_text().strip(), said)
    assert [secret for secret in secrets if secret in "\n".join(told)] == []
    assert gate.stop() == 0


def test_no_key_of_mappings_is_to_be_seen(processes: Processes, tmp_path: Path) -> None:
    control, status = tmp_path / "control", tmp_path / "status"
    options = ("--control", control, "--status", f"unix:{status}")
    domain = start_domain(processes, ORIGIN, options=options)
    assert MAP_KEY not in shown_by(domain.proxy, control, status).lower()
    wrong = private_file(tmp_path, "wrong.key", MAP_KEY[:-3] + "xyz")
    words = ("--listen", "127.0.0.1:0", "--origin", ORIGIN, "--map-key-file", wrong)
    identity = ("--identity", tmp_path / "domain" / "door.pem")
    role = processes.role("wtls-domain-proxy", *words, *identity, wait=False)
    assert role.process.wait(20) == 2
    role.wait_for("wrong.key")
    assert MAP_KEY[:16] not in "\n".join(role.process.lines)


@pytest.mark.parametrize(
    "words",
    [
        ("--via", "socks5://me:*@127.0.0.1:1"),
        ("--via", "http://me:*@:x"),
        ("--via", "ftp://me:*@127.0.0.1:1"),
        ("--config", "FILE"),
    ],
)
def test_no_password_is_in_the_line_about_a_mistake(
    processes: Processes, identities: Identities, tmp_path: Path, words: tuple[str, str]
) -> None:
    file = tmp_path / "end.toml"
    file.write_text(f'via = "http://me:{CANARY}@nowhere:99999"\n')
    option, value = words
    value = value.replace("*", CANARY).replace("FILE", str(file))
    role = processes.role(
        "usher-portal", "--gate", "127.0.0.1:1", "--identity", identities("client"),
        "--peer", "server", "--socks", "0", option, value, wait=False,
    )  # fmt: skip
    assert role.process.wait(20) == 2
    role.wait_for("via")
    assert CANARY not in "\n".join(role.process.lines)
