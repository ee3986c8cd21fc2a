"""How roles begin and end: ready lines, mistakes told in one line, draining, logs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.acceptance.processes import TWISTD, Identities, Processes, WebServer, curl
from tests.acceptance.tunnels import start_client_end, start_server_end, start_tunnel

MIB = 1 << 20


def refused_start(directory: Path, *words: object, daemon: bool = False) -> str:
    """What a role that does not start says on stderr, without its prefix."""
    mode = [] if daemon else ["-n"]
    done = subprocess.run(
        [*TWISTD, *mode, *map(str, words)],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    prefix = f"twistd {words[0]}: "
    assert done.stderr.startswith(prefix)
    return done.stderr.removeprefix(prefix).strip()


@pytest.mark.parametrize("daemon", [False, True])
def test_a_taken_port_is_told_in_one_line(tmp_path: Path, daemon: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused_start(tmp_path, "lstp-middle", "--listen", place, daemon=daemon)
    assert said.startswith(f"cannot listen on {place}: it is in use")
    assert not (tmp_path / "twistd.log").exists()


def test_a_taken_front_end_port_is_told_in_one_line(tmp_path: Path, identities: Identities) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused_start(
            tmp_path, "lstp-client-end", "--middle", "127.0.0.1:1", "--tunnel", "t",
            "--identity", identities("client"), "--peer", "server", "--socks", place,
        )  # fmt: skip
    assert said.startswith(f"cannot listen on {place}: it is in use")


def test_an_identity_that_others_can_read_is_refused(
    tmp_path: Path, identities: Identities
) -> None:
    copy = tmp_path / "copy.pem"
    copy.write_bytes(identities("client").read_bytes())
    copy.chmod(0o644)
    said = refused_start(
        tmp_path, "lstp-client-end", "--middle", "127.0.0.1:1", "--tunnel", "t",
        "--identity", copy, "--peer", "server",
    )  # fmt: skip
    assert "chmod 600" in said


def test_a_configuration_file_is_as_good_as_options(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    digest = web.add("file", MIB)
    target = f"127.0.0.1:{web.port}"
    directory = processes.directory
    (directory / "middle.toml").write_text('listen = ["127.0.0.1:0"]\nname = "between"\n')
    middle = processes.role("lstp-middle", "--config", "middle.toml")
    for name, peer, more in (
        ("server", "client", f'allow = ["tcp:{target}"]\n'),
        ("client", "server", f'forward = "0=tcp:{target}"\nconnections = 2\n'),
    ):
        (directory / f"{name}.toml").write_text(
            f'middle = "{middle.address("listening on")}"\ntunnel = "from a file"\n'
            f'identity = "{identities(name)}"\npeer = ["{peer}"]\n{more}'
        )
    processes.role("lstp-server-end", "--config", "server.toml")
    client = processes.role("lstp-client-end", "--config", "client.toml")
    fetched = curl(f"http://{client.address('forward')}/file")
    assert fetched.sha256 == digest


@pytest.mark.parametrize("which", ["client", "server", "middle"])
def test_a_role_that_drains_finishes_what_is_open(
    processes: Processes, identities: Identities, which: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as application:
        target = f"tcp:127.0.0.1:{application.getsockname()[1]}"
        tunnel = start_tunnel(processes, identities, [target], "--forward", f"0={target}")
        entrance = ("127.0.0.1", tunnel.client.port("forward"))
        role = {"client": tunnel.client, "server": tunnel.server, "middle": tunnel.middle}[which]
        with socket.create_connection(entrance, timeout=10) as near:
            far, _ = application.accept()
            with far:
                far.settimeout(10)
                near.sendall(b"before")
                assert far.recv(100) == b"before"
                role.process.child.send_signal(signal.SIGTERM)
                role.wait_for("Ending")
                if which == "client":
                    began = time.monotonic()
                    with pytest.raises(ConnectionRefusedError):
                        socket.create_connection(entrance, timeout=10)
                    assert time.monotonic() - began < 0.5
                far.sendall(b"x" * MIB)
                far.shutdown(socket.SHUT_WR)
                assert len(read_all(near)) == MIB
                near.sendall(b"after")
                near.shutdown(socket.SHUT_WR)
                assert read_all(far) == b"after"
        if which == "middle":
            tunnel.client.process.stop()
        assert role.process.wait() == 0


def read_all(sock: socket.socket) -> bytes:
    """Everything until the clean end."""
    pieces = []
    while piece := sock.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def test_a_second_signal_ends_a_role_at_once(processes: Processes, identities: Identities) -> None:
    with socket.create_server(("127.0.0.1", 0)) as application:
        target = f"tcp:127.0.0.1:{application.getsockname()[1]}"
        tunnel = start_tunnel(processes, identities, [target], "--forward", f"0={target}")
        entrance = ("127.0.0.1", tunnel.client.port("forward"))
        with socket.create_connection(entrance, timeout=10):
            far, _ = application.accept()
            with far:
                tunnel.client.process.child.send_signal(signal.SIGTERM)
                tunnel.client.wait_for("Ending")
                tunnel.client.process.child.send_signal(signal.SIGTERM)
                assert tunnel.client.process.wait(5) == -signal.SIGTERM


@pytest.mark.parametrize("which", ["client", "middle"])
def test_what_is_open_has_as_long_as_grace_says(
    processes: Processes, identities: Identities, which: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as application:
        target = f"tcp:127.0.0.1:{application.getsockname()[1]}"
        grace = ("--grace", "1")
        middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0", *grace)
        start_server_end(processes, identities, middle, [target], *grace)
        client = start_client_end(processes, identities, middle, "--forward", f"0={target}", *grace)
        role = {"client": client, "middle": middle}[which]
        near = socket.create_connection(("127.0.0.1", client.port("forward")), timeout=10)
        with near, application.accept()[0]:
            # Far below the 30 s that it would be otherwise.
            assert role.process.stop(25) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_role_with_nothing_open_ends_with_status_0(
    processes: Processes, identities: Identities, number: int
) -> None:
    tunnel = start_tunnel(processes, identities, ["tcp:127.0.0.1:1"], "--socks", "0")
    for role in (tunnel.client, tunnel.server, tunnel.middle):
        began = time.monotonic()
        role.process.child.send_signal(number)
        assert role.process.wait() == 0
        assert time.monotonic() - began < 3


def test_json_lines(processes: Processes, identities: Identities, web: WebServer) -> None:
    web.add("file", MIB)
    target = f"tcp:127.0.0.1:{web.port}"
    tunnel = start_tunnel(
        processes, identities, [target], "--forward", f"0={target}", "--log-json"
    )  # fmt: skip
    curl(f"http://{tunnel.client.address('forward')}/file")
    tunnel.client.wait_for('"event": "channel"')
    tunnel.client.process.stop()
    events = [json.loads(line) for line in tunnel.client.process.lines]
    assert all({"time", "level", "module", "message"} <= set(event) for event in events)
    (channel,) = [event for event in events if event.get("event") == "channel"]
    assert channel["peer"] == "server"
    assert channel["destination"] == target
    assert channel["direction"] == "out"
    assert channel["received"] > MIB
    assert channel["outcome"] == "done"


def test_a_daemon_logs_to_its_file_and_ends_when_told(processes: Processes, tmp_path: Path) -> None:
    # A daemon is nobody's child: it is found by its pid file, and its log says what it did.
    pid_file, log = tmp_path / "middle.pid", tmp_path / "middle.log"
    command = [*TWISTD, f"--pidfile={pid_file}", f"--logfile={log}", "lstp-middle"]
    subprocess.run([*command, "--listen", "127.0.0.1:0"], check=True, timeout=20, cwd=tmp_path)
    pid = int(pid_file.read_text())
    follow = processes.start("log", "tail", "-n", "+1", "-F", log, ready="READY lstp-middle")
    os.kill(pid, signal.SIGTERM)
    follow.wait_for("Server Shut Down")
