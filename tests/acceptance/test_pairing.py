"""Two machines connected by a one-time code: ``tunnelkit pair`` as people run it (row Q2)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import stat
import time
from pathlib import Path

import pytest

from tests.acceptance.ended_tls import EndsTls
from tests.acceptance.paired import POLICY, Options, at_a_server
from tests.acceptance.processes import (
    START_LIMIT,
    TUNNELKIT,
    Identities,
    Process,
    Processes,
    Role,
    WebServer,
    curl,
    fetches,
    free_port,
)
from tunnelkit.core.pairing.code import rendezvous_id
from tunnelkit.core.pairing.words import WORDS
from tunnelkit.wire.lstp import CommonUniqueInfo, Hop, TopologyExchange
from tunnelkit.wire.lstp import encode as encode_lstp
from tunnelkit.wire.pairing import Pake, encode

CODE = r"The code is +(\S+)"
PAKE_OF_A_STRANGER = Pake(
    "CPACE-X25519-SHA512", bytes(16), "stranger", "joiner", f"sha256:{'0' * 64}"
)
"""Half of what would be a try: it has no share."""


def pair(processes: Processes, name: str, *words: object) -> Process:
    return processes.start(
        name, *TUNNELKIT, "pair", "--name", name, "--dir", f"{name}-keys", *words
    )


def connected(address: tuple[str, int]) -> socket.socket:
    """A connection there, as soon as somebody listens."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            return socket.create_connection(address, 20)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline


def inside(processes: Processes, *words: object, name: str = "office") -> tuple[Process, str]:
    """The inside, and the code that it shows."""
    process = pair(processes, name, *words)
    return process, process.wait_for(CODE)[1]


@pytest.fixture(params=["middle", "gate", "server"])
def places(
    request: pytest.FixtureRequest, processes: Processes, identities: Identities
) -> tuple[Options, Options]:
    """Where the inside and the joiner meet."""
    if request.param == "middle":
        middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
        there = ("--middle", middle.address("listening on"))
        return there, there
    if request.param == "server":
        return at_a_server(processes, identities)
    address = f"127.0.0.1:{free_port()}"
    return ("--listen", address), ("--gate", address)


