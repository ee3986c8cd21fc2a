"""Two peers of one end: one hostile, with a valid identity, and one honest (X8, X10, X23, X25)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import attrs
import pytest

from tests.acceptance.applications import Application, echo, pour
from tests.acceptance.processes import TWISTD, Identities, Processes, Role
from tests.acceptance.tunnels import start_gate, start_portal
from tests.hostile.honest import BUDGET, ask, attack, going_on, peak, place_of, struck, use


@pytest.fixture
def server() -> Iterator[Application]:
    with Application(echo) as running:
        yield running


@pytest.fixture
def spring() -> Iterator[Application]:
    """Sends without end."""
    with Application(pour) as running:
        yield running


@pytest.fixture
def nobody() -> Iterator[str]:
    """A destination that does not answer: its queue of connections is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield f"tcp:127.0.0.1:{listener.getsockname()[1]}"


@attrs.frozen
class Houses:
    """A far side, and its two tenants."""

    far: Role
    good: Role
    bad: Role


MEET = ("--tunnel", "house")


def rent(
    kind: str,
    processes: Processes,
    identities: Identities,
    allow: list[str],
    good: tuple[str, ...],
    bad: tuple[str, ...],
) -> Houses:
    """Both tenants with their front ends, over one protocol."""
    rules = [word for rule in allow for word in ("--allow", rule)]
    peers = ("--peer", "good", "--peer", "bad")
    if kind == "usher":
        far = start_gate(processes, identities, allow, peers=("good", "bad"))
        place = far.address("listening on")
        ends = [
            start_portal(processes, identities, place, *options, name=name)
            for name, options in (("good", good), ("bad", bad))
        ]
        return Houses(far, *ends)
    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
    meet = ("--middle", middle.address("listening on"), *MEET)
    far = processes.role(
        "lstp-server-end", *meet, "--identity", identities("server"), *peers, *rules
    )
    ends = [
        processes.role(
            "lstp-client-end", *meet, "--identity", identities(name), "--peer", "server", *options
        )
        for name, options in (("good", good), ("bad", bad))
    ]
    return Houses(far, *ends)


@pytest.mark.parametrize("kind", ["usher", "lstp"])
def test_the_other_tenant_does_not_notice_an_attack_by_a_peer(
    kind: str,
    processes: Processes,
    identities: Identities,
    server: Application,
    spring: Application,
    nobody: str,
) -> None:
    """One attack after the other, on the same processes: nothing adds up either."""
    houses = rent(
        kind, processes, identities, [server.destination, spring.destination, nobody],
        ("--forward", f"0={server.destination}"),
        (
            *("--socks", "0", "--forward", f"0={server.destination}"),
            *("--forward", f"0={spring.destination}", "--forward", f"0={nobody}"),
        ),
    )  # fmt: skip
    forward = place_of(houses.good.address("forward"))
    direct = place_of(server.destination.removeprefix("tcp:"))
    bad = [place_of(houses.bad.address("forward", number)) for number in range(3)]
    entrances = {
        "resets": place_of(houses.bad.address("socks")),
        "single bytes": bad[0],
        "stalled": bad[1],
        "uploads": bad[2],
    }
    ask(forward)
    before = peak(houses.far.process)
    with socket.create_connection(forward, 20) as stays:
        for attacked, place in entrances.items():
            attacker = attack(processes, attacked, place, {"TARGET_PORT": str(direct[1])})
            use(lambda: ask(forward), lambda: ask(direct), going_on(attacker)).was_good()
            struck(attacker)
        # A channel from before all of it still carries.
        stays.sendall(b"still here")
        assert stays.recv(100) == b"still here"
    assert peak(houses.far.process) - before < BUDGET


# -- names -----------------------------------------------------------------------------------


class Nameserver:
    """Knows one name, and never answers about others."""

    def __init__(self, name: str, address: str) -> None:
        self._known = b"".join(bytes([len(part)]) + part for part in name.encode().split(b"."))
        self.asked = 0
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((address, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                data, client = self._sock.recvfrom(512)
            except OSError:
                return
            self.asked += 1
            if self._known not in data.lower():
                continue
            question = data[12 : data.index(b"\0", 12) + 5]
            wants_a = question[-4:-2] == b"\0\1"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1" if wants_a else b""
            head = data[:2] + b"\x81\x80\0\1" + (b"\0\1" if wants_a else b"\0\0") + bytes(4)
            self._sock.sendto(head + question + answer, client)

    def close(self) -> None:
        self._sock.close()


def test_slow_names_of_one_tenant_leave_the_others_names_alone(
    processes: Processes, identities: Identities, server: Application
) -> None:
    address = "127.0.53.66"
    nameserver = Nameserver("good.example", address)
    processes.on_end(nameserver.close)
    conf = processes.directory / "resolv.conf"
    conf.write_text(f"nameserver {address}\n")
    port = place_of(server.destination.removeprefix("tcp:"))[1]
    # Its own resolv.conf, and nobody else's.
    inside = f'mount --bind {conf} /etc/resolv.conf && exec "$@"'
    alone = ("unshare", "--mount", "--propagation", "private", "sh", "-c", inside, "sh")
    far = Role(
        processes.start(
            "usher-gate", *alone, *TWISTD, "-n", "--pidfile=", "usher-gate",
            *("--listen", "127.0.0.1:0", "--identity", identities("server")),
            *("--peer", "good", "--peer", "bad"),
            *("--allow", f"good=tcp:good.example:{port}@127.0.0.0/8"),
            *("--allow", "bad=tcp:*.slow.example:80"),
        )
    )  # fmt: skip
    gate = far.address("listening on")
    good = start_portal(
        processes, identities, gate, "--forward", f"0=tcp:good.example:{port}", name="good"
    )
    bad = start_portal(processes, identities, gate, "--socks", "0", name="bad")
    forward = place_of(good.address("forward"))
    ask(forward)
    attacker = attack(processes, "names", place_of(bad.address("socks")))
    asked = nameserver.asked
    use(lambda: ask(forward), lambda: ask(("127.0.0.1", port)), going_on(attacker)).was_good()
    struck(attacker)
    assert nameserver.asked > asked
    # It would wait for the lookups under way.
    bad.process.kill()
