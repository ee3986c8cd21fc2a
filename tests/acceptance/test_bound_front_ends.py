"""Front ends lead to the peer that they name, whoever else connects (rule X29)."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.applications import Application
from tests.acceptance.communication import start_server
from tests.acceptance.processes import Identities, Processes, Role, curl, free_port
from tests.acceptance.udp_servers import UdpServer

PEERS = ("office", "branch")
POLICY = """
[clients.office]
publish = ["tunnel"]
[clients.branch]
publish = ["tunnel"]
[clients.house]
connect = ["office/tunnel", "branch/tunnel"]
"""
WHO = "who.example:80"


class Place:
    """What is behind one peer: it says the peer's name, over TCP and UDP."""

    def __init__(self, name: str) -> None:
        self.name = name
        answer = f"HTTP/1.0 200 OK\r\n\r\n{name}".encode()
        self.web = Application(lambda sock: _say(sock, answer))
        self.datagrams = UdpServer(lambda data: name.encode())
        self.port = free_port()

    def options(self) -> list[str]:
        """What the peer allows; under one name and port each peer means its own."""
        udp = f"udp:127.0.0.1:{self.datagrams.port}"
        return [
            *("--allow", self.web.destination, "--map", f"{WHO}={self.web.destination}"),
            *("--allow", udp, "--map", f"who.example:53={udp}"),
            *("--allow", f"listen:127.0.0.1:{self.port}"),
        ]


def _say(sock: socket.socket, answer: bytes) -> None:
    sock.recv(1000)
    sock.sendall(answer)


@pytest.fixture
def places(processes: Processes) -> Iterator[list[Place]]:
    """One for each peer."""
    made = [Place(name) for name in PEERS]
    for place in made:
        processes.on_end(place.datagrams.close)
    with made[0].web, made[1].web:
        yield made


def ports() -> list[str]:
    """Every kind of port, each once for each peer."""
    words: list[str] = []
    for peer in PEERS:
        words += ["--socks", f"0@{peer}", "--http-proxy", f"0@{peer}", "--ask", f"0@{peer}"]
        words += ["--forward", f"0=tcp:{WHO}@{peer}", "--forward", f"0=udp:who.example:53@{peer}"]
    return words


class House:
    """An end with two peers, over one kind of transport."""

    def __init__(
        self, kind: str, processes: Processes, identities: Identities, options: list[str]
    ) -> None:
        self._processes = processes
        self._identities = identities
        own = ("--identity", identities("house"), *options)
        named = [word for peer in PEERS for word in ("--peer", peer)]
        place = f"127.0.0.1:{free_port()}"
        if kind == "secure-proxy":
            server = start_server(processes, identities, policy=POLICY)
            self.role = server.client("house", *options, wait=False)
            self._join: Callable[..., Role] = server.client
        else:
            start = {
                "lstp": ("lstp-server-end", "--middle", place, "--tunnel", "test", *named),
                "usher": ("usher-gate", "--listen", place, *named),
                "tunnel-end": (
                    *("tunnel-end", "--rendezvous", "usher", "--protocol", "lstp"),
                    *("--await", place, *named),
                ),
            }
            self._meet = {
                "lstp": ("lstp-client-end", "--middle", place, "--tunnel", "test"),
                "usher": ("usher-portal", "--gate", place),
                "tunnel-end": (
                    *("tunnel-end", "--rendezvous", "usher", "--protocol", "lstp"),
                    *("--gate", place),
                ),
            }[kind]
            if kind == "lstp":
                processes.role("lstp-middle", "--listen", place)
            self.role = processes.role(*start[kind], *own, "--allow", "tcp:127.0.0.1:9")
            self._join = self._joins

    def _joins(self, name: str, *options: object) -> Role:
        return self._processes.role(
            *self._meet, "--identity", self._identities(name), "--peer", "house", *options
        )

    def arrives(self, place: Place) -> None:
        """The peer connects; it is newer than all that are there."""
        self._join(place.name, *place.options())
        self.role.wait_for(f"with {place.name} is up")
        if not self.role.ready:
            self.role = Role(self.role.process)


def at_all_ports(house: Role, number: int) -> set[str]:
    """Who answers at the nth ports of each kind."""
    url = f"http://{WHO}/"
    names = {hashlib.sha256(name.encode()).hexdigest(): name for name in PEERS}
    fetched = [
        curl("--socks5-hostname", house.address("socks", number), url),
        curl("--proxy", f"http://{house.address('http-proxy', number)}", url),
        curl(f"http://{house.address('forward', 2 * number)}/"),
    ]
    answers = {names.get(one.sha256, one.said) for one in fetched}
    return answers | {by_datagram(house, number), by_telnet(house, number)}


def by_datagram(house: Role, number: int) -> str:
    """Who answers at the nth forward of datagrams; one may be lost."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", house.port("forward", 2 * number + 1)))
        for _ in range(20):
            sock.send(b"who")
            with contextlib.suppress(TimeoutError):
                return sock.recv(100).decode()
    return "nobody"


def by_telnet(house: Role, number: int) -> str:
    """Who answers at the nth port that asks where to go."""
    with socket.create_connection(("127.0.0.1", house.port("ask", number)), 20) as sock:
        sock.sendall(WHO.encode() + b"\r\nGET /\r\n")
        said = b""
        while data := sock.recv(1000):
            said += data
    return said.rpartition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize("kind", ["lstp", "usher", "secure-proxy", "tunnel-end"])
def test_each_port_leads_to_its_own_peer_whoever_came_last(
    kind: str, processes: Processes, identities: Identities, places: list[Place]
) -> None:
    with Application(lambda sock: sock.sendall(b"house")) as here:
        reverse = [
            word
            for place in places
            for word in ("--reverse", f"{place.port}={here.destination}@{place.name}")
        ]
        house = House(kind, processes, identities, [*ports(), *reverse])
        for place in places:
            house.arrives(place)
        for number, peer in enumerate(PEERS):
            assert at_all_ports(house.role, number) == {peer}
        for place in places:
            house.role.wait_for(f"{place.name} listens on 127.0.0.1:{place.port}")
            with socket.create_connection(("127.0.0.1", place.port), 20) as sock:
                assert sock.recv(100) == b"house"
        # Nobody was asked for a port that is the other one's.
        assert not [line for line in house.role.process.lines if "no port" in line]


def test_a_port_waits_for_its_peer_though_another_is_there(
    processes: Processes, identities: Identities, places: list[Place]
) -> None:
    house = House("usher", processes, identities, ["--forward", f"0=tcp:{WHO}@branch"])
    house.arrives(places[0])
    assert curl(f"http://{house.role.address('forward')}/").status != 0
    house.role.wait_for("the tunnel is down: branch is not connected")
    house.arrives(places[1])
    assert curl(f"http://{house.role.address('forward')}/").size == len("branch")


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        (("--socks", "1080"), "--socks 1080: several peers are named: expected @PEER behind it"),
        (("--reverse", "80=tcp:a:1"), "--reverse 80=tcp:a:1: several peers are named"),
        (("--forward", "80=service:@dns"), "several peers are named: expected @PEER behind it"),
        (("--x11", "7@ofice"), r"ofice is none of the peers \(did you mean 'office'\?\)"),
    ],
)
def test_mistakes(
    processes: Processes, identities: Identities, ports: tuple[str, ...], words: str
) -> None:
    role = processes.role(
        "usher-gate", "--listen", "127.0.0.1:0", "--identity", identities("house"),
        "--peer", "office", "--peer", "branch", *ports, wait=False,
    )  # fmt: skip
    assert role.process.wait(20) == 2
    role.wait_for(words)