def test_two_commands_and_one_code_make_a_tunnel_that_needs_no_code_any_more(
    processes: Processes, web: WebServer, places: tuple[Options, Options]
) -> None:
    digest = web.add("file", 100_000)
    target = f"tcp:127.0.0.1:{web.port}"
    office, code = inside(processes, *places[0], "--allow", target)
    laptop = pair(processes, "laptop", *places[1], "--forward", f"0={target}", code)
    laptop.wait_for(r"Paired with office, whose key is sha256:[0-9a-f]{64}\.")
    laptop.wait_for(f"It allows {target}.")
    office.wait_for(r"Paired with laptop, whose key is sha256:[0-9a-f]{64}\.")
    assert fetches(Role(laptop), digest)
    # The secrets are their owner's, and the code is nowhere.
    for name in ("office", "laptop"):
        keys = processes.directory / f"{name}-keys"
        assert stat.S_IMODE(keys.stat().st_mode) == 0o700
        for file in keys.glob("[!.]*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert not any(word in file.read_text().split() for word in code.split("-")[1:])
    assert code not in laptop.log.partition("\n")[2]
    # Both are started again, as they said that they run.
    laptop.stop()
    office.stop()
    for process in (office, laptop):
        command = process.wait_for(r"Running: tunnelkit (.*)")[1].split()
        again = Role(processes.start(process.name, *TUNNELKIT, *command))
    assert fetches(again, digest)


def test_a_wrong_code_is_told_to_both_and_used_up(processes: Processes, middle: Role) -> None:
    there = ("--middle", middle.address("listening on"))
    office, code = inside(processes, *there, "--allow", "tcp:127.0.0.1:1")
    number, *words = code.split("-")
    guess = next(word for word in WORDS if word not in words)
    laptop = pair(processes, "laptop", *there, "-".join([number, *words[:2], guess]))
    for process in (laptop, office):
        assert process.wait() == 2
        process.wait_for("the code did not match: a typing error, or somebody tried; 1 attempt")
    assert not Path(processes.directory, "office-keys").exists()
    assert not Path(processes.directory, "laptop-keys").exists()


def test_a_middle_with_a_connection_to_each_pairs_nobody(
    processes: Processes, identities: Identities
) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    office, code = inside(processes, "--listen", address, "--allow", "tcp:127.0.0.1:1")
    with EndsTls(("127.0.0.1", port), identities("mallory"), "tunnelkit-pair/1") as between:
        laptop = pair(processes, "laptop", "--gate", between.address, code)
        assert office.wait() == laptop.wait() == 2
    assert between.passed > 500
    laptop.wait_for("the code did not match")
    # Whether the refusal comes before the end of the connection is up to who is in between.
    office.wait_for("the code did not match|has left after a try with the code, which is used up")
    assert not list(processes.directory.glob("*-keys"))


def anybody(alpn: str) -> ssl.SSLContext:
    """The TLS of one who judges nobody and has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context


def test_strangers_at_the_port_take_no_try_and_hold_nobody_up(
    processes: Processes, identities: Identities
) -> None:
    address = ("127.0.0.1", free_port())
    there = f"127.0.0.1:{address[1]}"
    words = ("--listen", there, "--allow", "tcp:127.0.0.1:1", "--once")
    office, code = inside(processes, *words)
    with contextlib.ExitStack() as stack:
        # More than there may be of one address, who say nothing or a part, and stay.
        for number in range(20):
            stranger = stack.enter_context(connected(address))
            if number % 2:
                stranger.sendall(b"\x16\x03\x01\x02\x00\x01")
        for hello in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-scan\r\n", b"", b"\0" * 1000):
            with connected(address) as stranger, contextlib.suppress(OSError):
                stranger.sendall(hello)
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(1000):
                    pass
        context = anybody("tunnelkit-pair/1")
        context.load_cert_chain(identities("mallory"))
        for said in (b"", b"\0" * 12, encode(PAKE_OF_A_STRANGER), b"GET / HTTP/1.1\r\n\r\n"):
            raw = stack.enter_context(connected(address))
            stranger = stack.enter_context(context.wrap_socket(raw))
            stranger.sendall(said)
            stranger.settimeout(START_LIMIT)
            # The inside has begun to speak with it.
            assert stranger.recv(1000)
        laptop = pair(processes, "laptop", "--gate", there, "--once", code)
        assert office.wait() == laptop.wait() == 0
        laptop.wait_for("Paired with office")


def test_a_third_one_under_the_number_who_does_not_pair_ends_it(
    processes: Processes, middle: Role
) -> None:
    there = middle.address("listening on")
    office, code = inside(processes, "--middle", there, "--allow", "tcp:127.0.0.1:1")
    common = rendezvous_id(int(code.partition("-")[0]))
    hop = Hop("pairing", "client-end", "", "0" * 32)
    hello = encode_lstp(CommonUniqueInfo(common, "pairing", "client-end"))
    hello += encode_lstp(TopologyExchange((hop,)))
    for _ in range(3):
        with connected(("127.0.0.1", middle.port("listening on"))) as stranger:
            stranger.settimeout(START_LIMIT)
            stranger.sendall(hello)
            assert stranger.recv(1000)
    assert office.wait() == 2
    office.wait_for("3 others came, none with a code")


def test_a_server_that_lets_nobody_pair_says_so_and_a_joiner_is_told_of_a_wrong_number(
    processes: Processes, identities: Identities
) -> None:
    ours, theirs = at_a_server(processes, identities)
    (processes.directory / "laptop-login").write_text("wrong password")
    stranger = pair(processes, "laptop", *theirs, "7-gravel-tulip-otter")
    assert stranger.wait() == 2
    stranger.wait_for("the server says not-allowed: the login is wrong")
    (processes.directory / "laptop-login").write_text("battery staple")
    early = pair(processes, "laptop", *theirs, "7-gravel-tulip-otter")
    assert early.wait() == 2
    early.wait_for("the server says not-present")
    (processes.directory / "policy.toml").write_text(POLICY.replace('"tunnel", "pair-*"', '"x"'))
    processes.named("secure-proxy-server").wait_for("policy.*(new|read|in force)")
    office = pair(processes, "office", *ours, "--allow", "tcp:127.0.0.1:1")
    assert office.wait() == 2
    assert not any("The code is" in line for line in office.lines)


def test_no_code_is_shown_that_would_be_of_no_use(processes: Processes, web: WebServer) -> None:
    rule = ("--allow", "tcp:127.0.0.1:1")
    taken = pair(processes, "office", "--listen", f"127.0.0.1:{web.port}", *rule)
    assert taken.wait() == 2
    (line,) = taken.lines
    assert f"cannot listen on 127.0.0.1:{web.port}: it is in use by another program" in line
    # A port alone is that port of all addresses, as for the roles that others dial.
    taken = pair(processes, "office", "--listen", web.port, *rule)
    assert taken.wait() == 2
    assert f"cannot listen on 0.0.0.0:{web.port}: it is in use" in taken.lines[0]
    nobody = pair(processes, "office", "--middle", f"127.0.0.1:{free_port()}", *rule)
    assert nobody.wait() == 2
    (line,) = nobody.lines
    assert "cannot reach the middle" in line


def test_an_inside_whose_number_is_taken_shows_another_code(
    processes: Processes, middle: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--middle", middle.address("listening on"), "--allow", "tcp:127.0.0.1:1", "--once")
    # Every process rolls the same dice: both take the same number first.
    (processes.directory / "sitecustomize.py").write_text(
        "import random, secrets\n"
        "dice = random.Random(1)\n"
        "secrets.randbelow, secrets.choice = dice.randrange, dice.choice\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(processes.directory))
    first, code = inside(processes, *words)
    first.wait_for("Waiting for it")
    joiner = pair(processes, "early", *words[:2], code.replace("-", " ", 1))
    assert joiner.wait_for("Paired with office")
    assert first.wait() == 0
    busy, taken = inside(processes, *words, name="busy")
    late, shown = inside(processes, *words, name="late")
    assert shown == taken
    told = late.wait_for("Somebody else has that number; here is another one.")
    another = late.wait_for(CODE, since=late.lines.index(told.string))[1]
    assert another != taken
    laptop = pair(processes, "laptop", *words[:2], "--once", another)
    assert laptop.wait() == late.wait() == 0
    busy.kill()


def test_a_second_machine_is_added_and_the_first_stays(
    processes: Processes, web: WebServer, middle: Role
) -> None:
    digest = web.add("file", 1000)
    target = f"tcp:127.0.0.1:{web.port}"
    there = ("--middle", middle.address("listening on"))
    for name in ("laptop", "phone"):
        office, code = inside(processes, *there, "--allow", target, "--once")
        joiner = pair(processes, name, *there, "--forward", f"0={target}", "--once", code)
        assert office.wait() == joiner.wait() == 0
    config = processes.directory / "office-keys" / "office.toml"
    assert config.read_text().count("sha256:") == 2
    server = Role(processes.start("office", *TUNNELKIT, "server", "--config", config))
    for name in ("laptop", "phone"):
        settings = f"{name}-keys/{name}.toml"
        assert fetches(
            Role(processes.start(name, *TUNNELKIT, "client", "--config", settings)), digest
        )
    server.wait_for("Tunnel office with laptop is up")
    server.wait_for("Tunnel office with phone is up")


def test_who_was_issued_a_certificate_can_be_revoked(
    processes: Processes, web: WebServer, middle: Role
) -> None:
    digest = web.add("file", 1000)
    target = f"tcp:127.0.0.1:{web.port}"
    there = ("--middle", middle.address("listening on"))
    keys = processes.directory / "office-keys"
    issued = Identities.create(keys)
    office, code = inside(processes, *there, "--issue", "--allow", target)
    laptop = pair(processes, "laptop", *there, "--forward", f"0={target}", code)
    assert fetches(Role(laptop), digest)
    there_are = {file.name for file in (processes.directory / "laptop-keys").glob("laptop*")}
    assert there_are == {"laptop.pem", "laptop.toml"}
    issued.revoke("laptop")
    office.wait_for("laptop.*revoked")
    laptop.wait_for("revoked")
    office.stop()
    laptop.stop()
    # A name is given once; the one of a revoked machine may be given again.
    for name, status in (("phone", 0), ("phone", 2), ("laptop", 0)):
        office, code = inside(processes, *there, "--issue", "--allow", target, "--once")
        joiner = pair(processes, name, *there, "--once", "--dir", f"{name}-{status}", code)
        assert joiner.wait() == office.wait() == status
    joiner = processes.named("phone")
    settings = (keys / "office.toml").read_text()
    assert settings.count('"phone"') == settings.count('"laptop"') == 1


def test_what_is_allowed_decides_what_is_opened(processes: Processes, middle: Role) -> None:
    there = ("--middle", middle.address("listening on"))
    office, code = inside(
        processes, *there, "--once", "--allow", "tcp:10.1.2.3:22", "--allow", "tcp:10.0.0.0/8:80"
    )
    laptop = pair(processes, "laptop", *there, "--once", code)
    assert office.wait() == laptop.wait() == 0
    laptop.wait_for(r"Open here: forward 127\.0\.0\.1:\d+=tcp:10\.1\.2\.3:22")
    laptop.wait_for(r"Open here: socks 127\.0\.0\.1:\d+")


def test_what_is_published_is_offered_by_its_name(
    processes: Processes, web: WebServer, middle: Role
) -> None:
    digest = web.add("file", 1000)
    there = ("--middle", middle.address("listening on"))
    _, code = inside(processes, *there, "--publish", f"wiki=localhost:{web.port}")
    laptop = pair(processes, "laptop", *there, code)
    laptop.wait_for("It publishes wiki.")
    laptop.wait_for(r"Open here: forward 127\.0\.0\.1:\d+=service:wiki")
    assert fetches(Role(laptop), digest)


def test_who_is_asked_and_says_no_keeps_nothing(processes: Processes, middle: Role) -> None:
    there = ("--middle", middle.address("listening on"))
    # Its standard input is at its end: that is no yes.
    office, code = inside(processes, *there, "--allow", "tcp:10.1.2.3:22", "--ask")
    laptop = pair(processes, "laptop", *there, code)
    assert office.wait() == laptop.wait() == 2
    laptop.wait_for("it was refused by hand")
    assert not list(processes.directory.glob("*-keys"))


def test_the_web_server_of_the_inside_by_a_proxy_on_the_way(
    processes: Processes, web: WebServer, middle: Role
) -> None:
    digest = web.add("file", 1000)
    target = f"tcp:127.0.0.1:{web.port}"
    port = free_port()
    processes.start("microsocks", "microsocks", "-i", "127.0.0.1", "-p", port)
    way = ("--middle", middle.address("listening on"), "--via", f"socks5://127.0.0.1:{port}")
    _, code = inside(processes, *way, "--allow", target)
    laptop = pair(processes, "laptop", *way, "--socks", "0", code)
    socks = Role(laptop).address("socks")
    fetched = curl("--socks5", socks, f"http://127.0.0.1:{web.port}/file")
    assert (fetched.status, fetched.sha256) == (0, digest)
