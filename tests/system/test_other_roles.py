"""Roles shared out in other ways: an end that is its own middle (L9), ends that are both (L11).

Wherever an end is, it is one that is inside that dials, through its company's proxy.
"""

from __future__ import annotations

import hashlib

from tests.acceptance.processes import Role
from tests.system.crossings import Crossing, Running, lstp_middle, lstp_options, middle_at
from tests.system.laboratory import MIDDLES, WIKI_NAME, WORKPLACE_B, Laboratory
from tests.system.places import Place, PlacedProcesses
from tests.system.services import HTTP, HTTP_BY_NAME, MIB, Services

PORT = 8080
SIZE = 4 * MIB


def own_middle(running: Running, name: str, peer: str) -> tuple[object, ...]:
    """Options of an end in the internet that is its own middle."""
    identity = ("--identity", running.identities(name), "--peer", peer)
    return "--listen", middle_at(0), "--tunnel", "companies", *identity


def digest(place: Place, *how: object) -> str:
    """The SHA-256 of what curl gets there."""
    copy = place.directory / "copy"
    place.run(["curl", "-sS", "--fail", "--max-time", 30, "-o", copy, *how])
    return hashlib.sha256(copy.read_bytes()).hexdigest()


def serve(processes: PlacedProcesses, address: str) -> tuple[str, str]:
    """A web server with one file: its destination, and the file's SHA-256."""
    pages = processes.directory / "pages"
    pages.mkdir(exist_ok=True)
    data = hashlib.shake_128(address.encode()).digest(SIZE)
    (pages / "file").write_bytes(data)
    options = (PORT, "--bind", address, "--directory", pages)
    processes.start("web", "python3", "-u", "-m", "http.server", *options, ready="Serving HTTP")
    return f"tcp:{address}:{PORT}", hashlib.sha256(data).hexdigest()


def test_somebody_in_the_internet_reaches_company_a_as_middle_and_client_end(
    lab: Laboratory, running: Running, services: Services
) -> None:
    expected = services.add("file", SIZE)
    client = running.at(lab.internet).role(
        "lstp-client-end", *own_middle(running, "laptop", "office"), "--socks", "0", wait=False
    )
    server = running.at(lab.company_a).role(
        "lstp-server-end",
        *lstp_options(running, lab.company_a, "office", "laptop"),
        *("--allow", HTTP_BY_NAME),
    )
    crossing = Crossing(Role(client.process), server, ())
    socks = ("--socks5-hostname", crossing.socks)
    assert digest(lab.internet, *socks, f"http://{WIKI_NAME}/file") == expected


def test_company_b_reaches_somebody_in_the_internet_who_is_middle_and_server_end(
    lab: Laboratory, running: Running
) -> None:
    internet = running.at(lab.internet)
    target, expected = serve(internet, MIDDLES[1])
    internet.role("lstp-server-end", *own_middle(running, "office", "laptop"), "--allow", target)
    client = running.at(lab.company_b).role(
        "lstp-client-end",
        *lstp_options(running, lab.company_b, "laptop", "office"),
        *("--forward", f"0={target}"),
    )
    assert digest(lab.company_b, f"http://{client.address('forward')}/file") == expected


def test_both_companies_reach_each_other_by_one_tunnel(
    lab: Laboratory, running: Running, services: Services
) -> None:
    in_a = services.add("file", SIZE)
    to_b, in_b = serve(running.at(lab.company_b), WORKPLACE_B)
    lstp_middle(running)
    ends = {}
    for place, name, peer, here, there in (
        (lab.company_a, "office", "laptop", HTTP, to_b),
        (lab.company_b, "laptop", "office", to_b, HTTP),
    ):
        ends[name] = running.at(place).role(
            "lstp-client-end",
            *("--both", *lstp_options(running, place, name, peer)),
            *("--allow", here, "--forward", f"0={there}"),
            wait=False,
        )
    office, laptop = (Role(ends[name].process) for name in ("office", "laptop"))
    assert digest(lab.company_b, f"http://{laptop.address('forward')}/file") == in_a
    assert digest(lab.company_a, f"http://{office.address('forward')}/file") == in_b
