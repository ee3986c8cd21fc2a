"""What somebody else's package adds: it is installed, and everything of it is there to be used."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.applications import Application, Received, echo, receive
from tests.acceptance.communication import SERVER, start_server
from tests.acceptance.processes import (
    TWISTD,
    Identities,
    Processes,
    free_port,
    tunnelkit,
)
from tests.acceptance.tunnels import Transport

PACKAGE = Path(__file__).resolve().parent / "elsewhere"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Environment = dict[str, str]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment of programs that have the package."""
    directory = tmp_path_factory.mktemp("elsewhere")
    source, installed = directory / "source", directory / "installed"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
    # Its channel protocol is the example's.
    shutil.copy(EXAMPLES / "custom_protocol.py", source / "elsewhere" / "frames.py")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--target", str(installed))
    done = subprocess.run(
        [*pip, "install", *options, str(source)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {"PYTHONPATH": str(installed)}


def run(environment: Environment, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def talk(port: int, say: bytes, hear: int) -> bytes:
    """The first ``hear`` bytes that somebody hears who connects there and says this."""
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(say)
        return receive(sock, hear)


# -- the front end --------------------------------------------------------


def test_a_front_end_is_in_the_help_of_ends_and_of_nothing_else(elsewhere: Environment) -> None:
    for role in ("lstp-client-end", "usher-portal"):
        shown = run(elsewhere, *TWISTD, role, "--help").stdout
        assert "--once PORT=DESTINATION a way there; repeatable" in " ".join(shown.split())
    assert "--once" not in run(elsewhere, *TWISTD, "lstp-middle", "--help").stdout


def test_a_front_end_carries_bytes_follows_a_reload_and_is_logged(
    transport: Transport, elsewhere: Environment, tmp_path: Path
) -> None:
    with Application(echo) as application:
        first, second = free_port(), free_port()
        file = tmp_path / "near.toml"
        lead = f'"{first}={application.destination}"'
        file.write_text(f"once = [{lead}]\n")
        tunnel = transport([application.destination], "--config", file, client_env=elsewhere)
        assert f"once 127.0.0.1:{first} to {application.destination}" in tunnel.client.ready
        assert talk(first, b"x", 1) == b"x"
        tunnel.client.wait_for(f"channel out peer=server destination={application.destination}")
        more = f'"{second}={application.destination}"'
        file.write_text(f"once = [{lead}, {more}]\n")
        tunnel.client.wait_for(f"Reloaded: opened once 127.0.0.1:{second} ")
        assert talk(second, b"y", 1) == b"y"
        file.write_text(f"once = [{lead}, {more}]\nonce-greeting = 'hi'\n")
        tunnel.client.wait_for("Reloaded: closed once .*opened once")
        assert talk(first, b"xyz", 5) == b"hixyz"
        file.write_text("onec = 1\n")
        tunnel.client.wait_for("key onec: not known .did you mean 'once'")


STRINGS = """
import sys
from twisted.internet.endpoints import clientFromString, quoteStringArgument
from twisted.internet.testing import MemoryReactorClock
words = ":".join(f"{w.partition('=')[0]}={quoteStringArgument(w.partition('=')[2])}"
                 for w in sys.argv[1:])
try:
    clientFromString(MemoryReactorClock(), "tunnel:service=x:" + words)
except Exception as error:
    print(error)
"""


def test_a_front_end_is_in_endpoint_strings(elsewhere: Environment, identities: Identities) -> None:
    end = ("gate=127.0.0.1:1", f"identity={identities('client')}", "peer=server")
    python = (sys.executable, "-c", STRINGS)
    assert run(elsewhere, *python, *end, "once=1=tcp:a:1", "onceGreeting=x").stdout == ""
    said = run(elsewhere, *python, *end, "once=tcp:a:1").stdout
    assert said == "tunnel: once: 'tcp:a:1': expected PORT=DESTINATION\n"
    said = run({}, *python, *end, "once=1=tcp:a:1").stdout
    assert said.startswith("tunnel: once: not known")


# -- the rendezvous and the channel protocol --------------------------------


def test_they_are_in_the_help_of_an_end_that_takes_any(elsewhere: Environment) -> None:
    shown = run(elsewhere, *TWISTD, "tunnel-end", "--help").stdout
    for option in ("--rendezvous ", "--protocol ", "--board ", "--board-keeper", "--once "):
        assert option in shown
    assert "--board" not in run({}, *TWISTD, "tunnel-end", "--help").stdout


@pytest.mark.parametrize("protocol", ["frames", "lstp", "usher"])
def test_any_protocol_over_the_rendezvous_carries_bytes_of_the_front_end(
    elsewhere: Environment,
    processes: Processes,
    identities: Identities,
    tmp_path: Path,
    protocol: str,
) -> None:
    port = free_port()
    with Application(echo) as application:
        common = ("--rendezvous", "board", "--board", tmp_path / "board", "--protocol", protocol)
        keeper = processes.role(
            "tunnel-end", *common, "--board-keeper", "--identity", identities("server"),
            "--peer", "client", "--allow", application.destination, env=elsewhere,
        )  # fmt: skip
        keeper.wait_for("Waiting at the board for tunnel board")
        visitor = processes.role(
            "tunnel-end", *common, "--identity", identities("client"), "--peer", "server",
            "--once", f"{port}={application.destination}", env=elsewhere,
        )  # fmt: skip
        assert talk(port, b"x", 1) == b"x"
        visitor.wait_for(f"channel out peer=server destination={application.destination}")
        keeper.wait_for(f"channel in peer=client destination={application.destination}")


@pytest.mark.parametrize("rendezvous", ["lstp", "usher", "secure-proxy"])
@pytest.mark.parametrize("protocol", ["frames", "lstp", "usher"])
def test_any_protocol_over_the_rendezvous_that_come_with_the_package(
    elsewhere: Environment,
    processes: Processes,
    identities: Identities,
    rendezvous: str,
    protocol: str,
) -> None:
    place = f"127.0.0.1:{free_port()}"
    near: tuple[object, ...] = ("--gate", place)
    far: tuple[object, ...] = ("--await", place)
    if rendezvous == "lstp":
        processes.role("lstp-middle", "--listen", place)
        near = ("--middle", place, "--tunnel", "any")
        far = (*near, "--serve")
    elif rendezvous == "secure-proxy":
        server = start_server(processes, identities)
        far = ("--server", f"127.0.0.1:{server.port}", "--server-name", SERVER)
        near = (*far, "--target", "server")
    common = ("--rendezvous", rendezvous, "--protocol", protocol)
    with Application(echo) as application:
        waiting = processes.role(
            "tunnel-end", *common, *far, "--identity", identities("server"), "--peer", "client",
            "--allow", application.destination, env=elsewhere,
        )  # fmt: skip
        if rendezvous == "secure-proxy":
            waiting.wait_for(f"Present at {SERVER}")
        client = processes.role(
            "tunnel-end", *common, *near, "--identity", identities("client"), "--peer", "server",
            "--forward", f"0={application.destination}", env=elsewhere,
        )  # fmt: skip
        assert talk(client.port("forward"), b"x", 1) == b"x"


def test_no_wide_rule_leads_to_the_port_where_the_others_come_in(
    processes: Processes, identities: Identities
) -> None:
    place = f"127.0.0.1:{free_port()}"
    common = ("tunnel-end", "--rendezvous", "usher", "--protocol", "lstp")
    waiting = processes.role(
        *common, "--await", place, "--identity", identities("server"), "--peer", "client",
        "--allow", "tcp:127.0.0.0/8:*",
    )  # fmt: skip
    client = processes.role(
        *common, "--gate", place, "--identity", identities("client"), "--peer", "server",
        "--forward", f"0=tcp:{place}",
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", client.port("forward")), 20) as sock:
        assert Received(sock).to_the_end() == "reset"
    waiting.wait_for("Not allowed: .* is a listener of this process")


@pytest.mark.parametrize(
    ("transport", "protocol"),
    [("lstp", "usher"), ("lstp", "frames"), ("usher", "lstp"), ("usher", "frames")],
    indirect=["transport"],
)
def test_the_protocol_is_chosen_by_name_at_ends_of_any_kind(
    transport: Transport, elsewhere: Environment, protocol: str
) -> None:
    with Application(echo) as application:
        tunnel = transport(
            [application.destination], "--protocol", protocol,
            "--forward", f"0={application.destination}",
            server=("--protocol", protocol), client_env=elsewhere, server_env=elsewhere,
        )  # fmt: skip
        assert talk(tunnel.client.port("forward"), b"x", 1) == b"x"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--rendezvous is missing: expected NAME of one (board, lstp, secure-proxy, usher)"),
        (["--rendezvous", "bord"], "--rendezvous: 'bord' is not installed (did you mean 'board'?)"),
        (["--rendezvous", "board"], "--protocol is missing: expected NAME of one (frames, lstp, "),
        (["--rendezvous", "board", "--protocol", "lstp"], "--board is missing: expected PATH of "),
        (["--rendezvous", "usher", "--protocol", "lstp"], "--gate is missing: expected HOST:PORT"),
        (
            ["--rendezvous", "usher", "--protocol", "lstp", "--gate", "a:1", "--await", "0"],
            "--gate a:1: this end is a gate itself: expected --gate or --await",
        ),
        (
            ["--rendezvous", "secure-proxy", "--protocol", "lstp"],
            "--server is missing: expected HOST:PORT of the server",
        ),
    ],
)
def test_what_is_missing_at_an_end_of_any_kind_is_named(
    elsewhere: Environment, words: list[str], said: str
) -> None:
    done = run(elsewhere, *TWISTD, "-n", "tunnel-end", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"twistd tunnel-end: {said}")


def test_an_end_is_present_at_the_server_only_while_it_wants_a_tunnel(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    server = start_server(processes, identities)
    control = tmp_path / "control"
    processes.role(
        "tunnel-end", "--rendezvous", "secure-proxy", "--protocol", "usher",
        "--server", f"127.0.0.1:{server.port}", "--server-name", SERVER, "--manual",
        "--control", control, "--identity", identities("server"), "--peer", "client",
        "--allow", "tcp:127.0.0.1:1",
    )  # fmt: skip
    for _ in range(2):
        since = len(server.role.process.lines)
        tunnelkit("connect", "--control", control)
        server.role.process.wait_for(
            "who=server action=publish what=tunnel allowed=True", since=since
        )
        tunnelkit("disconnect", "--control", control)
        server.role.process.wait_for(
            "server is not present any more: .*no tunnel is wanted", since=since
        )


def test_an_end_with_a_new_secret_meets_others_by_it(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    place = f"127.0.0.1:{free_port()}"
    processes.role("lstp-middle", "--listen", place)
    common = ("--rendezvous", "lstp", "--protocol", "usher", "--middle", place, "--tunnel", "any")
    other = Identities.create(tmp_path / "others")
    file = tmp_path / "server.pem"
    shutil.copy(identities("server"), file)
    with Application(echo) as application:
        end = processes.role(
            "tunnel-end", *common, "--serve", "--identity", file, "--peer", "client",
            "--allow", application.destination,
        )  # fmt: skip
        shutil.copy(other("server"), tmp_path / "new.pem")
        os.replace(tmp_path / "new.pem", file)
        end.wait_for("The rendezvous secret has changed")
        client = processes.role(
            "tunnel-end", *common, "--identity", other("client"), "--peer", "server",
            "--forward", f"0={application.destination}",
        )  # fmt: skip
        assert talk(client.port("forward"), b"x", 1) == b"x"


# -- the role -------------------------------------------------------------


def test_a_role_is_a_subcommand_with_everything_that_one_has(
    elsewhere: Environment, processes: Processes, tmp_path: Path
) -> None:
    assert re.search("elsewhere-word +Says a word", run(elsewhere, *TWISTD, "--help").stdout)
    shown = run(elsewhere, *TWISTD, "elsewhere-word", "--help").stdout
    for option in ("--at ", "--word ", "--config ", "--control ", "--status "):
        assert option in shown
    port, control, file = free_port(), tmp_path / "control", tmp_path / "word.toml"
    file.write_text('word = "one"\n')
    process = processes.start(
        "elsewhere-word", *TWISTD, "-n", "elsewhere-word", "--at", port,
        "--config", file, "--control", control, "--log-json", env=elsewhere,
    )  # fmt: skip
    process.wait_for('^{"time": .*reactor class')
    assert talk(port, b"", 3) == b"one"
    assert '"word": "one"' in tunnelkit("status", "--json", "--control", control)
    file.write_text('word = "two"\nat = 1\n')
    process.child.send_signal(signal.SIGHUP)
    process.wait_for("Reloaded: the word is two")
    assert talk(port, b"", 3) == b"two"
    assert process.stop() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--at is missing: expected PORT to say it at"),
        (["--at", "x"], "--at: 'x' is no port: expected a number"),
        (["--att", "1"], "--att is not an option (did you mean '--at'?)"),
    ],
)
def test_a_mistake_is_one_line_for_other_roles_too(
    elsewhere: Environment, words: list[str], said: str
) -> None:
    done = run(elsewhere, *TWISTD, "-n", "elsewhere-word", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"twistd elsewhere-word: {said}")
    assert done.stderr.count("\n") == 1
