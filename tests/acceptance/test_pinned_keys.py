"""Two ends without a CA that know each other by the fingerprints of their keys (K3)."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.acceptance.applications import Application, echo
from tests.acceptance.processes import Identities, Processes, Role, WebServer, curl, tunnelkit

KIB = 1 << 10


@attrs.frozen
class Alone:
    """A self-signed identity."""

    file: Path
    pin: str


class Ends:
    """Two ends over one transport, each told whom to trust."""

    def __init__(self, processes: Processes, transport: str, directory: Path) -> None:
        self._processes = processes
        self._transport = transport
        self._directory = directory
        self._place = ""

    def identity(self, name: str) -> Alone:
        """Make a self-signed identity; all share one rendezvous secret."""
        file = self._directory / f"{name}.pem"
        secret = self._directory / "secret.pem"
        tunnelkit("keys", "self", name, "--out", file, "--secret", secret)
        shown = tunnelkit("keys", "show", file)
        return Alone(file, re.findall(r"sha256:[0-9a-f]{64}", shown)[0])

    def far(self, *options: object) -> Role:
        """A server end with its middle, or a gate."""
        if self._transport == "lstp":
            middle = self._processes.role("lstp-middle", "--listen", "127.0.0.1:0")
            self._place = middle.address("listening on")
            meet = ("--middle", self._place, "--tunnel", "t")
            return self._processes.role("lstp-server-end", *meet, *options)
        gate = self._processes.role("usher-gate", "--listen", "127.0.0.1:0", *options)
        self._place = gate.address("listening on")
        return gate

    def near(self, *options: object, wait: bool = True) -> Role:
        """A client end, or a portal."""
        if self._transport == "lstp":
            options = ("--middle", self._place, "--tunnel", "t", *options)
            return self._processes.role("lstp-client-end", *options, wait=wait)
        return self._processes.role("usher-portal", "--gate", self._place, *options, wait=wait)


@pytest.fixture(params=["lstp", "usher"])
def ends(request: pytest.FixtureRequest, processes: Processes, tmp_path: Path) -> Ends:
    return Ends(processes, request.param, tmp_path)


@pytest.fixture
def server() -> Iterator[Application]:
    with Application(echo) as running:
        yield running


def trusting(identity: Alone | Path, *pins: str) -> list[object]:
    """The options of an end that trusts these keys."""
    file = identity.file if isinstance(identity, Alone) else identity
    return ["--identity", file, *(word for pin in pins for word in ("--peer-pin", pin))]


def test_ends_that_pin_each_other_need_no_ca(ends: Ends, web: WebServer) -> None:
    digest = web.add("file", 100 * KIB)
    target = f"tcp:127.0.0.1:{web.port}"
    laptop, office = ends.identity("laptop"), ends.identity("office")
    far = ends.far(*trusting(office, f"laptop={laptop.pin}"), "--allow", f"laptop={target}")
    near = ends.near(*trusting(laptop, office.pin), "--forward", f"0={target}")
    assert curl(f"http://{near.address('forward')}/file").sha256 == digest
    far.wait_for("peer=laptop")


def test_a_key_is_judged_by_its_own_name_whatever_its_certificate_says(
    ends: Ends, server: Application, tmp_path: Path
) -> None:
    """Bob's key in a certificate with Alice's name: he gets what Bob may have, and no more."""
    alice, office = ends.identity("alice"), ends.identity("office")
    file = tmp_path / "bob.pem"
    secret = ("--secret", tmp_path / "secret.pem")
    tunnelkit("keys", "self", "alice", "--out", file, *secret)
    bob = re.findall(r"sha256:[0-9a-f]{64}", tunnelkit("keys", "show", file))[0]
    far = ends.far(
        *trusting(office, f"alice={alice.pin}", f"bob={bob}"),
        *("--allow", f"alice={server.destination}", "--allow", "bob=tcp:127.0.0.1:9"),
    )
    near = ends.near(*trusting(file, office.pin), "--forward", f"0={server.destination}")
    far.wait_for("with bob is up")
    with socket.create_connection(("127.0.0.1", near.port("forward")), timeout=20) as sock:
        try:
            assert sock.recv(1) == b""
        except ConnectionError:
            pass
    far.wait_for("Not allowed: .*bob")


def test_a_key_that_is_not_pinned_is_told_in_one_line(ends: Ends, server: Application) -> None:
    laptop, office, other = (ends.identity(name) for name in ("laptop", "office", "other"))
    far = ends.far(*trusting(office, other.pin), "--allow", server.destination)
    ends.near(*trusting(laptop, office.pin), "--socks", "0", wait=False)
    line = far.wait_for("the key of laptop is not one of the pinned keys$")
    assert "Traceback" not in far.process.log
    assert line
    assert not any("is up" in line for line in far.process.lines)


def test_keys_are_pinned_and_withdrawn_while_an_end_runs(
    ends: Ends, server: Application, tmp_path: Path
) -> None:
    laptop, office, phone = (ends.identity(name) for name in ("laptop", "office", "phone"))
    config = tmp_path / "office.toml"

    def trust(*pins: str) -> None:
        config.write_text(f"peer-pin = {json.dumps(pins)}\n")

    trust(f"laptop={laptop.pin}")
    far = ends.far("--identity", office.file, "--config", config, "--allow", server.destination)
    forward = ("--forward", f"0={server.destination}")
    near = ends.near(*trusting(laptop, office.pin), *forward)
    with socket.create_connection(("127.0.0.1", near.port("forward")), timeout=20) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        trust(f"laptop={laptop.pin}", f"phone={phone.pin}")
        far.wait_for("Reloaded: keys pinned now: 2")
        sock.sendall(b"y")
        assert sock.recv(1) == b"y"
        trust(f"phone={phone.pin}")
        far.wait_for("The key of laptop is not pinned any more: cut")
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""
    far.wait_for("the key of laptop is not one of the pinned keys")
    near.process.stop()
    ends.near(*trusting(phone, office.pin), *forward)
    far.wait_for("with phone is up")


def test_the_end_that_dials_refuses_another_key(ends: Ends, server: Application) -> None:
    laptop, office, other = (ends.identity(name) for name in ("laptop", "office", "other"))
    far = ends.far(*trusting(office, laptop.pin), "--allow", server.destination)
    near = ends.near(*trusting(laptop, other.pin), "--socks", "0", wait=False)
    near.wait_for("the key of office is not one of the pinned keys")
    assert not any("is up" in line for line in near.process.lines + far.process.lines)


def test_an_identity_of_a_ca_can_be_pinned_by_name_of_its_key(
    ends: Ends, identities: Identities, server: Application
) -> None:
    """Several keys at one end, of a CA and without; the rendezvous is Usher's or one CA's."""
    laptop, office = identities("laptop"), identities("office")
    shown = (tunnelkit("keys", "show", file) for file in (laptop, office))
    pins = [re.findall(r"sha256:[0-9a-f]{64}", text)[0] for text in shown]
    ends.far(*trusting(office, pins[0], ends.identity("third").pin), "--allow", server.destination)
    near = ends.near(*trusting(laptop, pins[1]), "--socks", "0")
    near.wait_for(f"with {pins[1][:23]} is up")
