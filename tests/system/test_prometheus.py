"""A real Prometheus scrapes a role of every kind (row O7)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.acceptance.applications import wait_until
from tests.acceptance.communication import start_server
from tests.acceptance.processes import (
    Identities,
    Processes,
    Role,
    WebServer,
    fetches,
)
from tests.acceptance.tunnels import start_client_end, start_server_end, start_usher_tunnel
from tests.acceptance.wtls import start_domain, start_operator
from tests.services.test_metrics import FROZEN, OF_THE_PROCESS
from tunnelkit.net.role_status import declared
from tunnelkit.roles.registry import roles

RULES = Path(__file__).resolve().parents[2] / "examples" / "prometheus" / "rules.yml"
WITHOUT = {"tunnel-end"}
"""Needs plug-ins of somebody else."""


class Prometheus:
    """One that scrapes ``roles`` each second."""

    def __init__(self, processes: Processes, roles: list[Role]) -> None:
        jobs = []
        for number, role in enumerate(roles):
            found = role.process.wait_for(r"Status at http://(\S+)/, token in (\S+)")
            jobs.append(
                {
                    "job_name": f"tunnelkit-{number}",
                    "authorization": {"credentials_file": found[2]},
                    "static_configs": [{"targets": [found[1]]}],
                }
            )
        config = processes.directory / "prometheus.json"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(RULES)],
                    "scrape_configs": jobs,
                }
            )
        )
        self.process = processes.start(
            "prometheus", "prometheus", f"--config.file={config}",
            f"--storage.tsdb.path={processes.directory / 'tsdb'}",
            "--web.listen-address=127.0.0.1:0",
        )  # fmt: skip
        port = self.process.wait_for(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')[1]
        self.process.wait_for("Server is ready to receive web requests")
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def ask(self, path: str, **query: str) -> Any:
        """``data`` of an answer."""
        with urlopen(f"{self._url}{path}?{urlencode(query)}", timeout=20) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        """The one number that it is now."""
        found = self.ask("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def until(self, expression: str, is_right: Callable[[float], bool]) -> None:
        """Wait until it is so."""

        def right() -> bool:
            found = self.value(expression)
            return found is not None and is_right(found)

        assert wait_until(right), (expression, self.value(expression))


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts programs outside of the laboratory."""
    with Processes(tmp_path) as running:
        yield running


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    """Of a CA of its own."""
    return Identities.create(tmp_path / "keys")


@pytest.fixture
def web(processes: Processes) -> WebServer:
    """A web server with nothing in it yet."""
    return WebServer.among(processes)


def start_all(processes: Processes, identities: Identities, web: WebServer) -> dict[str, Role]:
    """A role of every kind, with ends that forward to ``web``."""
    allow = [f"tcp:127.0.0.1:{web.port}"]
    forward = ("--forward", f"0=tcp:127.0.0.1:{web.port}")

    def status(name: str) -> tuple[object, ...]:
        token = processes.directory / f"{name}.token"
        return ("--status", "127.0.0.1:0", "--status-token-file", token)

    middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0", *status("middle"))
    far = start_server_end(processes, identities, middle, allow, *status("far"))
    near = start_client_end(processes, identities, middle, *forward, *status("near"))
    usher = start_usher_tunnel(
        processes, identities, allow, *forward, *status("portal"), server=status("gate")
    )
    communication = start_server(processes, identities, *status("server"))
    published = ("--publish", "tunnel", "--peer", "client", "--allow", *allow)
    communication.client("server", *published)
    communication.role.process.wait_for("action=publish what=tunnel allowed=True")
    session = communication.client("client", "--target", "server", *forward, *status("session"))
    domain = start_domain(processes, "bank.example=http://127.0.0.1:9", options=status("domain"))
    operator = start_operator(processes, identities, *status("operator"), domain=domain.place)
    return {
        "lstp-middle": middle, "lstp-server-end": far, "lstp-client-end": near,
        "usher-gate": usher.server, "usher-portal": usher.client,
        "secure-proxy-server": communication.role, "secure-proxy-client": session,
        "wtls-domain-proxy": domain.proxy, "wtls-proxy": operator,
    }  # fmt: skip


@pytest.mark.timeout(150)
def test_a_prometheus_scrapes_every_role(
    processes: Processes, identities: Identities, web: WebServer
) -> None:
    running = start_all(processes, identities, web)
    assert running.keys() == roles().keys() - WITHOUT
    size = 100_000
    sha256 = web.add("file", size)
    prometheus = Prometheus(processes, list(running.values()))
    ends = [name for name in running if name.endswith(("client-end", "portal", "proxy-client"))]
    for name in ends:
        assert fetches(running[name], sha256)
    prometheus.until("count(up == 1)", lambda found: found == len(running))
    for name in ends:
        one = f'role="{name}"'
        received = f'sum(tunnelkit_bytes_total{{{one},direction="received"}})'
        prometheus.until(received, lambda found: found >= size)
        prometheus.until(f"tunnelkit_tunnel_up{{{one}}}", lambda found: found == 1)
        prometheus.until(f"tunnelkit_round_trip_seconds{{{one}}}", lambda found: 0 < found < 40)
        prometheus.until(f"tunnelkit_open_seconds_count{{{one}}}", lambda found: found == 1)
    measured = set(prometheus.ask("label/__name__/values"))
    for kind in FROZEN:
        for metric in declared(kind):
            suffix = "_count" if metric.is_histogram else ""
            assert f"tunnelkit_{metric.name}{suffix}" in measured
    assert {f"tunnelkit_{name}" for name in OF_THE_PROCESS} <= measured
    labels = set(prometheus.ask("labels", **{"match[]": '{__name__=~"tunnelkit_.*"}'}))
    bounded = {"role", "tunnel", "peer", "direction", "outcome", "reason"}
    assert labels <= bounded | {"__name__", "instance", "job", "le"}
    # The alerts are evaluated, and one fires once a role is gone.
    (group,) = prometheus.ask("rules")["groups"]
    assert all(rule["health"] != "err" for rule in group["rules"]), group
    running["lstp-middle"].process.kill()
    prometheus.until('tunnelkit_tunnel_up{role="lstp-client-end"}', lambda found: found == 0)
    prometheus.until("count(up == 0)", lambda found: found == 1)
    pending = 'ALERTS{alertname="TunnelkitTunnelIsDown",role="lstp-client-end"}'
    prometheus.until(pending, lambda found: found == 1)
