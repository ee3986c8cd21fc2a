"""What a party says of itself at one moment: the one source of status, pages and metrics (row O2).

A role's `RoleStatus` has a field for each thing. Those that are numbers to watch are declared by
`metric`, with the name and labels under which they are measured; so are those of a role that
somebody else has written. `metric_by`, `durations` and `rows` declare fields with many numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple

import attrs

from tunnelkit.version import __version__

STARTED = datetime.now(timezone.utc).isoformat(timespec="seconds")
"""When this process began: roles are what it does from then on."""

_METRIC = "tunnelkit.metric"
_ROWS = "tunnelkit.rows"

Labels = tuple[tuple[str, str], ...]
"""Names and values."""

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, up to which durations are told apart."""


@attrs.frozen
class Histogram:
    """How many lasted how long."""

    counts: tuple[int, ...]
    """Of those up to each of `BOUNDS` and above the one before; the last: above all."""
    seconds: float
    """Of all of them together."""


class Durations:
    """Counts durations for a `Histogram`."""

    __slots__ = ("_counts", "_seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def snapshot(self) -> Histogram:
        """Those so far."""
        return Histogram(tuple(self._counts), self._seconds)


@attrs.frozen
class Metric:
    """How a number is measured."""

    name: str
    """Without the prefix ``tunnelkit_``. It counts up for ever if it ends in ``_total``."""
    about: str
    """One line."""
    labels: Labels = ()
    """Besides role and tunnel, and those that `Sample` adds."""
    by: str = ""
    """The label by which the field has many numbers."""
    is_histogram: bool = False

    @property
    def kind(self) -> str:
        """``counter``, ``gauge`` or ``histogram``."""
        if self.is_histogram:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


class Sample(NamedTuple):
    """One number, or one histogram."""

    metric: Metric
    value: float | Histogram
    labels: Labels = ()
    """Besides those of the metric."""


def metric(name: str, about: str, **labels: str) -> Any:
    """A field whose value is the number that `Metric` describes; None: it is not known."""
    return attrs.field(metadata={_METRIC: Metric(name, about, tuple(sorted(labels.items())))})


def metric_by(label: str, name: str, about: str) -> Any:
    """A field that holds numbers by the value of ``label``, of which there are a few at most."""
    return attrs.field(metadata={_METRIC: Metric(name, about, by=label)})


def durations(name: str, about: str) -> Any:
    """A field that is a `Histogram`."""
    return attrs.field(metadata={_METRIC: Metric(name, about, is_histogram=True)})


def rows(label: str, kind: type[Any]) -> Any:
    """A field that holds objects of the attrs class ``kind``, which declares metrics in turn; their
    ``label`` is what each object has under this name."""
    return attrs.field(metadata={_ROWS: (label, kind)})


class _Source(NamedTuple):
    """Where a status has a metric."""

    metric: Metric
    field: str
    rows: str = ""
    """The field whose objects have ``field``."""
    label: str = ""

    def samples(self, status: object) -> Iterator[Sample]:
        """All numbers of the metric that ``status`` has here."""
        if not self.rows:
            yield from self._of(getattr(status, self.field), ())
            return
        for row in getattr(status, self.rows):
            yield from self._of(getattr(row, self.field), ((self.label, getattr(row, self.label)),))

    def _of(self, value: Any, labels: Labels) -> Iterator[Sample]:
        if self.metric.by:
            for one, number in value.items():
                yield Sample(self.metric, number, (*labels, (self.metric.by, one)))
        elif value is not None:
            yield Sample(self.metric, value, labels)


_SOURCES: dict[type[Any], tuple[_Source, ...]] = {}
"""Those that have been asked for."""


def _sources(kind: type[Any]) -> tuple[_Source, ...]:
    """What a class of status has to measure, those of one name together."""
    known = _SOURCES.get(kind)
    if known is not None:
        return known
    found = []
    for field in attrs.fields(kind):
        if _METRIC in field.metadata:
            found.append(_Source(field.metadata[_METRIC], field.name))
        elif _ROWS in field.metadata:
            label, of = field.metadata[_ROWS]
            found += [
                _Source(inner.metadata[_METRIC], inner.name, field.name, label)
                for inner in attrs.fields(of)
                if _METRIC in inner.metadata
            ]
    names = [source.metric.name for source in found]
    found.sort(key=lambda source: names.index(source.metric.name))
    _SOURCES[kind] = tuple(found)
    return _SOURCES[kind]


def declared(kind: type[Any]) -> tuple[Metric, ...]:
    """All that a class of status can measure."""
    return tuple(source.metric for source in _sources(kind))


@attrs.frozen(kw_only=True, slots=False)
class RoleStatus:
    """What a role is doing; a role's own class has more fields. It never changes.

    The names of the fields are what ``tunnelkit status`` prints and what `as_mapping` gives.
    """

    role: str
    """The twistd subcommand."""
    version: str = __version__
    """Of tunnelkit."""
    up_since: str = STARTED
    """When the process began, ISO 8601."""
    last_problem: str = ""
    """The newest warning of the process, which may be over: one line. A role does not know it: it
    is put in where the role runs."""
    last_problem_at: str = ""
    """When that was, ISO 8601."""

    def as_mapping(self) -> dict[str, object]:
        """The fields by name, in order, as JSON can write them."""
        return attrs.asdict(self)

    def measured(self) -> Iterator[Sample]:
        """The numbers among the fields, those of one name together; made as they are asked for."""
        for source in _sources(type(self)):
            yield from source.samples(self)
