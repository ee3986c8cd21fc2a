"""SIGHUP and changed files: what can change does, and nothing that is open is lost (O3, R9)."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.applications import Application, echo, expected, receive, wait_until
from tests.acceptance.processes import (
    Identities,
    Processes,
    Role,
    WebServer,
    curl,
    free_port,
    tunnelkit,
)
from tests.acceptance.tunnels import (
    Transport,
    meeting,
    start_client_end,
    start_server_end,
    start_tunnel,
)

PUMPS, RELOADS = 50, 20
ANOTHER_RULE = "tcp:192.0.2.1:9"


class Settings:
    """A configuration file, and the running role that has been told to read it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **settings: object) -> Settings:
        """Replace the file; TOML writes text, numbers and lists as JSON does."""
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)
        return self

    def reload(self, role: Role, pattern: str, **settings: object) -> str:
        """Replace the file, send SIGHUP, and wait for the log line that matches."""
        since = len(role.process.lines)
        self.write(**settings)
        hang_up(role)
        return role.wait_for(pattern, since=since)[0]


def hang_up(role: Role) -> None:
    """Tell a role to read its settings again."""
    role.process.child.send_signal(signal.SIGHUP)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "end.toml")


@pytest.fixture
def server() -> Iterator[Application]:
    with Application(echo) as running:
        yield running


class Connection:
    """A connection to an echo server that stays open."""

    def __init__(self, stack: ExitStack, address: str | int) -> None:
        host, _, port = str(address).rpartition(":")
        self._sock = socket.create_connection((host or "127.0.0.1", int(port)), timeout=20)
        stack.enter_context(self._sock)

    def works(self) -> bool:
        """Whether what is sent comes back."""
        try:
            self._sock.sendall(b"are you there?")
            return receive(self._sock, 14) == b"are you there?"
        except (OSError, AssertionError):
            return False


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


def is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_ports_open_and_close_while_channels_go_on(
    transport: Transport, settings: Settings, server: Application, stack: ExitStack
) -> None:
    goes, stays, comes = free_port(), free_port(), free_port()
    forwards = {port: f"{port}={server.destination}" for port in (goes, stays, comes)}
    settings.write(forward=[forwards[goes], forwards[stays]])
    tunnel = transport([server.destination], "--config", settings.path)
    opened = [Connection(stack, goes), Connection(stack, stays)]
    assert all(connection.works() for connection in opened)
    line = settings.reload(
        tunnel.client, "Reloaded: .*", forward=[forwards[stays], forwards[comes]]
    )
    # A client of a Communication Server says whom it asks for besides.
    where = f" to {server.destination}"
    assert line.replace(" at server", "").endswith(
        f"closed forward 127.0.0.1:{goes}{where}; opened forward 127.0.0.1:{comes}{where}"
    )
    assert is_closed(goes)
    opened += [Connection(stack, comes), Connection(stack, stays)]
    assert all(connection.works() for connection in opened)


def test_a_port_leads_elsewhere_after_a_reload(
    transport: Transport, settings: Settings, server: Application, stack: ExitStack
) -> None:
    port = free_port()
    nowhere = f"tcp:127.0.0.1:{free_port()}"
    settings.write(forward=[f"{port}={nowhere}"])
    tunnel = transport([server.destination, nowhere], "--config", settings.path)
    assert not Connection(stack, port).works()
    settings.reload(tunnel.client, "Reloaded: closed", forward=[f"{port}={server.destination}"])
    assert Connection(stack, port).works()


def test_a_name_means_something_else_after_a_reload(
    transport: Transport, settings: Settings, server: Application, stack: ExitStack
) -> None:
    allow = [server.destination]
    settings.write(allow=allow, map=["other.corp.example:7=tcp:127.0.0.1:9"])
    tunnel = transport(
        [], "--forward", "0=db.corp.example:7", server=("--config", settings.path)
    )  # fmt: skip
    port = tunnel.client.address("forward")
    assert not Connection(stack, port).works()
    maps = [f"*.corp.example:7={server.destination}"]
    settings.reload(tunnel.server, "Reloaded: .*maps now in force: 1", allow=allow, map=maps)
    assert Connection(stack, port).works()
    settings.reload(tunnel.server, "Reloaded: .*maps now in force: 0", allow=allow)
    assert not Connection(stack, port).works()


def test_a_withdrawn_rule_refuses_new_channels_while_open_ones_go_on(
    transport: Transport, settings: Settings, server: Application, stack: ExitStack
) -> None:
    with Application(echo) as other:
        settings.write(allow=[server.destination, other.destination])
        tunnel = transport(
            [], "--forward", f"0={server.destination}", "--forward", f"0={other.destination}",
            server=("--config", settings.path),
        )  # fmt: skip
        keeps, loses = (tunnel.client.address("forward", number) for number in (0, 1))
        opened = [Connection(stack, keeps), Connection(stack, loses)]
        assert all(connection.works() for connection in opened)
        settings.reload(
            tunnel.server, "Reloaded: rules now in force: 1", allow=[server.destination]
        )
        assert not Connection(stack, loses).works()
        tunnel.server.wait_for("no rule allows client to connect")
        assert Connection(stack, keeps).works()
        assert all(connection.works() for connection in opened)
        settings.reload(
            tunnel.server,
            "Reloaded: rules now in force: 2",
            allow=[server.destination, other.destination],
        )
        assert Connection(stack, loses).works()


