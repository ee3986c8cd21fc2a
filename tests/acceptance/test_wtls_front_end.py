"""The operator's proxy at an end, over every transport (rows W9, F8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.processes import Identities, Processes, WebServer
from tests.acceptance.tunnels import Transport
from tests.acceptance.wtls import CLIENTS, Device, free_udp_port, map_keys, start_domain

SECRET = "the balance is 7"
URL = "https://bank.example/account"


def front_end(processes: Processes, identities: Identities, place: str) -> list[object]:
    """The options of an end that is the operator's proxy for the domain proxy at ``place``."""
    return [
        "--wtls", "0", "--wtls-identity", identities("operator"),
        "--wtls-secure", f"bank.example={place}",
        "--wtls-map-key-file", map_keys(processes.directory, place),
    ]  # fmt: skip


@pytest.mark.parametrize("program", CLIENTS)
def test_pages_and_the_tunnel_mode_of_devices_go_through_a_tunnel(
    processes: Processes,
    identities: Identities,
    web: WebServer,
    transport: Transport,
    program: str,
    tmp_path: Path,
) -> None:
    (web.directory / "account").write_text(SECRET)
    web.add("large", 65_536)
    page = f"http://127.0.0.1:{web.port}/large"
    domain = start_domain(processes, f"bank.example=http://127.0.0.1:{web.port}")
    allowed = [f"tcp:127.0.0.1:{web.port}", f"udp:{domain.place}"]
    tunnel = transport(allowed, *front_end(processes, identities, domain.place))
    ca = identities.directory / "ca.pem"
    device = Device(tunnel.client.address("wtls"), program=program)
    device.asks(page, ca, "-o", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == (web.directory / "large").read_bytes()
    assert device.asks(URL, ca).startswith("5.03 end-to-end security is required")
    assert device.asks(URL, domain.ca) == SECRET
    tunnel.server.wait_for(rf"channel in peer=client destination=tcp:127.0.0.1:{web.port} ")
    tunnel.client.wait_for(f"destination=udp:{domain.place} .*the domain proxy ended it")
    assert device.asks(page.replace("large", "none"), ca).startswith("4.04")


def test_what_the_far_side_does_not_allow_is_refused_there(
    processes: Processes, identities: Identities, web: WebServer, transport: Transport
) -> None:
    domain = start_domain(processes, f"bank.example=http://127.0.0.1:{web.port}")
    tunnel = transport(["tcp:127.0.0.1:9"], *front_end(processes, identities, domain.place))
    ca = identities.directory / "ca.pem"
    device = Device(tunnel.client.address("wtls"))
    page = f"http://127.0.0.1:{web.port}/"
    assert device.asks(page, ca).startswith("4.03 no rule allows this")
    tunnel.server.wait_for(f"no rule allows client to connect tcp .127.0.0.1.:{web.port}")
    assert device.asks(URL, ca).startswith("5.03 end-to-end security is required")
    tunnel.server.wait_for("no rule allows client any UDP")
    # LSTP says so at once; over Usher it is as if nobody answered.
    tunnel.client.wait_for("No way to the domain proxy|the domain proxy did not answer")
    assert device.asks(URL, ca).startswith("5.04 the domain proxy did not answer")


def test_a_reload_exchanges_what_is_secure_on_the_same_port(
    processes: Processes, identities: Identities, web: WebServer, transport: Transport
) -> None:
    (web.directory / "account").write_text(SECRET)
    domain = start_domain(processes, f"bank.example=http://127.0.0.1:{web.port}")
    settings = processes.directory / "client.toml"
    port = free_udp_port()

    def write(secure: str) -> None:
        new = settings.with_suffix(".new")
        new.write_text(
            f'wtls = {port}\nwtls-identity = "{identities("operator")}"\n'
            f'wtls-secure = ["{secure}={domain.place}"]\n'
            f'wtls-map-key-file = "{map_keys(processes.directory, domain.place)}"\n'
        )
        new.replace(settings)

    write("shop.example")
    tunnel = transport([f"udp:{domain.place}"], "--config", settings)
    ca = identities.directory / "ca.pem"
    device = Device(tunnel.client.address("wtls"))
    assert device.asks(URL, ca).startswith("4.03")
    write("bank.example")
    tunnel.client.wait_for("Reloaded: ")
    assert device.asks(URL, ca).startswith("5.03 end-to-end security is required")
    assert device.asks(URL, domain.ca) == SECRET
