"""First of all: the firewalls stop everything but what goes through their proxies (L2)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from tests.system import firewalls
from tests.system.crossings import Running
from tests.system.laboratory import MIDDLE_PORT, MIDDLES, WIKI, WORKPLACE_A, WORKPLACE_B, Laboratory
from tests.system.services import Services

PATIENCE = 1.5
"""Seconds; on an undisturbed link an answer takes less than a thousandth of it."""
CREDENTIALS = f"{firewalls.USER}:{firewalls.PASSWORD}"


@attrs.frozen
class Attempt:
    """A connection that somebody tries to make, and the counter that it must move."""

    by: str
    to: str
    port: int
    counter: str


def attempts(lab: Laboratory) -> list[Attempt]:
    """All the ways that must not be there."""
    outside_a, outside_b = "198.51.100.2", lab.leg.far_address
    return [
        Attempt("internet", WIKI, 80, "a into_company"),
        Attempt("internet", WORKPLACE_A, 22, "a into_company"),
        Attempt("internet", WORKPLACE_B, 80, "b into_company"),
        Attempt("internet", outside_a, firewalls.SOCKS_PORT, "a from_internet"),
        Attempt("internet", firewalls.INSIDE_A, firewalls.SOCKS_PORT, "a from_internet"),
        Attempt("internet", outside_b, firewalls.CONNECT_PORT, "b from_internet"),
        Attempt("internet", firewalls.INSIDE_B, firewalls.CONNECT_PORT, "b from_internet"),
        Attempt("company_b", WIKI, 80, "b out_of_company"),
        Attempt("company_b", MIDDLES[0], MIDDLE_PORT, "b out_of_company"),
        Attempt("company_b", firewalls.INSIDE_B, 22, "b from_company"),
        Attempt("company_a", WORKPLACE_B, 80, "a out_of_company"),
        Attempt("company_a", MIDDLES[0], MIDDLE_PORT, "a out_of_company"),
        Attempt("company_a", firewalls.INSIDE_A, 22, "a from_company"),
        Attempt("firewall_a", MIDDLES[0], MIDDLE_PORT, "a out_of_firewall"),
        Attempt("firewall_b", MIDDLES[0], MIDDLE_PORT, "b out_of_firewall"),
    ]


def outcome(lab: Laboratory, attempt: Attempt) -> str:
    """``connected``, ``dropped``, or what the system said instead."""

    def dial() -> str:
        try:
            socket.create_connection((attempt.to, attempt.port), PATIENCE).close()
        except TimeoutError:
            return "dropped"
        except OSError as error:
            return str(error)
        return "connected"

    place = getattr(lab, attempt.by)
    return str(place.call(dial))


def serve_page(running: Running) -> None:
    """A web server in the internet, where the middle will be."""
    running.at(running.lab.internet).start(
        "page", "python3", "-u", "-m", "http.server", MIDDLE_PORT, "--bind", MIDDLES[0],
        ready="Serving HTTP",
    )  # fmt: skip


def test_no_packet_passes_a_firewall_by_itself(
    lab: Laboratory, running: Running, services: Services
) -> None:
    serve_page(running)
    tried = attempts(lab)
    before = lab.counters()
    with ThreadPoolExecutor(len(tried)) as pool:
        outcomes = list(pool.map(lambda attempt: outcome(lab, attempt), tried))
    after = lab.counters()
    assert dict(zip(tried, outcomes, strict=True)) == dict.fromkeys(tried, "dropped")
    expected = {attempt.counter for attempt in tried}
    assert expected == set(before), "there is an attempt for each counter"
    for counter in expected:
        least = sum(1 for attempt in tried if attempt.counter == counter)
        assert after[counter] - before[counter] >= least, counter


@pytest.mark.parametrize(
    ("by", "to", "counter"),
    [
        ("internet", WIKI, "a into_company"),
        ("internet", WORKPLACE_B, "b into_company"),
        ("company_a", WORKPLACE_B, "a out_of_company"),
        ("company_b", WORKPLACE_A, "b out_of_company"),
    ],
)
def test_no_datagram_passes_either(lab: Laboratory, by: str, to: str, counter: str) -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", (to, 53))

    before = lab.counters()[counter]
    getattr(lab, by).call(send)
    deadline = time.monotonic() + 5
    while lab.counters()[counter] == before:
        assert time.monotonic() < deadline, "the firewall has not seen it"


@pytest.fixture
def open_lab() -> Iterator[Laboratory]:
    """Another laboratory whose firewalls have no rules."""
    with Laboratory() as laboratory:
        for firewall in (laboratory.firewall_a, laboratory.firewall_b):
            firewall.run(["nft", "flush", "ruleset"])
        yield laboratory


@pytest.mark.parametrize(
    ("by", "to"), [("internet", WIKI), ("company_b", WIKI), ("company_a", WORKPLACE_B)]
)
def test_without_the_rules_there_would_be_a_way(open_lab: Laboratory, by: str, to: str) -> None:
    owner = open_lab.company_a if to == WIKI else open_lab.company_b
    with owner.call(lambda: socket.create_server((to, 80))):
        assert outcome(open_lab, Attempt(by, to, 80, "")) == "connected"


def test_the_proxies_let_through_who_knows_the_password(lab: Laboratory, running: Running) -> None:
    serve_page(running)
    url = f"http://{MIDDLES[0]}:{MIDDLE_PORT}/"
    curl = ("curl", "--silent", "--show-error", "--max-time", 10, "--proxy-user")
    socks = ("--socks5", f"{firewalls.INSIDE_A}:{firewalls.SOCKS_PORT}")
    connect = ("--proxytunnel", "--proxy", f"{firewalls.INSIDE_B}:{firewalls.CONNECT_PORT}")
    for place, proxy, status in ((lab.company_a, socks, 97), (lab.company_b, connect, 56)):
        assert "Directory listing" in place.run([*curl, CREDENTIALS, *proxy, url]).stdout
        refused = place.run([*curl, f"{firewalls.USER}:guess", *proxy, url], check=False)
        assert refused.returncode == status, refused.stderr
        assert "Directory listing" not in refused.stdout


def test_firewall_b_connects_to_port_443_only(lab: Laboratory) -> None:
    proxy = f"{firewalls.INSIDE_B}:{firewalls.CONNECT_PORT}"
    refused = lab.company_b.run(
        [
            *("curl", "--silent", "--show-error", "--max-time", 10, "--proxy-user", CREDENTIALS),
            *("--proxytunnel", "--proxy", proxy, f"http://{MIDDLES[0]}:8443/"),
        ],
        check=False,
    )
    assert "response 403" in refused.stderr