def test_a_changed_file_is_taken_over_without_a_signal(
    transport: Transport, settings: Settings, server: Application, stack: ExitStack
) -> None:
    settings.write(allow=[ANOTHER_RULE])
    tunnel = transport(
        [], "--forward", f"0={server.destination}", server=("--config", settings.path)
    )
    assert not Connection(stack, tunnel.client.address("forward")).works()
    settings.write(allow=[server.destination])
    tunnel.server.wait_for("Reloaded: rules now in force: 1")
    assert Connection(stack, tunnel.client.address("forward")).works()


def test_every_kind_of_front_end_opens_and_closes(
    transport: Transport, settings: Settings, server: Application
) -> None:
    kinds = ("ask", "dns", "http-proxy", "socks")
    settings.write(allow=[ANOTHER_RULE])
    tunnel = transport([server.destination], "--config", settings.path)
    ports = {kind: free_port() for kind in kinds}
    said = settings.reload(tunnel.client, "Reloaded: .*", **ports)
    assert said.count("opened ") == len(kinds)
    assert not any(is_closed(port) for port in ports.values())
    said = settings.reload(tunnel.client, "Reloaded: closed .*")
    assert said.count("closed ") == len(kinds)
    assert all(is_closed(port) for port in ports.values())
    said = settings.reload(tunnel.client, "Reloaded: opened .*", **ports)
    assert said.count("opened ") == len(kinds)


def test_logins_change_with_their_file(
    transport: Transport, settings: Settings, web: WebServer, tmp_path: Path
) -> None:
    digest = web.add("file", 1000)
    users = tmp_path / "users"
    users.touch(mode=0o600)
    users.write_text("me:old\n")
    port = free_port()
    tunnel = transport(
        [f"tcp:127.0.0.1:{web.port}"], "--http-proxy", port, "--http-proxy-auth-file", users
    )
    url = f"http://127.0.0.1:{web.port}/file"
    proxy = ("--proxy", f"http://127.0.0.1:{port}", "--proxy-user")
    assert curl(*proxy, "me:old", url).sha256 == digest
    users.write_text("me:new\n")
    hang_up(tunnel.client)
    tunnel.client.wait_for("Reloaded: closed .*opened ")
    assert curl(*proxy, "me:old", url).status != 0
    assert curl(*proxy, "me:new", url).sha256 == digest


def test_ports_at_the_far_side_open_and_close_too(
    transport: Transport, settings: Settings, server: Application, stack: ExitStack
) -> None:
    port = free_port()
    settings.write(socks=0)
    tunnel = transport([f"listen:127.0.0.1:{port}"], "--config", settings.path)
    opened = f"Listening on 127.0.0.1:{port} for client"
    settings.reload(
        tunnel.client, "Reloaded: opened reverse", socks=0,
        reverse=[f"127.0.0.1:{port}={server.destination}"],
    )  # fmt: skip
    tunnel.server.wait_for(opened)
    connection = Connection(stack, port)
    assert connection.works()
    settings.reload(tunnel.client, "Reloaded: closed reverse", socks=0)
    assert wait_until(lambda: is_closed(port))
    assert connection.works()


