"""X programs here, shown on an X server there, through a whole tunnel (rows F3, L6; rule X20)."""

from __future__ import annotations

import functools
import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.applications import receive
from tests.acceptance.processes import Identities, Processes
from tests.acceptance.test_roles_start_and_stop import refused_start
from tests.acceptance.tunnels import Transport
from tests.acceptance.x11 import (
    Display,
    Show,
    XServer,
    free_display,
    program,
    show_display,
)
from tunnelkit.policy.xauthority import AuthorityFile, local_places

HIDDEN_EXTENSION = b"MIT-SHM"
GET_INPUT_FOCUS, INTERN_ATOM, GET_ATOM_NAME, QUERY_EXTENSION = 43, 16, 17, 98


@pytest.fixture
def show(processes: Processes, transport: Transport) -> Show:
    """Starts a tunnel that shows a display; the test runs once over each transport."""
    return functools.partial(show_display, processes, transport)


@pytest.fixture
def x_server(processes: Processes) -> XServer:
    """An X server that does not start over when its last client leaves."""
    return XServer(processes, "-noreset")


def facts(display: Display) -> list[str]:
    """What xdpyinfo says, but for the display's name and what the focus happens to be."""
    lines = display.run("xdpyinfo").splitlines()
    return [line for line in lines if not line.startswith(("name of display:", "focus:"))]


@pytest.mark.parametrize("reverse", [False, True])
def test_xdpyinfo_sees_the_far_display_by_unix_socket_and_by_tcp(
    show: Show, x_server: XServer, reverse: bool
) -> None:
    real = x_server.display
    shown = show(f"x11::{real.number}", reverse=reverse, far={"XAUTHORITY": str(real.authority)})
    expected = facts(real)
    assert len(expected) > 50
    for display in (shown.display, shown.display.via("127.0.0.1"), shown.display.via("localhost")):
        assert facts(display) == expected


def test_an_x_server_that_starts_over_after_each_client(show: Show, processes: Processes) -> None:
    real = XServer(processes).display
    shown = show(f"x11::{real.number}", far={"XAUTHORITY": str(real.authority)}).display
    for _ in range(10):
        assert "X.Org" in shown.run("xdpyinfo")


@pytest.mark.parametrize(
    ("allow", "to", "said"),
    [
        ("x11:127.0.0.1:{n}", "=127.0.0.1:{n}", ""),
        ("x11::*", "=:{n}", ""),
        ("x11::*", "", "{n}"),
        ("x11:localhost:*@127.0.0.0/8,[::1]", "", "localhost:{n}.0"),
    ],
)
def test_which_display_there_may_be_said_here_or_by_display_there(
    show: Show, x_server: XServer, allow: str, to: str, said: str
) -> None:
    real = x_server.display
    number = real.number
    environment = {"XAUTHORITY": str(real.authority), "DISPLAY": ":7999"}
    if said:
        environment["DISPLAY"] = said.format(n=number) if ":" in said else f":{number}"
    shown = show(allow.format(n=number), to=to.format(n=number), far=environment).display
    assert facts(shown) == facts(real)


def test_what_programs_draw_through_the_tunnel_is_the_same_to_the_last_pixel(
    show: Show, x_server: XServer, processes: Processes
) -> None:
    real = x_server.display
    shown = show(f"x11::{real.number}", far={"XAUTHORITY": str(real.authority)}).display
    nothing = real.screenshot("nothing")
    expected = draw(processes, real, real, "directly", None)
    assert difference(expected, nothing) > 30_000
    draw(processes, shown, real, "by-unix-socket", expected)
    draw(processes, shown.via("127.0.0.1"), real, "by-tcp", expected)


def draw(
    processes: Processes, display: Display, real: Display, name: str, expected: Path | None
) -> Path:
    """A screenshot of some programs on ``display``, which has to be the ``expected`` one; also
    compares it with a screenshot taken through ``display`` itself."""
    environment = display.environment
    # The title is changed behind the text.
    text = r"for n in 1 2 3 4 5 6; do echo line $n; done; printf '\033]0;written\007'; read wait"
    running = [
        processes.start(
            "xterm", program("xterm"), "-geometry", "40x10+10+10", "-e", "sh", "-c", text,
            env=environment,
        ),
        processes.start("xeyes", program("xeyes"), "-geometry", "150x100+400+10", env=environment),
        processes.start(
            "xclock", program("xclock"), "-digital", "-strftime", "a fixed time",
            "-geometry", "200x60+400+200", env=environment,
        ),
    ]  # fmt: skip
    real.wait_for_windows("written", "xeyes", "xclock")
    picture = at_rest(real, name, expected)
    assert difference(picture, display.screenshot(f"{name}-there")) == 0
    for process in running:
        process.child.terminate()
        process.child.wait(10)
    real.wait_for_windows()
    return picture


