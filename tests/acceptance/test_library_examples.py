"""The examples of docs/howto/library.md work as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.acceptance.communication import SERVER, start_server
from tests.acceptance.processes import (
    Identities,
    Process,
    Processes,
    Role,
    WebServer,
    curl,
    free_port,
)
from tests.acceptance.tunnels import start_gate
from tests.acceptance.udp_servers import UdpServer, reversed_bytes
from tests.acceptance.x11 import XServer, free_display

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(
    example: str, *options: object, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / example), *map(str, options)],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_protocol_of_ones_own_runs_over_a_secured_connection() -> None:
    done = run("custom_protocol.py")
    assert (done.returncode, done.stdout) == (0, "hello, gate through example/1\n"), done.stderr
    assert done.stderr == ""


def test_the_protocol_of_ones_own_is_a_short_one() -> None:
    text = (EXAMPLES / "custom_protocol.py").read_text()
    protocol, _, rest = text.partition("# -- at work")
    assert rest
    imports = [line for line in protocol.splitlines() if line.startswith(("from ", "import "))]
    assert protocol.count("\n") - len(imports) <= 100


def test_a_program_that_speaks_usher_itself(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    (web.directory / "page.txt").write_text("from the inside")
    target = f"tcp:127.0.0.1:{web.port}"
    gate = start_gate(processes, identities, [target])
    place = gate.address("listening on")
    fetched = run("usherfied.py", place, identities("client"), "server", target, "/page.txt")
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.endswith("from the inside")
    gate.wait_for("channel in peer=client")

    refused = run("usherfied.py", place, identities("client"), "server", "tcp:127.0.0.1:9", "/")
    assert refused.returncode == 1
    assert "ChannelRefused" in refused.stderr


def start(processes: Processes, example: str, *options: object) -> Process:
    """Run an example that goes on until it is told to end."""
    return processes.start(example, sys.executable, EXAMPLES / example, *options)


def test_a_site_behind_a_firewall_fetched_by_an_agent_and_at_a_forwarded_port(
    processes: Processes, identities: Identities, web: WebServer, middle: Role
) -> None:
    (web.directory / "page.txt").write_text("from the wiki")
    place = middle.address("listening on")
    site = start(processes, "lstp_server.py", place, identities("server"), "client", web.directory)
    site.wait_for("the wiki is published")
    forward = start(
        processes, "lstp_forward.py", place, identities("client"), "server", "0=service:wiki"
    )
    port = forward.wait_for(r"forwarding forward 127\.0\.0\.1:(\d+)")[1]
    assert curl(f"http://127.0.0.1:{port}/page.txt").status == 0

    fetched = run("lstp_end.py", place, identities("client"), "server", "service:wiki", "/page.txt")
    assert (fetched.returncode, fetched.stdout) == (0, "from the wiki\n"), fetched.stderr
    assert site.stop() == 0


def test_treq_fetches_what_the_url_names_at_the_far_side(
    processes: Processes, identities: Identities, web: WebServer, middle: Role
) -> None:
    (web.directory / "page.txt").write_text("from the inside")
    place = middle.address("listening on")
    processes.role(
        "lstp-server-end", "--middle", place, "--tunnel", "office", "--identity",
        identities("server"), "--peer", "client", "--allow", f"tcp:localhost:{web.port}@127.0.0.1",
    )  # fmt: skip
    url = f"http://localhost:{web.port}/page.txt"
    fetched = run("treq_client.py", place, identities("client"), "server", url)
    assert (fetched.returncode, fetched.stdout) == (0, "from the inside\n"), fetched.stderr


def test_a_gate_and_a_portal_in_programs(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    (web.directory / "page.txt").write_text("from the inside")
    target = f"tcp:127.0.0.1:{web.port}"
    gate = start(processes, "usher_gate.py", "127.0.0.1:0", identities("server"), "client", target)
    place = gate.wait_for(r"waiting at listening on (\S+)")[1]
    portal = start(
        processes, "usher_portal.py", place, identities("client"), "server", f"0={target}"
    )
    port = portal.wait_for(r"forwarding forward 127\.0\.0\.1:(\d+)")[1]
    gate.wait_for("in came client")
    assert curl(f"http://127.0.0.1:{port}/page.txt").status == 0


def test_a_program_says_why_its_tunnel_is_down(identities: Identities) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    tried = run("usher_portal.py", nobody, identities("client"), "server", "0=tcp:127.0.0.1:9")
    assert tried.returncode == 1
    assert f"no tunnel: cannot reach the gate {nobody}: " in tried.stderr
    assert "refused" in tried.stderr


def test_socks_and_http_proxy_without_a_tunnel(processes: Processes, web: WebServer) -> None:
    name = web.add("big.bin", 3_000_000)
    alone = start(processes, "socks_alone.py", 0, 0, 0, f"tcp:127.0.0.1:{web.port}")
    url = f"http://127.0.0.1:{web.port}/big.bin"
    socks = alone.wait_for(r"socks (127\.0\.0\.1:\d+)")[1]
    proxy = alone.wait_for(r"http-proxy (127\.0\.0\.1:\d+)")[1]
    for way in (
        ("--socks4", socks),
        ("--socks4a", socks),
        ("--socks5", socks),
        ("--socks5-hostname", socks),
        ("--proxy", f"http://{proxy}"),
        ("--proxytunnel", "--proxy", f"http://{proxy}"),
    ):
        fetched = curl(*way, url)
        assert fetched.sha256 == name, way
    other = curl("--socks5", socks, f"http://127.0.0.1:{free_port()}/")
    assert other.status == 97
    assert alone.stop() == 0


def test_a_datagram_through_a_tunnel(
    processes: Processes, identities: Identities, middle: Role
) -> None:
    server = UdpServer(reversed_bytes)
    processes.on_end(server.close)
    place = middle.address("listening on")
    processes.role(
        "lstp-server-end", "--middle", place, "--tunnel", "office", "--identity",
        identities("server"), "--peer", "client", "--allow", f"udp:127.0.0.1:{server.port}",
    )  # fmt: skip
    words = (place, identities("client"), "server", "127.0.0.1")
    sent = run("udp_through_tunnel.py", *words, server.port, "hello")
    assert (sent.returncode, sent.stdout) == (0, "olleh\n"), sent.stderr


def test_the_conformance_checks_of_a_protocol_of_ones_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "own_conformance.py"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout


def test_two_ends_pair_by_a_code_in_a_program(processes: Processes) -> None:
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    host, _, port = middle.address("listening on").rpartition(":")
    done = run("pair_both.py", host, port)
    assert (done.returncode, done.stdout) == (
        0,
        "laptop knows office, tunnel work, which allows tcp:10.1.2.3:22\noffice knows laptop\n",
    ), done.stderr


def test_examples_are_small() -> None:
    long = {"custom_protocol.py", "own_front_end.py", "own_rendezvous.py", "usherfied.py"}
    sizes = {file.name: file.read_text().count("\n") for file in EXAMPLES.glob("*.py")}
    assert {name for name, size in sizes.items() if size >= 60} <= long


def test_every_member_of_a_group_and_those_that_are_not_there(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    (web.directory / "page.txt").write_text("from the wiki")
    target = f"tcp:127.0.0.1:{web.port}"
    server = start_server(processes, identities)
    for name in ("server", "second"):
        server.client(name, "--allow", target).wait_for("Present at relay.example")
    server.role.wait_for("who=server action=publish what=tunnel allowed=True")
    server.role.wait_for("who=second action=publish what=tunnel allowed=True")

    def ask(members: str) -> list[str]:
        place = (f"127.0.0.1:{server.port}", SERVER, identities("client"))
        asked = run("group_members.py", *place, "servers", members, target, "/page.txt")
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.splitlines()

    assert ask("server,second,third") == [
        "second: from the wiki",
        "server: from the wiki",
        "third: no tunnel: not present in the group",
    ]
    # Nobody is called whom the program does not name, whatever the server says.
    assert ask("second") == [
        "second: from the wiki",
        "server: no tunnel: not named as peer",
    ]


def test_a_rendezvous_of_ones_own(processes: Processes, identities: Identities) -> None:
    path = processes.directory / "meet"
    words = ("own_rendezvous.py", path, identities("server"), "client", "inside")
    inside = start(processes, *words)
    inside.wait_for("ready")
    for _ in range(2):
        asked = run("own_rendezvous.py", path, identities("client"), "server", "outside")
        assert asked.returncode == 0, asked.stderr
        assert re.fullmatch(r"ready\n\d\d:\d\d\n", asked.stdout)


def test_a_window_at_the_far_side(
    processes: Processes, identities: Identities, middle: Role, tmp_path: Path
) -> None:
    real = XServer(processes, "-noreset").display
    place = middle.address("listening on")
    processes.role(
        "lstp-server-end", "--middle", place, "--tunnel", "office", "--identity",
        identities("server"), "--peer", "client", "--allow", f"x11::{real.number}",
        env={"XAUTHORITY": str(real.authority)},
    )  # fmt: skip
    words = (place, identities("client"), "server", free_display(), "xdpyinfo")
    shown = run("x11_display.py", *words, env={"XAUTHORITY": str(tmp_path / "authority")})
    assert shown.returncode == 0, shown.stderr
    assert "The X.Org Foundation" in shown.stdout
