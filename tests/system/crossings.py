"""Ways across the laboratory: a whole tunnel from company B into company A.

Each kind of tunnel is one function in `CROSSINGS`; the tests ask for a `Crossing` and do not know
which kind it is.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

import attrs

from tests.acceptance.processes import Identities, Processes, Role
from tests.system import firewalls
from tests.system.laboratory import MIDDLE_PORT, MIDDLES, WORKPLACE_A, Laboratory
from tests.system.places import Place, PlacedProcesses


class Running:
    """What runs for one test, or one module of tests, in the laboratory."""

    def __init__(self, lab: Laboratory, identities: Identities) -> None:
        self.lab = lab
        self.identities = identities
        self._groups: list[Processes] = []

    def at(self, place: Place) -> PlacedProcesses:
        """To start programs there that end with the test."""
        processes = PlacedProcesses(place.directory, place)
        self._groups.append(processes)
        return processes

    def again(self, role: Role) -> Role:
        """Start a party that has ended once more, with the same options; until it is ready."""
        processes = Processes(self.lab.directory)
        self._groups.append(processes)
        return Role(processes.start(role.process.name, *role.process.command))

    def end(self) -> None:
        """End everything, what was started last first; fails if something had to be killed."""
        failures = []
        for group in reversed(self._groups):
            try:
                group.end()
            except AssertionError as failure:
                failures.append(str(failure))
        assert not failures, failures

    def logs(self) -> str:
        """What all of them wrote."""
        return "\n".join(group.logs() for group in self._groups)


@attrs.frozen
class Crossing:
    """A tunnel that is up."""

    near: Role
    """The party in company B; programs there enter here."""
    far: Role
    """The party in company A; it reaches the services."""
    between: tuple[Role, ...]
    """The other parties: in the internet, and a portal of company A where there is one."""

    @property
    def socks(self) -> str:
        """``HOST:PORT`` of the SOCKS server in company B."""
        return self.near.address("socks")

    @property
    def http_proxy(self) -> str:
        """``HOST:PORT`` of the HTTP proxy in company B."""
        return self.near.address("http-proxy")

    @property
    def resolver(self) -> tuple[str, int]:
        """Address in company B that answers with the names of company A."""
        return _split(self.near.address("dns"))

    def forward(self, number: int = 0) -> tuple[str, int]:
        """Address in company B of the nth forward."""
        return _split(self.near.address("forward", number))


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


class Start(Protocol):
    """Starts a tunnel of one kind."""

    def __call__(
        self,
        running: Running,
        allow: Sequence[str],
        forwards: Sequence[str],
        *,
        near_options: Sequence[object] = (),
    ) -> Crossing:
        """What is reachable, which of it by ports of their own, what else the near party does."""


def password_file(place: Place, password: str = firewalls.PASSWORD) -> str:
    """A file with the proxy's password that only its owner can read."""
    file = place.directory / "proxy-password"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(f"{password}\n")
    return str(file)


def through_the_firewall(running: Running, place: Place) -> tuple[str, ...]:
    """How an end at ``place`` gets out: by its company's own proxy, with the password."""
    via = firewalls.VIA_A if place is running.lab.company_a else firewalls.VIA_B
    return ("--via", via, "--via-password-file", password_file(place))


def middle_at(number: int) -> str:
    """``HOST:PORT`` of the nth address in the internet that the ends can reach."""
    return f"{MIDDLES[number]}:{MIDDLE_PORT}"


def lstp_options(
    running: Running, place: Place, name: str, peer: str, middle: int = 0
) -> tuple[object, ...]:
    """What an LSTP end at ``place`` needs to meet the other through its firewall's proxy."""
    return (
        *("--middle", middle_at(middle), "--tunnel", "companies"),
        *("--identity", running.identities(name), "--peer", peer),
        *through_the_firewall(running, place),
    )


def lstp_middle(running: Running, number: int = 0, *more: object) -> Role:
    """A middle in the internet."""
    return running.at(running.lab.internet).role(
        "lstp-middle", "--listen", middle_at(number), "--name", f"middle-{number}", *more
    )


def _rules(allow: Sequence[str]) -> list[str]:
    return [word for rule in allow for word in ("--allow", rule)]


def _entrances(forwards: Sequence[str]) -> list[str]:
    """The front ends in company B: one of each kind, and the forwards."""
    ports = [word for target in forwards for word in ("--forward", f"0={target}")]
    return ["--socks", "0", "--dns", "0", "--http-proxy", "0", *ports]