def at_rest(display: Display, name: str, expected: Path | None) -> Path:
    """A screenshot that is the expected one, or if there is none the same for a while."""
    before, same = b"", 0
    for number in range(200):
        picture = display.screenshot(f"{name}-{number}")
        data = picture.read_bytes()
        same = same + 1 if data == before else 0
        before = data
        if difference(picture, expected) == 0 if expected else same == 20:
            return picture
    raise AssertionError(f"{name}: the screen does not come to show what is expected")


def difference(one: Path, other: Path) -> int:
    """In how many pixels two screenshots differ."""
    done = subprocess.run(
        [program("compare"), "-metric", "AE", f"xwd:{one}", f"xwd:{other}", "null:"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode in (0, 1), done.stderr
    return int(float(done.stderr.split()[0]))


# -- who gets in ----------------------------------------------------------


def test_without_the_cookie_nobody_gets_in_and_is_told_why(
    show: Show, x_server: XServer, tmp_path: Path
) -> None:
    real = x_server.display
    shown = show(f"x11::{real.number}", far={"XAUTHORITY": str(real.authority)})
    right = shown.display
    nothing, wrong = tmp_path / "nothing", tmp_path / "wrong"
    nothing.touch(0o600)
    AuthorityFile(str(wrong)).put(local_places(), right.number, bytes(16))
    for display in (right, right.via("127.0.0.1")):
        for authority, reason in (
            (nothing, "tunnelkit: the client has no cookie for this display"),
            (wrong, "tunnelkit: the client has a wrong cookie for this display"),
            # The real cookie opens the real display only.
            (real.authority, "tunnelkit: the client has no cookie for this display"),
        ):
            here = Display(display.name, authority, tmp_path)
            said = here.run("xdpyinfo", status=1)
            assert said.splitlines()[0] == reason
    assert facts(right) == facts(real)
    shown.far.wait_for("channel in ")
    assert shown.channels() == 1


def test_ten_thousand_wrong_cookies_reach_no_x_server(show: Show, x_server: XServer) -> None:
    real = x_server.display
    shown = show(f"x11::{real.number}", far={"XAUTHORITY": str(real.authority)})
    for number in range(10_000):
        with raw(shown.display) as sock:
            sock.sendall(setup_packet("<", number.to_bytes(16, "big")))
            reply = receive(sock, 8)
            assert reply[0] == 0
    assert facts(shown.display) == facts(real)
    shown.far.wait_for("channel in ")
    assert shown.channels() == 1


def test_neither_cookie_leaves_its_machine(show: Show, x_server: XServer) -> None:
    real = x_server.display
    shown = show(f"x11::{real.number}", far={"XAUTHORITY": str(real.authority)})
    near = AuthorityFile(str(shown.display.authority)).cookie(local_places(), shown.display.number)
    assert near is not None
    assert near != x_server.cookie
    facts(shown.display)
    shown.display.run("xdpyinfo", "-ext", "all")
    for role in (shown.near, shown.far):
        assert near.hex() not in role.process.log
        assert x_server.cookie.hex() not in role.process.log
    entries = AuthorityFile(str(shown.display.authority)).entries()
    assert {entry.data for entry in entries} == {near}


def test_what_the_far_side_does_not_allow_is_told_by_the_x_client(
    show: Show, x_server: XServer
) -> None:
    real = x_server.display
    shown = show("x11::7998", to=f"=:{real.number}", far={}).display
    said = shown.run("xdpyinfo", status=1)
    assert said.splitlines()[0] == "tunnelkit: the far side: not-allowed: not allowed there"


def test_a_wrong_real_cookie_is_told_in_the_x_servers_own_words(
    show: Show, x_server: XServer, tmp_path: Path
) -> None:
    real = x_server.display
    stale = tmp_path / "stale"
    AuthorityFile(str(stale)).put(local_places(), real.number, bytes(16))
    shown = show(f"x11::{real.number}", far={"XAUTHORITY": str(stale)}).display
    assert "Invalid MIT-MAGIC-COOKIE-1 key" in shown.run("xdpyinfo", status=1)


# -- clients of both byte orders, byte by byte ----------------------------


def raw(display: Display) -> socket.socket:
    """A connection to the display's TCP port."""
    sock = socket.create_connection(("127.0.0.1", 6000 + display.number), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def setup_packet(order: str, cookie: bytes) -> bytes:
    name = b"MIT-MAGIC-COOKIE-1"
    head = struct.pack(
        f"{order}BBHHHHH", ord("B" if order == ">" else "l"), 0, 11, 0, len(name), len(cookie), 0
    )
    return head + name + b"\0\0" + cookie


class RawClient:
    """An X client of either byte order that sends a byte at a time."""

    def __init__(self, display: Display, order: str) -> None:
        self.order = order
        self.sock = raw(display)
        cookie = AuthorityFile(str(display.authority)).cookie(local_places(), display.number)
        assert cookie is not None
        for byte in setup_packet(order, cookie):
            self.sock.sendall(bytes([byte]))
        head = self.take(8)
        self.accepted, major, words = self.unpack("BxHxxH", head)
        assert major == 11
        self.rest = self.take(4 * words)

    def unpack(self, fields: str, data: bytes) -> tuple[Any, ...]:
        return struct.unpack_from(self.order + fields, data)

    def take(self, size: int) -> bytes:
        return receive(self.sock, size)

    def ask(self, opcode: int, body: bytes, detail: int = 0) -> bytes:
        """The reply to one request."""
        body += bytes(-len(body) % 4)
        head = struct.pack(f"{self.order}BBH", opcode, detail, 1 + len(body) // 4)
        self.sock.sendall(head + body)
        reply = self.take(32)
        assert reply[0] == 1
        return reply + self.take(4 * self.unpack("xxxxI", reply)[0])

    def atom(self, name: bytes) -> int:
        length = struct.pack(f"{self.order}Hxx", len(name))
        return int(self.unpack("8xI", self.ask(INTERN_ATOM, length + name))[0])

    def atom_name(self, atom: int) -> bytes:
        reply = self.ask(GET_ATOM_NAME, struct.pack(f"{self.order}I", atom))
        size = self.unpack("8xH", reply)[0]
        return reply[32 : 32 + size]

    def has_extension(self, name: bytes) -> bool:
        length = struct.pack(f"{self.order}Hxx", len(name))
        return bool(self.ask(QUERY_EXTENSION, length + name)[8])


@pytest.mark.parametrize("order", [">", "<"])
def test_clients_of_both_byte_orders_in_single_bytes(
    show: Show, x_server: XServer, order: str
) -> None:
    real = x_server.display
    shown = show(f"x11::{real.number}", far={"XAUTHORITY": str(real.authority)}).display
    client = RawClient(shown, order)
    with client.sock:
        assert client.accepted == 1
        vendor = client.unpack("16xH", client.rest)[0]
        assert client.rest[32 : 32 + vendor].startswith(b"The X.Org")
        assert client.ask(GET_INPUT_FOCUS, b"")
        atom = client.atom(b"TUNNELKIT_%d" % os.getpid())
        assert client.atom_name(atom) == b"TUNNELKIT_%d" % os.getpid()
        assert client.has_extension(b"BIG-REQUESTS")
        assert not client.has_extension(HIDDEN_EXTENSION)
    assert "MIT-SHM" in real.run("xdpyinfo")


# -- being a display ------------------------------------------------------


def test_a_display_that_is_given_up_leaves_nothing_behind(show: Show, x_server: XServer) -> None:
    real = x_server.display
    shown = show(f"x11::{real.number}", far={"XAUTHORITY": str(real.authority)})
    number = shown.display.number
    lock, path = Path(f"/tmp/.X{number}-lock"), Path(f"/tmp/.X11-unix/X{number}")
    assert int(lock.read_text()) == shown.near.process.child.pid
    assert path.is_socket()
    assert shown.display.authority.stat().st_mode & 0o777 == 0o600
    assert shown.near.process.stop() == 0
    assert not lock.exists()
    assert not path.exists()
    assert shown.display.authority.read_bytes() == b""
    shown.display.run("xdpyinfo", status=1)


def test_the_cookie_of_an_end_that_was_killed_is_taken_out_by_the_next_one(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    authority = AuthorityFile(str(tmp_path / "authority"))
    end = (
        "lstp-client-end", "--middle", "127.0.0.1:1", "--tunnel", "test", "--peer", "server",
        "--identity", identities("client"),
    )  # fmt: skip
    env = {"XAUTHORITY": authority.path}
    killed = free_display()
    for path in (f"/tmp/.X{killed}-lock", f"/tmp/.X11-unix/X{killed}"):
        processes.on_end(functools.partial(os.unlink, path))
    first = processes.role(*end, "--x11", killed, wait=False, env=env)
    first.wait_for("trying again")
    assert authority.cookie(local_places(), killed) is not None
    first.process.kill()
    following = free_display()
    assert following != killed
    processes.role(*end, "--x11", following, wait=False, env=env).wait_for("trying again")
    assert authority.cookie(local_places(), following) is not None
    assert authority.cookie(local_places(), killed) is None


def test_a_display_in_use_is_told_in_one_line(
    x_server: XServer, identities: Identities, tmp_path: Path
) -> None:
    said = refused_start(
        tmp_path, "lstp-client-end", "--middle", "127.0.0.1:1", "--tunnel", "t",
        "--identity", identities("client"), "--peer", "server",
        "--x11", x_server.display.number,
    )  # fmt: skip
    assert said.startswith(f"display :{x_server.display.number} is in use (")
    assert facts(x_server.display)
