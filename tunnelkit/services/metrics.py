"""A role's `RoleStatus` as Prometheus reads it: its text format, or OpenMetrics (row O7).

Labels are ``role`` and ``tunnel``, and those that a field declares: never a destination or an
address, so that their number does not grow with what passes.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import Any

from tunnelkit.net.role_status import Metric, RoleStatus
from tunnelkit.services.control import resources

PREFIX = "tunnelkit_"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Sample = tuple[Metric, float]

_MEMORY = Metric("process_resident_memory_bytes", "Memory that the process holds")
_CPU = Metric("process_cpu_seconds_total", "Time of processors that the process has used")
_OPEN = Metric("file_descriptors_open", "Descriptors that the process has open")
_LIMIT = Metric("file_descriptors_limit", "Descriptors that the process may have")
_TIMERS = Metric("timers_pending", "Timers that are due")


def process_samples(reactor: Any) -> Iterator[Sample]:
    """What the process holds."""
    held: dict[str, Any] = resources(reactor)
    times = os.times()
    yield _MEMORY, held["memory"]
    yield _CPU, times.user + times.system
    yield _OPEN, held["descriptors"]
    yield _LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield _TIMERS, held["timers"]


def rendered(status: RoleStatus, reactor: Any, openmetrics: bool = False) -> bytes:
    """All that can be measured now."""
    families: dict[str, list[Sample]] = {}
    for sample in (*status.measured(), *process_samples(reactor)):
        families.setdefault(sample[0].name, []).append(sample)
    own = [("role", status.role)]
    tunnel = getattr(status, "tunnel", "")
    if tunnel:
        own.append(("tunnel", tunnel))
    lines = []
    for name, samples in families.items():
        metric = samples[0][0]
        family = PREFIX + (name.removesuffix("_total") if openmetrics else name)
        lines.append(f"# HELP {family} {metric.about}")
        lines.append(f"# TYPE {family} {metric.kind}")
        for found, value in samples:
            labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in (*own, *found.labels))
            lines.append(f"{PREFIX}{name}{{{labels}}} {_number(value)}")
    if openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
