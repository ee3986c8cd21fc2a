"""Identities with a passphrase, asked for on a real terminal (row K6)."""

from __future__ import annotations

import base64
import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.processes import (
    TUNNELKIT,
    Identities,
    Processes,
    WebServer,
    curl,
    tunnelkit,
)
from tests.acceptance.tunnels import start_gate
from tunnelkit.cli.control_client import ask
from tunnelkit.errors import TunnelkitError
from tunnelkit.policy.identity import identity_pem, load_identity

LIMIT = 20.0


class Terminal:
    """A program with a terminal of its own, and what it has written there."""

    def __init__(self, *words: object) -> None:
        self._master, slave = pty.openpty()
        self.said = ""

        def take() -> None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [*TUNNELKIT, *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take,
        )
        os.close(slave)

    def wait_for(self, text: str) -> None:
        """Until it has been written; what is in front of it is forgotten."""
        deadline = time.monotonic() + LIMIT
        while text not in self.said:
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, f"no {text!r} in {self.said!r}"
            try:
                piece = os.read(self._master, 65536)
            except OSError:
                piece = b""
            assert piece, f"no {text!r} in {self.said!r}"
            self.said += piece.decode()
        _, _, self.said = self.said.partition(text)

    def answer(self, prompt: str, text: str) -> None:
        """Type a line behind a prompt; it is not to be seen."""
        self.wait_for(prompt)
        os.write(self._master, f"{text}\n".encode())

    def end(self) -> int:
        """Its exit status."""
        try:
            return self.process.wait(LIMIT)
        finally:
            os.close(self._master)


def typed(words: Sequence[object], *answers: tuple[str, str], then: str = "") -> int:
    terminal = Terminal(*words)
    for prompt, text in answers:
        terminal.answer(prompt, text)
    if then:
        terminal.wait_for(then)
    return terminal.end()


