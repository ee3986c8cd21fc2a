"""What the internet sees of a tunnel, and what an end says when its proxy refuses it (L1, L2)."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.test_lstp_what_the_middle_sees import clear_text, record_types
from tests.system import firewalls
from tests.system.capture import Capture, streams
from tests.system.crossings import (
    CROSSINGS,
    Running,
    Start,
    lstp_options,
    password_file,
    start_lstp,
)
from tests.system.laboratory import MIDDLE_PORT, MIDDLES, Laboratory
from tests.system.seen import CANARY, SECRETS, packets_of_a_fetch
from tests.system.services import EVERYTHING, HTTP, MIB, Services

MIDDLE = (MIDDLES[0], MIDDLE_PORT)


def test_the_internet_sees_setup_and_then_nothing_but_tls(
    lab: Laboratory, running: Running, services: Services
) -> None:
    size = 4 * MIB
    packets = packets_of_a_fetch(lab, running, services, start_lstp, size)
    # TCP between the firewalls and the middle, and not a packet more.
    assert {packet.protocol for packet in packets} == {6}
    parties = {packet.source for packet in packets} | {packet.destination for packet in packets}
    assert MIDDLE in parties
    firewall_addresses = {"198.51.100.2", lab.leg.far_address}
    assert {address for address, _ in parties - {MIDDLE}} == firewall_addresses
    found = streams(packets)
    assert max(map(len, found.values())) > size
    protected = 0
    for stream in found.values():
        messages, rest = clear_text(stream)
        kinds = [kind for kind, _ in messages if kind != "PROPERTY_EXCHANGE"]
        assert kinds == ["COMMON_UNIQUE_INFO", "TOPOLOGY_EXCHANGE"]
        protected += bool(record_types(rest))
        for secret in SECRETS:
            assert secret not in stream
            assert secret.decode() not in json.dumps(messages)
    # The others are from the server end, which waits for further partners.
    assert protected == 4


@pytest.mark.parametrize("start", CROSSINGS.values(), ids=CROSSINGS)
def test_nobody_on_the_way_can_read_what_passes(
    lab: Laboratory, running: Running, services: Services, start: Start
) -> None:
    (services.pages / "secret").write_bytes(CANARY * 100)
    capture = Capture(lab.internet)  # the loopback too: what the parties there say to themselves
    try:
        crossing = start(running, EVERYTHING, [HTTP])
        host, port = crossing.forward()
        copy = lab.company_b.run(["curl", "-sS", f"http://{host}:{port}/secret"]).stdout
        assert copy.encode() == CANARY * 100
        packets = capture.stop()
    finally:
        capture.close()
    found = streams(packets)
    assert sum(len(stream) > len(copy) for stream in found.values()) >= 1
    for stream in found.values():
        for secret in SECRETS:
            assert secret not in stream


@pytest.mark.parametrize("company", ["a", "b"])
def test_a_wrong_proxy_password_is_one_clear_line(
    lab: Laboratory, running: Running, company: str
) -> None:
    place = lab.company_a if company == "a" else lab.company_b
    options = [*lstp_options(running, place, "laptop", "office"), "--socks", "0"]
    password_file(place, "guess")  # in place of the right one
    end = running.at(place).role("lstp-client-end", *options, wait=False)
    line = end.wait_for("cannot reach the middle").string
    proxy = (firewalls.VIA_A if company == "a" else firewalls.VIA_B).replace("clerk@", "")
    assert f"proxy {proxy} refused to connect to {MIDDLE[0]}:{MIDDLE_PORT}" in line
    assert "it does not accept the user name and password" in line
    assert "trying again in" in line
    assert not end.process.stop()
    written = end.process.log
    assert "guess" not in written
    assert "Traceback" not in written
    about = [line for line in end.process.lines if "proxy" in line and "refused" in line]
    assert all(line.count("refused") == 1 for line in about)


def test_a_port_that_firewall_b_forbids_is_one_clear_line(
    lab: Laboratory, running: Running
) -> None:
    where = f"{MIDDLES[0]}:8443"
    options = list(lstp_options(running, lab.company_b, "laptop", "office"))
    options[options.index("--middle") + 1] = where
    processes = running.at(lab.company_b)
    end = processes.role("lstp-client-end", *options, "--socks", "0", wait=False)
    line = end.wait_for("cannot reach the middle").string
    proxy = f"http://{firewalls.INSIDE_B}:{firewalls.CONNECT_PORT}"
    assert f"proxy {proxy} refused to connect to {where}: HTTP/1.1 403 Forbidden" in line


def test_without_the_proxy_an_end_does_not_get_out(lab: Laboratory, running: Running) -> None:
    options = list(lstp_options(running, lab.company_b, "laptop", "office"))
    for option in ("--via", "--via-password-file"):
        position = options.index(option)
        del options[position : position + 2]
    before = lab.counters()["b out_of_company"]
    processes = running.at(lab.company_b)
    end = processes.role("lstp-client-end", *options, "--socks", "0", wait=False)
    assert "no answer within 15 s" in end.wait_for("cannot reach the middle", limit=40).string
    assert lab.counters()["b out_of_company"] > before
