"""DNS, the HTTP proxy, Ask and endpoint strings with the programs that people use them with."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from twisted.internet.testing import MemoryReactorClock

from tests.acceptance.processes import (
    Identities,
    Process,
    Processes,
    WebServer,
    curl,
)
from tests.acceptance.tunnels import RunningTunnel, Transport, meeting, start_gate
from tunnelkit.services.endpoint_strings import Ends

REPOSITORY = Path(__file__).resolve().parents[2]
MIB = 1 << 20


# -- DNS ------------------------------------------------------------------


class NameServer:
    """The far side's resolver."""

    def __init__(self, processes: Processes) -> None:
        env = {"PYTHONPATH": str(REPOSITORY)}
        command = (sys.executable, "-m", "tests.acceptance.dns_server")
        self._process: Process = processes.start("dns", *command, env=env)
        self.port = int(self._process.wait_for(r"LISTENING (\d+)")[1])

    def times_asked(self, name: str) -> int:
        return sum(line.startswith(f"ASKED {name} ") for line in self._process.lines)


def start_dns(
    processes: Processes, transport: Transport, listen: str = "0"
) -> tuple[RunningTunnel, NameServer]:
    names = NameServer(processes)
    far = ("--dns-server", f"127.0.0.1:{names.port}")
    return transport(["service:@dns"], "--dns", listen, server=far), names