def test_a_portal_asks_for_its_passphrase_once_and_reads_its_settings_again_without(
    processes: Processes, identities: Identities, web: WebServer, tmp_path: Path
) -> None:
    digest = web.add("file", 10_000)
    own, stays = tmp_path / "own.pem", identities.directory
    new = [("New passphrase for locked: ", "open sesame"), ("The same again: ", "open sesame")]
    issue = ["keys", "issue", "locked", "--dir", stays, "--out", own, "--passphrase"]
    assert typed(issue, *new, then="issued locked") == 0
    assert b"ENCRYPTED PRIVATE KEY" in own.read_bytes()

    gate = start_gate(processes, identities, [f"tcp:127.0.0.1:{web.port}"], peers=("locked",))
    portal = [
        "portal", "--gate", gate.address("listening on"), "--identity", own, "--peer", "server",
        "--forward", f"0=tcp:127.0.0.1:{web.port}",
    ]  # fmt: skip
    alone = subprocess.run(
        [*TUNNELKIT, *map(str, portal)],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert alone.returncode == 2
    assert "encrypted with a passphrase, which nobody could bring" in alone.stderr
    assert alone.stderr.count("\n") == 1

    ask = f"Passphrase of identity {own}: "
    running = Terminal(*portal)
    try:
        running.answer(ask, "wrong")
        running.wait_for("That is not it.")
        running.answer(ask, "open sesame")
        running.wait_for("READY usher-portal: forward ")
        running.wait_for(" to ")
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("Reloaded: nothing new")
        # Changed: nobody can be asked now, and the old key goes on.
        own.write_bytes(own.read_bytes() + b"\n")
        running.wait_for("going on with the keys from before")
        assert "sesame" not in running.said
    finally:
        running.process.terminate()
        assert running.end() == 0
    assert curl(f"http://127.0.0.1:{web.port}/file").sha256 == digest


def test_an_end_without_a_terminal_waits_for_who_brings_its_passphrase(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    own, control = tmp_path / "own.pem", tmp_path / "control"
    secret = "canary-9c1d"
    new = [("New passphrase for sealed: ", secret), ("The same again: ", secret)]
    issue = ["keys", "issue", "sealed", "--dir", identities.directory, "--out", own, "--passphrase"]
    assert typed(issue, *new, then="issued sealed") == 0
    gate = start_gate(processes, identities, ["tcp:127.0.0.1:9"], peers=("sealed",))
    # In a session of its own there is no terminal.
    portal = processes.start(
        "portal", "setsid", "--wait", *TUNNELKIT, "portal", "--gate",
        gate.address("listening on"), "--identity", own, "--peer", "server", "--socks", "0",
        "--control", control,
    )  # fmt: skip
    portal.wait_for(f"LOCKED usher-portal: .*own.pem waits for its passphrase.*{control}")
    assert ask(str(control), "status")["state"] == "locked"
    prompt, connect = f"Passphrase of identity {own}: ", ["connect", "--control", control]
    assert typed(connect, (prompt, "wrong"), then="the passphrase is wrong") == 2
    assert typed(connect, (prompt, secret), then="d") == 0
    portal.wait_for("Tunnel usher with server is up")
    tunnelkit("disconnect", "--control", control)
    portal.wait_for("Locked: the key of identity")
    assert ask(str(control), "status")["locked"] == f"identity {own}"
    since = len(portal.lines)
    assert typed(connect, (prompt, secret), then="d") == 0
    portal.wait_for("Tunnel usher with server is up", since=since)
    assert secret not in "".join([*portal.lines, str(ask(str(control), "status"))])


@pytest.mark.parametrize(
    "options",
    [
        ("gate", "--listen", "127.0.0.1:0"),
        ("secure-proxy-client", "--server", "127.0.0.1:9"),
    ],
    ids=lambda options: options[0],
)
def test_guesses_at_the_passphrase_of_any_end_are_few(
    options: tuple[str, ...], processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    own, control = tmp_path / "own.pem", tmp_path / "control"
    own.touch(mode=0o600)
    own.write_bytes(identity_pem(load_identity(identities("server")), b"open sesame"))
    role = processes.start(
        "role", "setsid", "--wait", *TUNNELKIT, *options, "--identity", own, "--peer", "client",
        "--allow", "tcp:127.0.0.1:9", "--control", control, ready="LOCKED",
    )  # fmt: skip
    for _ in range(3):
        with pytest.raises(TunnelkitError, match="passphrase is wrong"):
            ask(str(control), f"unlock {base64.b64encode(b'guess').decode()}")
    with pytest.raises(TunnelkitError, match="too many wrong passphrases"):
        ask(str(control), f"unlock {base64.b64encode(b'open sesame').decode()}")
    assert ask(str(control), "status")["state"] == "locked"
    assert role.stop() == 0


def test_a_ca_with_a_passphrase_asks_for_it_whenever_it_signs(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    init = ["keys", "init", "--dir", keys, "--passphrase"]
    again = ("The same again: ", "one")
    assert typed(init, ("New passphrase for the CA: ", "one"), ("again: ", "two")) == 2
    assert not (keys / "ca.pem").exists()
    assert typed(init, ("New passphrase for the CA: ", "one"), again) == 0
    ask = f"Passphrase of CA {keys / 'ca.pem'}: "
    issue = ["keys", "issue", "alice", "--dir", keys]
    assert typed(issue, (ask, "one"), then="issued alice") == 0
    assert typed(["keys", "issue", "bob", "--dir", keys], *[(ask, "no")] * 3, then="wrong") == 2
    assert not (keys / "bob.pem").exists()
    secret = ["keys", "renew", "alice", "--dir", keys, "--rendezvous-secret"]
    assert typed(secret, (ask, "one"), then="renewed alice") == 0
    assert b"ENCRYPTED PRIVATE KEY" in (keys / "ca.pem").read_bytes()
    assert b"ENCRYPTED" not in (keys / "alice.pem").read_bytes()
