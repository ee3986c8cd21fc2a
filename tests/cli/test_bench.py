"""``tunnelkit bench``: which of the running ends is meant, and what it says when none can be."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import test_keys
from tests.cli.test_keys import Capture


def mistake(capture: Capture, *argv: str) -> str:
    """What it says instead of measuring, without the end of the line."""
    return test_keys.mistake(capture, *argv).removesuffix("\n")


class Roles:
    """Control sockets in a directory where `tunnelkit status` looks, and who answers there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "tunnelkit"
        self.directory.mkdir(mode=0o700)
        self._listeners: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def start(self, role: str, **status: object) -> Path:
        """A role that says this of itself."""
        place = self.directory / f"{role}-{len(self._listeners)}.control"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(place))
        listener.listen()
        self._listeners.append(listener)
        answer = json.dumps({"role": role, **status}).encode()
        self._threads.append(threading.Thread(target=self._serve, args=(listener, answer)))
        self._threads[-1].start()
        return place

    def end(self, name: str, *peers: str, role: str = "lstp-client-end") -> Path:
        """An end, connected to these."""
        return self.start(role, name=name, tunnel="work", peers=peers, state="waiting")

    def _serve(self, listener: socket.socket, answer: bytes) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                asked = sock.makefile("rb").readline()
                sock.sendall(answer if asked == b"status\n" else b'{"error": "no such command"}\n')

    def close(self) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def roles(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Roles]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    # Roles of the machine that runs the tests are none of theirs.
    monkeypatch.setattr(
        "tunnelkit.cli.control_client.places",
        lambda _: sorted(map(str, (short_path / "tunnelkit").glob("*.control"))),
    )
    made = Roles(short_path)
    yield made
    made.close()


def test_where_no_end_runs_it_says_so(roles: Roles, capsys: Capture) -> None:
    expected = "tunnelkit: no end of a tunnel of this user is running here: expected one"
    assert mistake(capsys, "bench") == expected
    roles.start("lstp-middle", name="relay")
    assert mistake(capsys, "bench", "relay") == expected


def test_of_several_one_has_to_be_named(roles: Roles, capsys: Capture) -> None:
    roles.end("laptop", "office")
    roles.end("office", "laptop", role="lstp-server-end")
    said = mistake(capsys, "bench")
    assert said == (
        "tunnelkit: several ends are running here: expected NAME, one of laptop, office"
    )
    said = mistake(capsys, "bench", "desk")
    assert said == "tunnelkit: no end desk is running here: expected one of laptop, office"
    said = mistake(capsys, "bench", "work")
    assert said.startswith("tunnelkit: several ends are called work: expected --control /")


@pytest.mark.parametrize("words", [(), ("laptop",), ("work",), ("usher-portal",)])
def test_an_end_is_known_by_its_name_its_tunnel_and_its_role(
    roles: Roles, capsys: Capture, words: tuple[str, ...]
) -> None:
    roles.end("laptop", role="usher-portal")
    roles.start("lstp-middle", name="relay")
    said = mistake(capsys, "bench", *words)
    assert said == "tunnelkit: laptop has no tunnel: it is waiting: expected one that is up"


def test_why_the_tunnel_is_down_is_said(roles: Roles, capsys: Capture) -> None:
    roles.start("usher-portal", name="laptop", tunnel="", peers=[], last_error="no route")
    said = mistake(capsys, "bench")
    assert said == "tunnelkit: laptop has no tunnel: no route: expected one that is up"


def test_of_several_peers_one_has_to_be_named(roles: Roles, capsys: Capture) -> None:
    roles.end("gate", "laptop", "phone")
    said = mistake(capsys, "bench")
    assert said == ("tunnelkit: several are connected to gate: expected --peer, of laptop, phone")
    said = mistake(capsys, "bench", "--peer", "desk")
    assert said == "tunnelkit: --peer desk: not connected to gate: expected laptop, phone"


def test_an_end_that_does_not_know_how_says_so(roles: Roles, capsys: Capture) -> None:
    roles.end("laptop", "office")
    assert mistake(capsys, "bench") == "tunnelkit: office: no such command"


def test_what_is_no_end_cannot_be_measured(roles: Roles, capsys: Capture) -> None:
    place = roles.start("lstp-middle", name="relay")
    said = mistake(capsys, "bench", "--control", str(place))
    assert said == "tunnelkit: lstp-middle is no end of a tunnel: expected one"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seconds", "61"), "--seconds: expected 0.05 to 60"),
        (("--seconds", "nan"), "--seconds: expected 0.05 to 60"),
        (("--streams", "0"), "--streams: expected 1 to 32"),
        (("office", "--control", "x"), "--control: expected it or NAME, not both"),
    ],
)
def test_a_wrong_wish_is_one_line(capsys: Capture, words: tuple[str, ...], said: str) -> None:
    assert mistake(capsys, "bench", *words) == f"tunnelkit: {said}"