class Pump:
    """Sends a stream through an echo server until told to stop, comparing what comes back."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._sock = socket.create_connection((host, int(port)), timeout=20)
        self._enough = threading.Event()
        self.size = 0
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._sock:
                while not self._enough.is_set():
                    piece = expected(self.size, 1 << 14)
                    self._sock.sendall(piece)
                    assert receive(self._sock, len(piece)) == piece, "another answer"
                    self.size += len(piece)
                self._sock.shutdown(socket.SHUT_WR)
                assert self._sock.recv(1) == b""
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        """Finish cleanly."""
        self._enough.set()
        self._thread.join()


def test_transfers_survive_reloads_of_both_ends_and_broken_files(
    transport: Transport, tmp_path: Path, server: Application
) -> None:
    near, far = Settings(tmp_path / "near.toml"), Settings(tmp_path / "far.toml")
    forward = f"{free_port()}={server.destination}"
    near.write(forward=[forward])
    far.write(allow=[server.destination])
    tunnel = transport([], "--config", near.path, server=("--config", far.path))
    pumps = [Pump(tunnel.client.address("forward")) for _ in range(PUMPS)]
    try:
        for number in range(RELOADS):
            port = free_port()
            near.reload(tunnel.client, f"Reloaded: .*opened forward 127.0.0.1:{port} ",
                        forward=[forward, f"{port}={server.destination}"])  # fmt: skip
            rules = [server.destination, *[ANOTHER_RULE] * (1 + number)]
            far.reload(tunnel.server, f"Reloaded: rules now in force: {len(rules)}", allow=rules)
            line = near.reload(tunnel.client, "Not reloaded.*", forward=[forward, "0=nowhere"])
            assert "near.toml:1: key forward, entry 2: " in line
            line = far.reload(tunnel.server, "Not reloaded.*", alow=[])
            assert "far.toml:1: key alow: not known (did you mean 'allow'?)" in line
            assert not is_closed(port)
    finally:
        for pump in pumps:
            pump.stop()
    assert [pump.error for pump in pumps] == [None] * PUMPS
    assert all(pump.size for pump in pumps)


def test_a_taken_port_leaves_everything_as_it_was(
    transport: Transport, settings: Settings, server: Application, stack: ExitStack
) -> None:
    port = free_port()
    settings.write(forward=[f"{port}={server.destination}"])
    tunnel = transport([server.destination], "--config", settings.path)
    line = settings.reload(
        tunnel.client, "Not reloaded.*", forward=[f"{server.port}={server.destination}"]
    )
    assert f"127.0.0.1:{server.port}" in line
    assert Connection(stack, port).works()


def test_what_needs_a_restart_is_told_and_the_rest_is_taken_over(
    transport: Transport, settings: Settings, server: Application, stack: ExitStack
) -> None:
    settings.write(allow=[ANOTHER_RULE])
    tunnel = transport(
        [], "--forward", f"0={server.destination}", server=("--config", settings.path)
    )
    settings.write(**{"allow": [server.destination], "max-channels": 7, "peer": "somebody"})
    hang_up(tunnel.server)
    tunnel.server.wait_for("Reloaded: rules now in force: 1")
    told = [line for line in tunnel.server.process.lines if line.endswith("needs a restart")]
    # The peer was named on the command line, which wins.
    assert len(told) == 1
    assert "end.toml:2: key max-channels: has changed" in told[0]
    assert Connection(stack, tunnel.client.address("forward")).works()


def test_a_middle_takes_over_its_admission_token(
    processes: Processes, identities: Identities, server: Application, tmp_path: Path
) -> None:
    def token(name: str, text: str) -> Path:
        file = tmp_path / name
        file.touch(mode=0o600)
        file.write_text(f"{text}\n")
        return file

    old, new, used = token("old", "abc"), token("new", "xyz"), token("used", "abc")
    middle = processes.role(
        "lstp-middle", "--listen", "127.0.0.1:0", "--admission-token-file", used
    )
    option = "--admission-token-file"
    start_server_end(processes, identities, middle, [server.destination], option, old)
    token("used", "xyz")
    hang_up(middle)
    middle.wait_for("Reloaded: another admission token")
    late = start_client_end(processes, identities, middle, "--socks", "0", option, old, wait=False)
    late.wait_for("no valid admission token")
    late.process.stop()
    # The server end was admitted before, and still waits.
    start_client_end(processes, identities, middle, "--socks", "0", option, new)


def test_a_middle_takes_over_whom_it_admits(
    processes: Processes, identities: Identities, settings: Settings, server: Application
) -> None:
    settings.write(listen=["127.0.0.1:0"])
    middle = processes.role("lstp-middle", "--config", settings.path)
    start_server_end(processes, identities, middle, [server.destination])
    settings.reload(
        middle, "Reloaded: ends are admitted from 192.0.2.0/24", listen=["127.0.0.1:0"],
        admit=["192.0.2.0/24"],
    )  # fmt: skip
    client = start_client_end(processes, identities, middle, "--socks", "0", wait=False)
    client.wait_for("trying again")
    middle.wait_for("Turned away 127.0.0.1: not in an admitted network")


def test_an_end_that_waits_goes_by_a_new_rendezvous_secret(
    processes: Processes, tmp_path: Path, server: Application
) -> None:
    identities = Identities.create(tmp_path / "keys")
    tunnel = start_tunnel(
        processes, identities, [server.destination], "--forward", f"0={server.destination}"
    )
    with ExitStack() as stack:
        opened = Connection(stack, tunnel.client.address("forward"))
        tunnelkit("keys", "renew", "server", "--rendezvous-secret", "--dir", identities.directory)
        tunnel.server.wait_for("The rendezvous secret has changed")
        tunnelkit("keys", "renew", "client", "--dir", identities.directory)
        tunnel.client.wait_for("The rendezvous secret has changed")
        assert opened.works()
        processes.role(
            "lstp-client-end", *meeting(tunnel.middle), "--identity", identities("client"),
            "--peer", "server", "--socks", "0",
        )  # fmt: skip
        assert opened.works()
