"""Ways across the laboratory: a whole tunnel from company B into company A.

Each kind of tunnel is one function in `CROSSINGS`; the tests ask for a `Crossing` and do not know
which kind it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import attrs

from tests.acceptance.processes import Identities, Processes, Role
from tests.system import firewalls
from tests.system.laboratory import MIDDLE_PORT, MIDDLES, Laboratory
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
    """The parties in the internet."""

    @property
    def socks(self) -> str:
        """``HOST:PORT`` of the SOCKS server in company B."""
        return self.near.address("socks")

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


Start = Callable[[Running, Sequence[str], Sequence[str]], Crossing]
"""``start(running, allow, forwards)``: what is reachable, and which of it by a port of its own."""


def password_file(place: Place, password: str = firewalls.PASSWORD) -> str:
    """A file with the proxy's password that only its owner can read."""
    file = place.directory / "proxy-password"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(f"{password}\n")
    return str(file)


def lstp_options(running: Running, place: Place, name: str, peer: str) -> tuple[object, ...]:
    """What an LSTP end at ``place`` needs to meet the other through its firewall's proxy."""
    at_a = place is running.lab.company_a
    return (
        *("--middle", f"{MIDDLES[0]}:{MIDDLE_PORT}", "--tunnel", "companies"),
        *("--identity", running.identities(name), "--peer", peer),
        *("--via", firewalls.VIA_A if at_a else firewalls.VIA_B),
        *("--via-password-file", password_file(place)),
    )


def lstp_middle(running: Running, number: int = 0) -> Role:
    """A middle in the internet."""
    where = f"{MIDDLES[number]}:{MIDDLE_PORT}"
    return running.at(running.lab.internet).role("lstp-middle", "--listen", where)


def start_lstp(
    running: Running, allow: Sequence[str], forwards: Sequence[str], connections: int = 1
) -> Crossing:
    """Server end - SOCKS 5 - middle - CONNECT - client end."""
    lab = running.lab
    middle = lstp_middle(running)
    rules = [word for rule in allow for word in ("--allow", rule)]
    ports = [word for target in forwards for word in ("--forward", f"0={target}")]
    far = running.at(lab.company_a).role(
        "lstp-server-end", *lstp_options(running, lab.company_a, "office", "laptop"), *rules
    )
    near = running.at(lab.company_b).role(
        "lstp-client-end",
        *lstp_options(running, lab.company_b, "laptop", "office"),
        *("--socks", "0", "--dns", "0", "--connections", connections, *ports),
    )
    return Crossing(near, far, (middle,))


CROSSINGS: dict[str, Start] = {"lstp": start_lstp}
PARALLEL: dict[str, Start] = {"lstp": functools.partial(start_lstp, connections=4)}
"""The same, spread over several connections where that kind of tunnel can do it."""
