"""A snapshot as Prometheus and OpenMetrics have it; the names are promised to dashboards."""

from __future__ import annotations

import re

import attrs
from twisted.internet import reactor

from tunnelkit.net.role_status import RoleStatus, metric
from tunnelkit.roles.end_status import EndStatus
from tunnelkit.roles.lstp_middle import LstpMiddleStatus
from tunnelkit.roles.secure_proxy_server import SecureProxyServerStatus
from tunnelkit.roles.wtls_domain_proxy import WtlsDomainProxyStatus
from tunnelkit.roles.wtls_proxy import WtlsProxyStatus
from tunnelkit.services.metrics import process_samples, rendered

FROZEN = {
    EndStatus: {
        "bytes_total", "channel_opens_total", "channels_broken_total", "channels_draining",
        "channels_open",
        "connections_open", "connects_total",
    },
    LstpMiddleStatus: {
        "ends_waiting", "not_admitted_total", "pairs_open", "pairs_total", "relayed_bytes_total",
        "setups_open",
    },
    SecureProxyServerStatus: {
        "clients_present", "nameless_open", "relayed_bytes_total", "sessions_open",
    },
    WtlsProxyStatus: {
        "associations_open", "datagrams_dropped_total", "handshakes_refused_total", "tunnels_open",
    },
    WtlsDomainProxyStatus: {
        "associations_open", "datagrams_dropped_total", "handshakes_refused_total",
        "mappings_open",
    },
}  # fmt: skip
OF_THE_PROCESS = {
    "file_descriptors_limit", "file_descriptors_open", "process_cpu_seconds_total",
    "process_resident_memory_bytes", "timers_pending",
}  # fmt: skip


@attrs.frozen(kw_only=True)
class KettleStatus(RoleStatus):
    tunnel: str
    tea: int = metric("boils_total", "Times it boiled", outcome="tea")
    soup: int = metric("boils_total", "Times it boiled", outcome="soup")


KETTLE = KettleStatus(role="kettle", tunnel='a"b\\c\nd', tea=7, soup=1)
LABELS = r'role="kettle",tunnel="a\"b\\c\nd"'


def test_the_names_of_metrics_do_not_change() -> None:
    found = {
        kind: {
            one.name
            for field in attrs.fields(kind)
            for one in field.metadata.values()
        }
        for kind in FROZEN
    }  # fmt: skip
    assert found == FROZEN
    assert {one.name for one, _ in process_samples(reactor)} == OF_THE_PROCESS


def test_prometheus_text_has_each_family_once_and_escapes_labels() -> None:
    text = rendered(KETTLE, reactor).decode("utf-8")
    assert text.startswith(
        "# HELP tunnelkit_boils_total Times it boiled\n"
        "# TYPE tunnelkit_boils_total counter\n"
        f'tunnelkit_boils_total{{{LABELS},outcome="tea"}} 7\n'
        f'tunnelkit_boils_total{{{LABELS},outcome="soup"}} 1\n'
    )
    families = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(families) == len(set(families)) == 1 + len(OF_THE_PROCESS)
    assert "# EOF" not in text


def test_openmetrics_names_the_family_without_total_and_says_where_it_ends() -> None:
    text = rendered(KETTLE, reactor, openmetrics=True).decode("utf-8")
    assert "# TYPE tunnelkit_boils counter\n" in text
    assert f'tunnelkit_boils_total{{{LABELS},outcome="tea"}} 7\n' in text
    assert text.endswith("\n# EOF\n")
