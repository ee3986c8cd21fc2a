"""A role that cannot run as it is told says so: one line, status 2, at once (R13, X22)."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs
import pytest

from tests.acceptance.processes import TWISTD, Identities, Processes, free_port
from tunnelkit.policy.identity import identity_pem
from tunnelkit.policy.keys import Authority

LIMIT = 2.0
"""Seconds of processor time, which other programs do not add to; half of one is usual."""

Words = list[object]


@attrs.frozen
class Place:
    """What mistakes can be made with."""

    directory: Path
    identity: Path

    def file(self, name: str, text: str | bytes, mode: int = 0o600) -> Path:
        """A new file."""
        path = self.directory / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    def client(self, *words: object, without: str = "", **changed: object) -> Words:
        """A client end's command line that would do, but for what is said."""
        options: dict[str, object] = {
            "middle": "127.0.0.1:9",
            "tunnel": "t",
            "identity": self.identity,
            "peer": "server",
            **changed,
        }
        options.pop(without, None)
        pairs = [word for name, value in options.items() for word in (f"--{name}", value)]
        return ["lstp-client-end", *pairs, *words]

    def server(self, *words: object) -> Words:
        """A server end's, without any rule."""
        return ["lstp-server-end", *self.client(*words)[1:]]


@pytest.fixture
def place(tmp_path: Path, identities: Identities) -> Place:
    return Place(tmp_path, identities("client"))


def expired(place: Place) -> Path:
    """An identity whose certificate has had its time."""
    past = datetime.now(timezone.utc) - timedelta(days=30)
    identity = Authority.create().issue("client", days=1, now=past)
    return place.file("expired.pem", identity_pem(identity))


MISTAKES: dict[str, tuple[Callable[[Place], Words], str]] = {
    "option unknown": (lambda p: p.client("--frobnicate", "1"), "--frobnicate is not an option"),
    "option unknown, a like one": (lambda p: p.client("--sockz", "1080"), "did you mean '--socks'"),
    "option without its value": (lambda p: p.client("--socks"), "--socks has no value"),
    "no middle": (lambda p: p.client(without="middle"), "--middle is missing"),
    "no peer": (lambda p: p.client(without="peer"), "--peer is missing"),
    "no port at the middle": (lambda p: p.client(middle="127.0.0.1"), "--middle"),
    "forward to nowhere": (lambda p: p.client("--forward", "0"), "--forward"),
    "connections not a number": (lambda p: p.client("--connections", "two"), "--connections"),
    "no rule": (lambda p: p.server(), "--allow is missing"),
    "publication without a time": (
        lambda p: p.server("--publish", "web=127.0.0.1:80,until=soon"),
        "--publish: publish 'web=127.0.0.1:80,until=soon': 'soon' is not a time",
    ),
    "publication given twice": (
        lambda p: p.server("--publish", "web=127.0.0.1:80", "--publish", "web=127.0.0.1:81"),
        "--publish: the service web is published twice",
    ),
    "rule that is none": (lambda p: p.server("--allow", "everything"), "--allow"),
    "nothing to do": (lambda p: p.client(), "this end would be of no use: expected a port here"),
    "both without a rule": (lambda p: p.client("--both"), "--allow is missing"),
    "listen without a port": (lambda p: ["lstp-middle", "--listen", "127.0.0.1"], "--listen"),
    "address of another machine": (
        lambda p: ["lstp-middle", "--listen", "192.0.2.1:0"],
        "cannot listen on 192.0.2.1:0",
    ),
    "identity that is not there": (
        lambda p: p.client(identity=p.directory / "none.pem"),
        "none.pem",
    ),
    "identity that others can read": (
        lambda p: p.client(identity=p.file("open.pem", p.identity.read_bytes(), 0o644)),
        "chmod 600",
    ),
    "identity that is cut off": (
        lambda p: p.client(identity=p.file("half.pem", p.identity.read_bytes()[:500])),
        "half.pem",
    ),
    "identity that has expired": (lambda p: p.client(identity=expired(p)), "expired"),
    "revocation list that is something else": (
        lambda p: p.client("--crl", p.file("else.crl", "hello\n")),
        "else.crl",
    ),
    "configuration key unknown": (
        lambda p: p.client("--config", p.file("a.toml", '\nsock = "1080"\n')),
        "a.toml:2: key sock: not known",
    ),
    "configuration that is not TOML": (
        lambda p: p.client("--config", p.file("b.toml", "socks = \n")),
        "b.toml:1",
    ),
    "configuration value of a wrong kind": (
        lambda p: p.client("--config", p.file("c.toml", "\n\nsocks = [[1]]\n")),
        "c.toml:3",
    ),
    "token file that is empty": (
        lambda p: ["lstp-middle", "--listen", "127.0.0.1:0", "--admission-token-file",
                   p.file("token", "")],
        "--admission-token-file",
    ),
}  # fmt: skip


def processor_time() -> float:
    """What all programs that this one started, and that have ended, have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(place: Place, mistake: str) -> None:
    make, said = MISTAKES[mistake]
    words = make(place)
    began = processor_time()
    done = subprocess.run(
        [*TWISTD, "-n", *map(str, words)],
        cwd=place.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert processor_time() - began < LIMIT
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"twistd {words[0]}: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_middle_that_is_not_there_is_tried_again_and_named(
    processes: Processes, identities: Identities
) -> None:
    place = f"127.0.0.1:{free_port()}"
    client = processes.role(
        "lstp-client-end", "--middle", place, "--tunnel", "t",
        "--identity", identities("client"), "--peer", "server", "--socks", "0", wait=False,
    )  # fmt: skip
    for _ in range(2):
        seen = len(client.process.lines)
        client.wait_for(rf"cannot reach the middle {place}: .*trying again in", since=seen)
    assert client.process.stop() == 0


def test_a_middle_whose_name_does_not_resolve_is_tried_again_and_named(
    processes: Processes, identities: Identities
) -> None:
    client = processes.role(
        "lstp-client-end", "--middle", "nobody.invalid:7000", "--tunnel", "t",
        "--identity", identities("client"), "--peer", "server", "--socks", "0", wait=False,
    )  # fmt: skip
    client.wait_for("cannot reach the middle nobody.invalid:7000: .*trying again in")
    assert client.process.stop() == 0