def start_lstp(
    running: Running,
    allow: Sequence[str],
    forwards: Sequence[str],
    *,
    near_options: Sequence[object] = (),
    connections: int = 1,
    middles: int = 1,
) -> Crossing:
    """Server end - SOCKS 5 - middle ... middle - CONNECT - client end.

    Of several middles company A dials the first and company B the last; each knows only the one
    before it.
    """
    lab = running.lab
    between = [lstp_middle(running)]
    for number in range(1, middles):
        between.append(lstp_middle(running, number, "--next", middle_at(number - 1)))
    far = running.at(lab.company_a).role(
        "lstp-server-end", *lstp_options(running, lab.company_a, "office", "laptop"), *_rules(allow)
    )
    near = running.at(lab.company_b).role(
        "lstp-client-end",
        *lstp_options(running, lab.company_b, "laptop", "office", middles - 1),
        *("--connections", connections, *_entrances(forwards), *near_options),
    )
    return Crossing(near, far, tuple(between))


_OFFICE = f"{WORKPLACE_A}:7000"
"""Where the gate in company A listens, for company A only."""
_HANDED_IN = "127.0.0.1:7000"
"""Port of the bastion that leads to it, for the bastion only."""


def start_usher(
    running: Running,
    allow: Sequence[str],
    forwards: Sequence[str],
    *,
    near_options: Sequence[object] = (),
) -> Crossing:
    """Gate - portal - SOCKS 5 - bastion - CONNECT - portal: Usher with both sides dialling out.

    A portal of company A keeps a tunnel to a gate in the internet, the bastion, and lets it
    reach one port of company A: another gate. The bastion hands the portal of company B on to
    that one by its name, so that TLS is between company B and company A (U10, U12, U17).
    """
    lab = running.lab
    identity, keys = "--identity", running.identities
    bastion = running.at(lab.internet).role(
        *("usher-gate", "--listen", middle_at(0), identity, keys("bastion")),
        *("--peer", "doorkeeper", "--forward", f"{_HANDED_IN}=tcp:{_OFFICE}"),
        *("--relay", f"office={_HANDED_IN}"),
    )
    company_a = running.at(lab.company_a)
    far = company_a.role(
        *("usher-gate", "--listen", _OFFICE, identity, keys("office")),
        *("--peer", "laptop", *_rules(allow)),
    )
    doorkeeper = company_a.role(
        *("usher-portal", "--gate", middle_at(0), identity, keys("doorkeeper")),
        *("--peer", "bastion", "--allow", f"tcp:{_OFFICE}"),
        *through_the_firewall(running, lab.company_a),
    )
    near = running.at(lab.company_b).role(
        *("usher-portal", "--gate", middle_at(0), "--server-name", "office"),
        *(identity, keys("laptop"), "--peer", "office"),
        *through_the_firewall(running, lab.company_b),
        *_entrances(forwards),
        *near_options,
    )
    return Crossing(near, far, (bastion, doorkeeper))


SERVER = "relay.example"
POLICY = """
[clients.office]
publish = ["tunnel", "pass:site.example", "web:app.example"]
[clients.laptop]
connect = ["office/tunnel"]
"""


def communication_server(running: Running, *more: object) -> Role:
    """A Communication Server in the internet."""
    policy = running.lab.internet.directory / "policy.toml"
    policy.write_text(POLICY)
    return running.at(running.lab.internet).role(
        *("secure-proxy-server", "--listen", middle_at(0), "--policy", policy),
        *("--identity", running.identities(SERVER), *more),
    )


def client_options(running: Running, place: Place, name: str) -> tuple[object, ...]:
    """What a client at ``place`` needs to reach it; both companies go by CONNECT to port 443."""
    via = firewalls.CONNECT_A if place is running.lab.company_a else firewalls.VIA_B
    return (
        *("--server", middle_at(0), "--server-name", SERVER),
        *("--identity", running.identities(name)),
        *("--via", via, "--via-password-file", password_file(place)),
    )


def start_secure_proxy(
    running: Running,
    allow: Sequence[str],
    forwards: Sequence[str],
    *,
    near_options: Sequence[object] = (),
) -> Crossing:
    """Client - CONNECT - Communication Server - CONNECT - client (S1, S2)."""
    lab = running.lab
    server = communication_server(running)
    far = running.at(lab.company_a).role(
        "secure-proxy-client", *client_options(running, lab.company_a, "office"), *_rules(allow)
    )
    far.wait_for(f"Present at {SERVER}")
    near = running.at(lab.company_b).role(
        "secure-proxy-client",
        *client_options(running, lab.company_b, "laptop"),
        *("--target", "office", *_entrances(forwards), *near_options),
    )
    return Crossing(near, far, (server,))


CROSSINGS: dict[str, Start] = {
    "lstp": start_lstp,
    "lstp-two-middles": functools.partial(start_lstp, middles=2),
    "usher": start_usher,
}
BY_NAME: dict[str, Start] = {**CROSSINGS, "secure-proxy": start_secure_proxy}
"""And the one whose parties find each other by name: for the tests of programs."""
PARALLEL: dict[str, Start] = {"lstp": functools.partial(start_lstp, connections=4)}
"""The same, spread over several connections where that kind of tunnel can do it."""
