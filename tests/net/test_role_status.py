"""Snapshots that roles give of themselves."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

from tunnelkit.net.role_status import (
    BOUNDS,
    STARTED,
    Durations,
    Histogram,
    Metric,
    RoleStatus,
    Sample,
    declared,
    durations,
    metric,
    metric_by,
    rows,
)
from tunnelkit.version import __version__


@attrs.frozen(kw_only=True)
class KettleStatus(RoleStatus):
    lids: tuple[str, ...]
    open: int = metric("kettles_open", "Kettles that are open now")
    boiled: int = metric("boils_total", "Times it boiled", outcome="tea")


@attrs.frozen
class CupStatus:
    owner: str
    sips: int = metric("sips_total", "Sips taken")
    heat: float | None = metric("heat_celsius", "How hot it is")


@attrs.frozen(kw_only=True)
class TableStatus(RoleStatus):
    cups: tuple[CupStatus, ...] = rows("owner", CupStatus)
    spilt: Mapping[str, int] = metric_by("reason", "spills_total", "Cups spilt")
    waited: Histogram = durations("waited_seconds", "Until it was drunk")
    sips_of_nobody: int = metric("sips_total", "Sips taken", owner="nobody")
    cold: int | None = metric("cold", "Cups that are cold")


KETTLE = KettleStatus(role="kettle", lids=("tin",), open=2, boiled=7)


def test_the_fields_come_in_order_as_json_can_write_them() -> None:
    assert list(KETTLE.as_mapping().items()) == [
        ("role", "kettle"),
        ("version", __version__),
        ("up_since", STARTED),
        ("last_problem", ""),
        ("last_problem_at", ""),
        ("lids", ("tin",)),
        ("open", 2),
        ("boiled", 7),
    ]


def test_numbers_to_watch_have_a_name_labels_and_a_kind() -> None:
    assert list(KETTLE.measured()) == [
        Sample(Metric("kettles_open", "Kettles that are open now"), 2),
        Sample(Metric("boils_total", "Times it boiled", (("outcome", "tea"),)), 7),
    ]
    assert [found.metric.kind for found in KETTLE.measured()] == ["gauge", "counter"]


def test_rows_and_reasons_have_a_label_and_what_is_not_known_is_left_out() -> None:
    took = Durations()
    table = TableStatus(
        role="table",
        cups=(CupStatus("ann", 3, 60.5), CupStatus("bob", 1, None)),
        spilt={"cat": 2},
        waited=took.snapshot(),
        sips_of_nobody=4,
        cold=None,
    )
    found = [(each.metric.name, each.labels, each.value) for each in table.measured()]
    assert found == [
        ("sips_total", (("owner", "ann"),), 3),
        ("sips_total", (("owner", "bob"),), 1),
        ("sips_total", (), 4),
        ("heat_celsius", (("owner", "ann"),), 60.5),
        ("spills_total", (("reason", "cat"),), 2),
        ("waited_seconds", (), took.snapshot()),
    ]
    assert {each.name for each in declared(TableStatus)} == {
        "sips_total", "heat_celsius", "spills_total", "waited_seconds", "cold",
    }  # fmt: skip


def test_durations_are_counted_up_to_their_bounds() -> None:
    took = Durations()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 1000.0):
        took.add(seconds)
    found = took.snapshot()
    assert found.counts == (2, 1, *(0 for _ in BOUNDS[2:]), 1)
    assert found.seconds == pytest.approx(1000.0 + BOUNDS[0] * 2.01)


def test_a_snapshot_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        KettleStatus.__setattr__(KETTLE, "role", "pot")
