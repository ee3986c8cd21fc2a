"""A snapshot as Prometheus and OpenMetrics have it; the names are promised to dashboards."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs
from twisted.internet import reactor

from tunnelkit.net.role_status import (
    Durations,
    Histogram,
    RoleStatus,
    declared,
    durations,
    metric,
    metric_by,
)
from tunnelkit.roles.end_status import EndStatus
from tunnelkit.roles.lstp_middle import LstpMiddleStatus
from tunnelkit.roles.secure_proxy_server import SecureProxyServerStatus
from tunnelkit.roles.wtls_domain_proxy import WtlsDomainProxyStatus
from tunnelkit.roles.wtls_proxy import WtlsProxyStatus
from tunnelkit.services.metrics import LINES, process_samples, rendered

FROZEN = {
    EndStatus: {
        "authorize_denied_total", "bytes_total", "certificate_expiry_seconds",
        "channel_opens_total", "channels_broken_total", "channels_draining", "channels_open",
        "connections_open", "handshakes_rejected_total", "open_seconds", "path_bytes_in_flight",
        "queued_bytes", "revocation_list_age_seconds", "revocation_list_usable",
        "round_trip_seconds", "tunnel_connects_total", "tunnel_up",
    },
    LstpMiddleStatus: {
        "ends_waiting", "handshakes_rejected_total", "not_admitted_total", "pairs_open",
        "pairs_total", "relayed_bytes_total", "setups_open",
    },
    SecureProxyServerStatus: {
        "authorize_denied_total", "certificate_expiry_seconds", "clients_present",
        "handshakes_rejected_total", "nameless_open", "relayed_bytes_total",
        "revocation_list_age_seconds", "revocation_list_usable", "sessions_open",
    },
    WtlsProxyStatus: {
        "associations_open", "authorize_denied_total", "certificate_expiry_seconds",
        "datagrams_dropped_total", "handshakes_rejected_total", "revocation_list_age_seconds",
        "revocation_list_usable", "tunnels_open",
    },
    WtlsDomainProxyStatus: {
        "associations_open", "authorize_denied_total", "certificate_expiry_seconds",
        "datagrams_dropped_total", "handshakes_rejected_total", "mappings_open",
        "revocation_list_age_seconds", "revocation_list_usable",
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
    boiling: Histogram = durations("boiling_seconds", "Until it boiled")


@attrs.frozen(kw_only=True)
class TableStatus(RoleStatus):
    spilt: Mapping[str, int] = metric_by("reason", "spills_total", "Cups spilt")


TOOK = Durations()
for seconds in (0.002, 0.25, 100.0):
    TOOK.add(seconds)
KETTLE = KettleStatus(role="kettle", tunnel='a"b\\c\nd', tea=7, soup=1, boiling=TOOK.snapshot())
LABELS = r'role="kettle",tunnel="a\"b\\c\nd"'


def test_the_names_of_metrics_do_not_change() -> None:
    assert {kind: {one.name for one in declared(kind)} for kind in FROZEN} == FROZEN
    assert {one.metric.name for one in process_samples(reactor)} == OF_THE_PROCESS
    labels = {key for kind in FROZEN for one in declared(kind) for key, _ in one.labels}
    by = {one.by for kind in FROZEN for one in declared(kind)} - {""}
    assert labels | by == {"direction", "outcome", "reason"}


def test_prometheus_text_has_each_family_once_and_escapes_labels() -> None:
    text = b"".join(rendered(KETTLE, reactor)).decode("utf-8")
    assert text.startswith(
        "# HELP tunnelkit_boils_total Times it boiled\n"
        "# TYPE tunnelkit_boils_total counter\n"
        f'tunnelkit_boils_total{{{LABELS},outcome="tea"}} 7\n'
        f'tunnelkit_boils_total{{{LABELS},outcome="soup"}} 1\n'
    )
    families = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(families) == len(set(families)) == 2 + len(OF_THE_PROCESS)
    assert "# EOF" not in text


def test_openmetrics_names_the_family_without_total_and_says_where_it_ends() -> None:
    text = b"".join(rendered(KETTLE, reactor, openmetrics=True)).decode("utf-8")
    assert "# TYPE tunnelkit_boils counter\n" in text
    assert f'tunnelkit_boils_total{{{LABELS},outcome="tea"}} 7\n' in text
    assert text.endswith("\n# EOF\n")


def test_a_histogram_has_buckets_that_add_up() -> None:
    text = b"".join(rendered(KETTLE, reactor)).decode("utf-8")
    assert "# TYPE tunnelkit_boiling_seconds histogram\n" in text
    name = "tunnelkit_boiling_seconds"
    for bound, count in (("0.001", 0), ("0.0025", 1), ("0.25", 2), ("10.0", 2), ("+Inf", 3)):
        assert f'{name}_bucket{{{LABELS},le="{bound}"}} {count}\n' in text
    assert f"{name}_count{{{LABELS}}} 3\n" in text
    assert f"{name}_sum{{{LABELS}}} 100.252\n" in text


def test_what_has_many_numbers_is_made_in_pieces() -> None:
    names = range(3 * LINES)
    many = TableStatus(role="table", spilt={f"cup-{name}": name for name in names})
    pieces = list(rendered(many, reactor))
    assert len(pieces) == 4
    assert sum(piece.count(b"spills_total{") for piece in pieces) == len(names)
