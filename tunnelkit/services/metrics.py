"""A role's `RoleStatus` as Prometheus reads it: its text format, or OpenMetrics (row O7).

Labels are ``role`` and ``tunnel``, and those that a field declares: never a destination or an
address, so that their number does not grow with what passes.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from typing import Any

from tunnelkit.net.role_status import BOUNDS, Histogram, Metric, RoleStatus, Sample
from tunnelkit.services.control import resources

PREFIX = "tunnelkit_"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LINES = 50
"""That are made at a time: a millisecond's work at most."""

_MEMORY = Metric("process_resident_memory_bytes", "Memory that the process holds")
_CPU = Metric("process_cpu_seconds_total", "Time of processors that the process has used")
_OPEN = Metric("file_descriptors_open", "Descriptors that the process has open")
_LIMIT = Metric("file_descriptors_limit", "Descriptors that the process may have")
_TIMERS = Metric("timers_pending", "Timers that are due")


def process_samples(reactor: Any) -> Iterator[Sample]:
    """What the process holds."""
    held: dict[str, Any] = resources(reactor)
    times = os.times()
    yield Sample(_MEMORY, held["memory"])
    yield Sample(_CPU, times.user + times.system)
    yield Sample(_OPEN, held["descriptors"])
    yield Sample(_LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield Sample(_TIMERS, held["timers"])


def rendered(status: RoleStatus, reactor: Any, openmetrics: bool = False) -> Iterator[bytes]:
    """All that can be measured now, in pieces, each made when it is asked for."""
    lines: list[str] = []
    for line in _lines(status, reactor, openmetrics):
        lines.append(line)
        if len(lines) >= LINES:
            yield "".join(lines).encode("utf-8")
            lines.clear()
    yield "".join(lines).encode("utf-8")


def _lines(status: RoleStatus, reactor: Any, openmetrics: bool) -> Iterator[str]:
    own = [("role", status.role)]
    tunnel = getattr(status, "tunnel", "")
    if tunnel:
        own.append(("tunnel", tunnel))
    before = tuple(_each(own))
    name = ""
    for metric, value, labels in chain(status.measured(), process_samples(reactor)):
        if metric.name != name:
            name = metric.name
            family = PREFIX + (name.removesuffix("_total") if openmetrics else name)
            yield f"# HELP {family} {metric.about}\n"
            yield f"# TYPE {family} {metric.kind}\n"
        all_labels = ",".join((*before, *_each(metric.labels), *_each(labels)))
        if isinstance(value, Histogram):
            yield from _histogram(name, all_labels, value)
        else:
            yield f"{PREFIX}{name}{{{all_labels}}} {_number(value)}\n"
    if openmetrics:
        yield "# EOF\n"


def _histogram(name: str, labels: str, value: Histogram) -> Iterator[str]:
    so_far = list(accumulate(value.counts))
    for bound, count in zip(BOUNDS, so_far, strict=False):
        yield f'{PREFIX}{name}_bucket{{{labels},le="{bound}"}} {count}\n'
    yield f'{PREFIX}{name}_bucket{{{labels},le="+Inf"}} {so_far[-1]}\n'
    yield f"{PREFIX}{name}_sum{{{labels}}} {_number(value.seconds)}\n"
    yield f"{PREFIX}{name}_count{{{labels}}} {so_far[-1]}\n"


def _each(labels: Iterable[tuple[str, str]]) -> Iterator[str]:
    for key, text in labels:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        yield f'{key}="{escaped}"'


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
