"""Devices, an operator's proxy and a domain proxy: real processes, real clients (W1 to W8)."""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random

import pytest

from tests.acceptance.processes import Identities, Processes, Role, WebServer
from tests.acceptance.wtls import (
    CLIENTS,
    Backwards,
    Device,
    Domain,
    LossyRelay,
    free_udp_port,
    in_memory,
    start_domain,
    start_operator,
)

SECRET = "the balance is 7"
COME_AGAIN = "5.03 end-to-end security is required"


@pytest.fixture
def operator_ca(identities: Identities) -> Path:
    identities("operator")
    return identities.directory / "ca.pem"


@pytest.fixture
def domain(processes: Processes, web: WebServer) -> Domain:
    """The domain proxy of bank.example, whose server is ``web``."""
    (web.directory / "account").write_text(SECRET)
    return start_domain(processes, f"bank.example=http://127.0.0.1:{web.port}")


@pytest.fixture
def operator(processes: Processes, identities: Identities, domain: Domain) -> Role:
    return start_operator(processes, identities, domain=domain.place)


# -- ordinary service (W1, W2) --------------------------------------------------


@pytest.mark.parametrize("program", CLIENTS)
def test_ordinary_pages_of_any_size_and_refusals(
    processes: Processes,
    identities: Identities,
    web: WebServer,
    operator_ca: Path,
    tmp_path: Path,
    program: str,
) -> None:
    (web.directory / "page").write_text("an ordinary page")
    web.add("large", 65_536)
    there = f"http://127.0.0.1:{web.port}"
    proxy = start_operator(processes, identities, "--allow", f"tcp:127.0.0.1:{web.port}")
    device = Device(proxy.address("listening on"), program=program)
    assert device.asks(f"{there}/page", operator_ca) == "an ordinary page"
    device.asks(f"{there}/large", operator_ca, "-o", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == (web.directory / "large").read_bytes()
    assert device.asks(f"{there}/nowhere", operator_ca).startswith("4.04")
    assert device.asks("http://127.0.0.1:9/", operator_ca).startswith("4.03 no rule allows")
    assert device.asks("ftp://127.0.0.1/", operator_ca).startswith("5.05")
    proxy.wait_for(r'peer=127.0.0.1:\d+ destination=tcp:127.0.0.1:\d+ sent=16 .*"GET 200 2.05"')


def test_a_body_of_64_kib_goes_there_and_comes_back(
    processes: Processes, identities: Identities, operator_ca: Path, tmp_path: Path
) -> None:
    server = Backwards()
    processes.on_end(server.close)
    proxy = start_operator(processes, identities, "--allow", f"tcp:127.0.0.1:{server.port}")
    device = Device(proxy.address("listening on"))
    body = bytes(range(256)) * 256
    (tmp_path / "sent").write_bytes(body)
    url = f"http://127.0.0.1:{server.port}/"
    words = ("-m", "post", "-b", "512", "-f", tmp_path / "sent", "-o", tmp_path / "got")
    device.asks(url, operator_ca, *words)
    assert (tmp_path / "got").read_bytes() == body[::-1]


# -- secure servers (W3, W4, W5, W6) ---------------------------------------------


@pytest.mark.parametrize("program", CLIENTS)
def test_a_device_that_runs_twice_reads_the_secure_page_through_the_tunnel(
    operator: Role, domain: Domain, operator_ca: Path, program: str
) -> None:
    device = Device(operator.address("listening on"), program=program)
    url = "https://bank.example/account"
    assert device.asks(url, operator_ca).startswith(COME_AGAIN)
    assert device.asks(url, domain.ca) == SECRET
    operator.wait_for(rf"peer=127.0.0.1:{device.port} destination=udp:{domain.place} .*ended it")
    assert not any("tcp:" in line for line in operator.process.lines)


def test_the_page_is_never_in_the_memory_of_the_operators_proxy(
    operator: Role, domain: Domain, operator_ca: Path
) -> None:
    device, url = Device(operator.address("listening on")), "https://bank.example/account"
    assert device.asks(url, operator_ca).startswith(COME_AGAIN)
    assert device.asks(url, domain.ca) == SECRET
    operator.wait_for("the domain proxy ended it")
    assert in_memory(operator.process.child.pid, b"bank.example")
    assert not in_memory(operator.process.child.pid, SECRET.encode())


def test_an_operator_that_goes_on_terminating_is_refused(
    processes: Processes, identities: Identities, domain: Domain, web: WebServer, operator_ca: Path
) -> None:
    proxy = start_operator(processes, identities, "--allow", f"tcp:127.0.0.1:{web.port}")
    device = Device(proxy.address("listening on"))
    url = f"http://127.0.0.1:{web.port}/account"
    assert device.asks(url, operator_ca) == SECRET
    said = device.asks(url, domain.ca, limit=3)
    assert SECRET not in said
    assert "unknown CA" in device.asks(url, domain.ca, "-v", "6", limit=3)


def test_a_domain_proxy_serves_its_domain_only_and_then_the_operator_serves_again(
    processes: Processes, identities: Identities, domain: Domain, web: WebServer, operator_ca: Path
) -> None:
    (web.directory / "page").write_text("an ordinary page")
    operator = start_operator(
        processes, identities, "--allow", f"tcp:127.0.0.1:{web.port}", domain=domain.place
    )
    device = Device(operator.address("listening on"))
    ordinary = f"http://127.0.0.1:{web.port}/page"
    assert device.asks("https://bank.example/account", operator_ca).startswith(COME_AGAIN)
    assert device.asks(ordinary, domain.ca).startswith("5.03 not of this domain")
    operator.wait_for("the domain proxy ended it")
    assert device.asks(ordinary, operator_ca) == "an ordinary page"


def test_of_two_devices_at_one_address_one_is_tunnelled_and_one_is_served(
    processes: Processes, identities: Identities, domain: Domain, web: WebServer, operator_ca: Path
) -> None:
    (web.directory / "page").write_text("an ordinary page")
    operator = start_operator(
        processes, identities, "--allow", f"tcp:127.0.0.1:{web.port}", domain=domain.place
    )
    first, second = (Device(operator.address("listening on")) for _ in range(2))
    url, ordinary = "https://bank.example/account", f"http://127.0.0.1:{web.port}/page"
    assert first.asks(url, operator_ca).startswith(COME_AGAIN)
    assert second.asks(ordinary, operator_ca) == "an ordinary page"
    assert first.asks(url, domain.ca) == SECRET
    assert second.asks(ordinary, operator_ca) == "an ordinary page"


def test_a_device_from_another_port_is_told_again_and_its_first_port_still_leads_there(
    operator: Role, domain: Domain, operator_ca: Path
) -> None:
    where, url = operator.address("listening on"), "https://bank.example/account"
    first, second = Device(where), Device(where)
    assert first.asks(url, operator_ca).startswith(COME_AGAIN)
    assert second.asks(url, operator_ca).startswith(COME_AGAIN)
    assert first.asks(url, domain.ca) == SECRET
    assert second.asks(url, domain.ca) == SECRET


def test_a_device_that_always_takes_a_new_port_is_recognised_in_the_end(
    operator: Role, domain: Domain, operator_ca: Path
) -> None:
    where, url = operator.address("listening on"), "https://bank.example/account"
    for _ in range(3):
        assert Device(where).asks(url, operator_ca).startswith(COME_AGAIN)
    assert Device(where).asks(url, domain.ca) == SECRET


def test_a_domain_proxy_that_is_down_costs_one_5_04(
    processes: Processes, identities: Identities, operator_ca: Path
) -> None:
    nobody = f"127.0.0.1:{free_udp_port()}"
    operator = start_operator(processes, identities, domain=nobody)
    device, url = Device(operator.address("listening on")), "https://bank.example/account"
    assert device.asks(url, operator_ca).startswith(COME_AGAIN)
    operator.wait_for("the domain proxy did not answer")
    assert device.asks(url, operator_ca).startswith("5.04 the domain proxy did not answer")
    assert device.asks(url, operator_ca).startswith(COME_AGAIN)


def test_without_a_map_key_there_is_no_tunnel(
    processes: Processes, identities: Identities, operator_ca: Path
) -> None:
    operator = start_operator(processes, identities, "--secure", "bank.example=127.0.0.1:9")
    device = Device(operator.address("listening on"))
    assert device.asks("https://bank.example/", operator_ca).startswith("5.02 there is no map key")
    operator.wait_for("cannot be tunnelled to 127.0.0.1:9")


def test_a_domain_proxy_that_restarted_knows_the_devices_again(
    processes: Processes, identities: Identities, web: WebServer, operator_ca: Path
) -> None:
    (web.directory / "account").write_text(SECRET)
    origin, listen = f"bank.example=http://127.0.0.1:{web.port}", f"127.0.0.1:{free_udp_port()}"
    first = start_domain(processes, origin, listen=listen)
    operator = start_operator(processes, identities, domain=first.place)
    device, url = Device(operator.address("listening on")), "https://bank.example/account"
    assert device.asks(url, operator_ca).startswith(COME_AGAIN)
    first.proxy.process.kill()
    second = start_domain(processes, origin, listen=listen, identities=first.identities)
    assert device.asks(url, second.ca) == SECRET


def test_the_time_to_live_ends_the_tunnel_and_the_device_is_served_again(
    processes: Processes, identities: Identities, domain: Domain, web: WebServer, operator_ca: Path
) -> None:
    (web.directory / "page").write_text("an ordinary page")
    operator = start_operator(
        processes, identities, "--allow", f"tcp:127.0.0.1:{web.port}", "--ttl", "3",
        domain=domain.place,
    )  # fmt: skip
    device, url = Device(operator.address("listening on")), "https://bank.example/account"
    assert device.asks(url, operator_ca).startswith(COME_AGAIN)
    # It begins and is never heard of again: no goodbye, so no END.
    stranger = Device(operator.address("listening on"), port=device.port)
    stranger.says_hello()
    operator.wait_for("its time is over")
    assert device.asks(f"http://127.0.0.1:{web.port}/page", operator_ca) == "an ordinary page"


def test_a_lost_5_03_is_repeated_and_means_the_same(
    processes: Processes, operator: Role, domain: Domain, operator_ca: Path
) -> None:
    answers: list[bytes] = []

    def loses(upwards: bool, data: bytes) -> bool:
        """The first application data towards the device."""
        if upwards or data[0] != 23:
            return False
        answers.append(data)
        return len(answers) == 1

    relay = LossyRelay(operator.address("listening on"), loses)
    processes.on_end(relay.close)
    device, url = Device(relay.place), "https://bank.example/account"
    assert device.asks(url, operator_ca).startswith(COME_AGAIN)
    assert len(answers) == 2
    assert device.asks(url, domain.ca) == SECRET


def test_a_tenth_of_the_datagrams_lost_each_way(
    processes: Processes, operator: Role, domain: Domain, operator_ca: Path
) -> None:
    chance = Random(4)
    relay = LossyRelay(operator.address("listening on"), lambda up, data: chance.random() < 0.1)
    processes.on_end(relay.close)
    device, url = Device(relay.place), "https://bank.example/account"
    assert device.asks(url, operator_ca, limit=60).startswith(COME_AGAIN)
    assert device.asks(url, domain.ca, limit=60) == SECRET


@pytest.mark.parametrize("name", ["localhost", "elsewhere.example"])
def test_the_secure_server_is_asked_by_https_and_its_certificate_is_checked(
    processes: Processes, identities: Identities, operator_ca: Path, tmp_path: Path, name: str
) -> None:
    server = Backwards(identities(name))
    processes.on_end(server.close)
    trusted = {"SSL_CERT_FILE": str(identities.directory / "ca.pem")}
    origin = f"bank.example=https://localhost:{server.port}"
    domain = start_domain(processes, origin, env=trusted)
    operator = start_operator(processes, identities, domain=domain.place)
    device, url = Device(operator.address("listening on")), "https://bank.example/"
    assert device.asks(url, operator_ca).startswith(COME_AGAIN)
    said = device.asks(url, domain.ca, "-m", "post", "-e", "forwards")
    if name == "localhost":
        assert said == "forwards"[::-1]
    else:
        assert said.startswith(("5.02 the server cannot be used", "4.03"))
        domain.proxy.wait_for("for another name")


def test_what_is_under_way_is_answered_before_a_proxy_ends(
    processes: Processes, identities: Identities, operator_ca: Path
) -> None:
    server = Backwards(wait=threading.Event())
    processes.on_end(server.close)
    proxy = start_operator(processes, identities, "--allow", f"tcp:127.0.0.1:{server.port}")
    device, url = Device(proxy.address("listening on")), f"http://127.0.0.1:{server.port}/"
    answers: list[str] = []
    asking = threading.Thread(
        target=lambda: answers.append(device.asks(url, operator_ca, "-m", "post", "-e", "forwards"))
    )
    asking.start()
    assert server.asked.wait(20)
    proxy.process.child.terminate()
    proxy.wait_for("Ending")
    server.go()
    asking.join()
    assert answers == ["forwards"[::-1]]
    assert proxy.process.wait() == 0


@pytest.mark.parametrize("signal", ["terminated", "killed"])
def test_a_role_ends_in_order_with_devices_in_it(
    operator: Role, domain: Domain, operator_ca: Path, signal: str
) -> None:
    device, url = Device(operator.address("listening on")), "https://bank.example/account"
    assert device.asks(url, operator_ca).startswith(COME_AGAIN)
    if signal == "terminated":
        assert operator.process.stop() == 0
        assert domain.proxy.process.stop() == 0
    else:
        operator.process.kill()
        assert domain.proxy.process.stop() == 0


def test_the_identity_may_be_open_to_others_and_an_older_list_is_not_believed(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    """As at every other role: U-12, X30."""
    state = tmp_path / "state"
    state.mkdir()
    own = Identities.create(tmp_path / "own")
    identity, _ = own("proxy"), own("device")
    identity.chmod(0o444)
    older = own.revoked.read_bytes()
    own.revoke("device")
    options = ("wtls-proxy", "--listen", "127.0.0.1:0", "--identity", identity)
    more = ("--state-dir", state, "--crl", own.revoked, "--allow", "tcp:127.0.0.1:9")
    refused = processes.role(*options, *more, wait=False)
    assert refused.process.wait(20) == 2
    refused.wait_for("others")
    proxy = processes.role(*options, *more, "--identity-mode", "any")
    assert (state / "crl-numbers.json").exists()
    own.revoked.write_bytes(older)
    proxy.wait_for("was seen before.*: nobody with a certificate gets in")
