"""Twelve ways of not meeting: each end says in a line what is wrong (row Q6).

What is expected stands in the table of the page, for people: each text between backticks in the
column of an end must be in what that end prints.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.acceptance.applications import Application
from tests.acceptance.clocks import another_clock
from tests.acceptance.processes import TUNNELKIT, Identities, Process, Processes, free_port
from tunnelkit.core.pairing.words import WORDS
from tunnelkit.policy.identity import Identity, identity_pem
from tunnelkit.policy.keys import Authority

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "not-meeting.md"
NOWHERE = "tcp:127.0.0.1:9"
CODE = r"The code is +(\S+)"
PATIENCE = 2.0
"""Seconds instead of 30, after which an end says that nobody comes."""


def table() -> dict[str, tuple[list[str], list[str]]]:
    """What is wrong, and the texts that the office and the laptop print."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    return {
        name: (re.findall("`([^`]+)`", office), re.findall("`([^`]+)`", laptop))
        for name, office, laptop in rows[2:]
    }


def _days_ago(days: float) -> datetime:
    return datetime.now(timezone.utc) - timedelta(days=days)


@attrs.frozen
class Scene:
    """Where one mistake is made."""

    processes: Processes
    middle: str
    """``HOST:PORT`` of one that runs."""
    authority: Authority = attrs.field(factory=lambda: Authority.create(now=_days_ago(60)))

    def file(self, name: str, *, ago: float = 0.0, days: float = 365) -> Path:
        """An identity that was issued ``ago`` days ago for so many days."""
        return self.write(self.authority.issue(name, days=days, now=_days_ago(ago)))

    def write(self, identity: Identity) -> Path:
        """It in a file."""
        path = self.processes.directory / f"{identity.name}.pem"
        path.write_bytes(identity_pem(identity))
        path.chmod(0o600)
        return path

    def office(self, **how: Any) -> Process:
        """The server end."""
        return self.end("server", "office", "laptop", "--allow", NOWHERE, **how)

    def laptop(self, *more: object, **how: Any) -> Process:
        """The client end."""
        return self.end("client", "laptop", "office", "--socks", "0", *more, **how)

    def end(
        self,
        role: str,
        name: str,
        peer: str,
        *more: object,
        middle: str = "",
        tunnel: str = "work",
        days_off: int = 0,
        identity: Path | None = None,
    ) -> Process:
        """One end, whose clock may be wrong by some days."""
        file = identity or self.processes.directory / f"{name}.pem"
        if not file.exists():
            self.file(name)
        env = {**another_clock(), "FAKETIME": f"{days_off:+}d"} if days_off else None
        return self.processes.start(
            name, *TUNNELKIT, role, "--middle", middle or self.middle, "--tunnel", tunnel,
            "--identity", file, "--peer", peer, *more, env=env,
        )  # fmt: skip


Ends = tuple[Process | None, Process | None]
Kind = Callable[[Scene], Ends]


def wrong_tunnel(scene: Scene) -> Ends:
    return scene.office(), scene.laptop(tunnel="home")


def wrong_ca(scene: Scene) -> Ends:
    office = scene.office()
    # With the same rendezvous secret: otherwise they would not even meet.
    secret = scene.authority.rendezvous_secret
    other = Authority.create(rendezvous_secret=secret)
    return office, scene.laptop(identity=scene.write(other.issue("laptop")))


def wrong_name(scene: Scene) -> Ends:
    return scene.end("server", "office", "phone", "--allow", NOWHERE), scene.laptop()


def role_twice(scene: Scene) -> Ends:
    office = scene.end("client", "office", "laptop", "--socks", "0")
    return office, scene.laptop()


def no_middle(scene: Scene) -> Ends:
    middle = f"127.0.0.1:{free_port()}"
    return scene.office(middle=middle), scene.laptop(middle=middle)


def answering(scene: Scene, answer: bytes) -> str:
    """``HOST:PORT`` of a server that says the same to everybody."""

    def talk(sock: socket.socket) -> None:
        sock.sendall(answer)
        while sock.recv(1000):
            pass

    server = Application(talk)
    server.__enter__()
    scene.processes.on_end(lambda: server.__exit__(None, None, None))
    return f"127.0.0.1:{server.port}"


def not_a_middle(scene: Scene) -> Ends:
    middle = answering(scene, b"SSH-2.0-OpenSSH_9.2\r\n")
    return scene.office(middle=middle), scene.laptop(middle=middle)


def proxy_refuses(scene: Scene) -> Ends:
    proxy = answering(scene, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    return scene.office(), scene.laptop("--via", f"http://{proxy}")


def clock(scene: Scene) -> Ends:
    scene.file("office", ago=30)
    return scene.office(days_off=-10), scene.laptop()


def expired(scene: Scene) -> Ends:
    # The laptop's clock stands still where its certificate was good: otherwise it would not start.
    file = scene.file("laptop", ago=20, days=15)
    scene.file("office", ago=20)
    return scene.office(), scene.laptop(days_off=-10, identity=file)


def revoked(scene: Scene) -> Ends:
    keys = Identities.create(scene.processes.directory / "keys")
    office, laptop = keys("office"), keys("laptop")
    keys.revoke("laptop")
    return (
        scene.office(identity=office),
        scene.laptop("--no-crl", identity=laptop),
    )


def nobody_there(scene: Scene) -> Ends:
    return None, scene.laptop()


def wrong_code(scene: Scene) -> Ends:
    there = ("--middle", scene.middle)

    def pair(name: str, *words: object) -> Process:
        command = (*TUNNELKIT, "pair", *there, "--name", name, "--dir", f"{name}-keys", *words)
        return scene.processes.start(name, *command)

    office = pair("office", "--allow", NOWHERE)
    number, *words = office.wait_for(CODE)[1].split("-")
    guess = next(word for word in WORDS if word not in words)
    return office, pair("laptop", "-".join([number, *words[:2], guess]))


KINDS: dict[str, Kind] = {
    "wrong tunnel": wrong_tunnel,
    "wrong CA": wrong_ca,
    "wrong name": wrong_name,
    "role twice": role_twice,
    "no middle": no_middle,
    "not a middle": not_a_middle,
    "proxy refuses": proxy_refuses,
    "clock": clock,
    "expired": expired,
    "revoked": revoked,
    "nobody there": nobody_there,
    "wrong code": wrong_code,
}


def test_the_page_has_each_kind() -> None:
    assert table().keys() == KINDS.keys()


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Processes(tmp_path_factory.mktemp("middle")) as running:
        role = running.role("lstp-middle", "--listen", "127.0.0.1:0")
        yield role.address("listening on")


@pytest.mark.parametrize("kind", KINDS)
def test_both_ends_say_what_is_wrong(
    kind: str, processes: Processes, middle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing else is made shorter; that it is 30 s otherwise is in tests/net/channels.
    (processes.directory / "sitecustomize.py").write_text(
        f"import tunnelkit.net.channels.progress as progress\nprogress.FIRST = {PATIENCE}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(processes.directory))
    ends = KINDS[kind](Scene(processes, middle))
    for process, texts in zip(ends, table()[kind], strict=True):
        assert (process is None) == (not texts)
        for text in texts:
            assert process is not None
            process.wait_for(re.escape(text), limit=60)