def dig(tunnel: RunningTunnel, *words: str, at: str = "") -> str:
    host, _, port = tunnel.client.address("dns").rpartition(":")
    done = subprocess.run(
        ["dig", f"@{at or host}", "-p", port, "+tries=1", "+time=8", *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dig_is_answered_by_whichever_address_it_asks(
    processes: Processes, transport: Transport
) -> None:
    tunnel, _ = start_dns(processes, transport, "0.0.0.0:0")
    for address in ("127.0.0.1", "127.0.0.9"):
        assert dig(tunnel, "+short", "www.test", at=address) == "192.0.2.80\n"


def test_dig_is_answered_over_udp_and_tcp(processes: Processes, transport: Transport) -> None:
    tunnel, names = start_dns(processes, transport)
    assert dig(tunnel, "+short", "www.test") == "192.0.2.80\n"
    assert dig(tunnel, "+short", "+tcp", "www.test") == "192.0.2.80\n"
    assert dig(tunnel, "+short", "www.test", "AAAA") == "2001:db8::80\n"
    assert names.times_asked("www.test") == 2, "the second one was in the cache"
    again = dig(tunnel, "WwW.TeST")
    assert "WwW.TeST." in again
    assert names.times_asked("www.test") == 2
    ttl = re.search(r"^WwW\.TeST\.\s+(\d+)\s+IN\s+A", again, re.MULTILINE)
    assert ttl is not None
    assert 200 < int(ttl[1]) <= 300


def test_dig_asks_again_over_tcp_for_what_is_too_long(
    processes: Processes, transport: Transport
) -> None:
    tunnel, _ = start_dns(processes, transport)
    cut = dig(tunnel, "+ignore", "+bufsize=512", "long.test", "TXT")
    assert re.search(r"flags: [a-z ]*\btc\b", cut)
    whole = dig(tunnel, "+short", "+bufsize=512", "long.test", "TXT")
    assert len(whole.splitlines()) == 30


def test_records_that_nobody_knows_and_names_that_do_not_exist(
    processes: Processes, transport: Transport
) -> None:
    tunnel, names = start_dns(processes, transport)
    assert dig(tunnel, "+short", "odd.test", "TYPE65281") == "\\# 6 C0FF006F6464\n"
    assert "status: NXDOMAIN" in dig(tunnel, "nobody.test")
    for _ in range(2):
        empty = dig(tunnel, "www.test", "MX")
        assert "status: NOERROR" in empty
        assert "ANSWER: 0" in empty
    assert names.times_asked("www.test") == 1, "that there is none was in the cache"


def test_without_a_rule_for_it_nobody_is_asked(processes: Processes, transport: Transport) -> None:
    names = NameServer(processes)
    far = ("--dns-server", f"127.0.0.1:{names.port}")
    tunnel = transport(["service:web"], "--dns", "0", server=far)
    assert "status: SERVFAIL" in dig(tunnel, "www.test")
    assert names.times_asked("www.test") == 0


# -- HTTP proxy -----------------------------------------------------------


def test_curl_fetches_through_the_http_proxy(transport: Transport, web: WebServer) -> None:
    digest = web.add("file", 16 * MIB)
    target = f"127.0.0.1:{web.port}"
    tunnel = transport([f"tcp:{target}"], "--http-proxy", "0")
    proxy = ("--proxy", f"http://{tunnel.client.address('http-proxy')}")
    for way in ((), ("--proxytunnel",), ("--http1.0",), ("--proxytunnel", "--proxy1.0")):
        if way[-1:] == ("--proxy1.0",):
            words = ("--proxytunnel", "--proxy1.0", tunnel.client.address("http-proxy"))
        else:
            words = (*proxy, *way)
        fetched = curl(*words, f"http://{target}/file")
        assert (fetched.status, fetched.said) == (0, ""), words
        assert fetched.sha256 == digest
    twice = curl(*proxy, f"http://{target}/file", f"http://{target}/file")
    assert (twice.status, twice.size) == (0, 32 * MIB)


def test_curl_is_told_why_not(transport: Transport) -> None:
    tunnel = transport(["tcp:127.0.0.1:1", "tcp:*.invalid:80"], "--http-proxy", "0")
    proxy = ("--proxy", f"http://{tunnel.client.address('http-proxy')}")
    for url, status in (
        ("http://127.0.0.1:2/", 403),
        ("http://127.0.0.1:1/", 502),
        ("http://nobody.invalid/", 502),
    ):
        plain = curl(*proxy, url)
        assert plain.status == 22
        assert plain.said.endswith(str(status))
        through = curl(*proxy, "--proxytunnel", url)
        assert str(status) in through.said


def test_curl_logs_in(processes: Processes, transport: Transport, web: WebServer) -> None:
    digest = web.add("file", 1000)
    users = processes.directory / "users"
    users.write_text("me:secret\n")
    users.chmod(0o600)
    target = f"127.0.0.1:{web.port}"
    tunnel = transport([f"tcp:{target}"], "--http-proxy", "0", "--http-proxy-auth-file", users)
    proxy = ("--proxy", f"http://{tunnel.client.address('http-proxy')}")
    url = f"http://{target}/file"
    for way in ((), ("--proxytunnel",)):
        assert "407" in curl(*proxy, *way, url).said
        # In its own words: 'response code said error'.
        assert curl(*proxy, *way, "--proxy-user", "me:wrong", url).status in (22, 56)
        assert curl(*proxy, *way, "--proxy-user", "me:secret", url).sha256 == digest


# -- Ask ------------------------------------------------------------------


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, processes: Processes, *command: str) -> None:
        self._file, slave = pty.openpty()
        self._child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.seen = ""
        processes.on_end(self.close)

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def wait_for(self, text: str, limit: float = 15) -> None:
        """Fails if ``text`` is not shown in time."""
        deadline = time.monotonic() + limit
        while text not in self.seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._file], [], [], max(left, 0))
            assert ready, f"{text!r} is not in {self.seen!r}"
            try:
                self.seen += os.read(self._file, 65536).decode()
            except OSError:  # the terminal's way to say that the program has ended
                assert text in self.seen, f"{text!r} is not in {self.seen!r}"

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._file)


def test_telnet_is_asked_and_connected(
    processes: Processes, transport: Transport, web: WebServer
) -> None:
    web.add("file", 10)
    tunnel = transport([f"tcp:127.0.0.1:{web.port}"], "--ask", "0")
    host, _, port = tunnel.client.address("ask").rpartition(":")
    terminal = Terminal(processes, "telnet", host, port)
    terminal.wait_for("Where to? (host port) ")
    terminal.type("help\n")
    terminal.wait_for("quit           leave")
    terminal.type("127.0.0.1 1\n")
    terminal.wait_for("the far side does not allow that.\r\nWhere to? (host port) ")
    terminal.type(f"127.0.0.1 {web.port}\n")
    terminal.wait_for(f"Connected to tcp:127.0.0.1:{web.port}.")
    terminal.type("HEAD /file HTTP/1.0\n\n")
    terminal.wait_for(" 200 OK")
    terminal.wait_for("Connection closed by foreign host.")


def test_nc_may_say_everything_at_once(transport: Transport, web: WebServer) -> None:
    web.add("file", 10)
    tunnel = transport([f"tcp:127.0.0.1:{web.port}"], "--ask", "0")
    host, _, port = tunnel.client.address("ask").rpartition(":")
    done = subprocess.run(
        ["nc", "-N", host, port],
        input=f"127.0.0.1 {web.port}\nGET /file HTTP/1.0\r\n\r\n".encode(),
        capture_output=True,
        timeout=20,
    )
    assert b"Connected to " in done.stdout
    assert b" 200 OK\r\n" in done.stdout


# -- endpoint strings -----------------------------------------------------


def publish(processes: Processes, config: Path) -> None:
    """``twist web`` that listens for the service ``intranet`` with this configuration."""
    (processes.directory / "pages").mkdir()
    (processes.directory / "pages" / "index.html").write_text("from behind the firewall\n")
    processes.start(
        "twist",
        *(sys.executable, "-m", "twisted", "web", "--path", processes.directory / "pages"),
        *("--listen", f"tunnel:service=intranet:config={config}"),
        env={"PYTHONPATH": str(REPOSITORY)},
        ready="Starting factory|Waiting at the middle|READY",
    )


@pytest.mark.parametrize("kind", ["lstp", "usher"])
def test_twist_web_publishes_a_service_from_behind_a_firewall(
    processes: Processes, identities: Identities, kind: str
) -> None:
    config = processes.directory / "end.toml"
    own = f'identity = "{identities("server")}"\npeer = "client"\n'
    there = ("--identity", identities("client"), "--peer", "server")
    forward = ("--forward", "0=service:intranet")
    if kind == "lstp":
        middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
        place = middle.address("listening on")
        config.write_text(f'middle = "{place}"\ntunnel = "test"\n{own}')
        publish(processes, config)
        # It is ready once the tunnel is up.
        outside = processes.role("lstp-client-end", *meeting(middle), *there, *forward)
    else:
        outside = processes.role("usher-gate", "--listen", "127.0.0.1:0", *there, *forward)
        config.write_text(f'gate = "{outside.address("listening on")}"\n{own}')
        publish(processes, config)
        outside.wait_for("is up")
    done = subprocess.run(
        ["curl", "-s", "--noproxy", "*", f"http://{outside.address('forward')}/"],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.stdout == "from behind the firewall\n", done


def test_the_example_client_fetches_through_an_endpoint_string(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    (web.directory / "index.html").write_text("through the tunnel\n")
    gate = start_gate(processes, identities, [f"tcp:127.0.0.1:{web.port}"])
    place = gate.address("listening on").replace(":", "\\:")
    words = f"gate={place}:identity={identities('client')}:peer=server"
    done = subprocess.run(
        [
            *(sys.executable, REPOSITORY / "examples" / "endpoint_client.py"),
            f"tunnel:127.0.0.1:{web.port}:{words}",
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert done.stdout.endswith("\n\nthrough the tunnel\n"), done


def test_the_example_configuration_is_one(identities: Identities, tmp_path: Path) -> None:
    text = (REPOSITORY / "examples" / "published.toml").read_text()
    file = tmp_path / "published.toml"
    file.write_text(text.replace("inside.pem", str(identities("inside"))))
    name, _ = Ends(MemoryReactorClock()).settle({"config": str(file)}, "server-end")
    assert name.startswith("lstp-server-end ")
