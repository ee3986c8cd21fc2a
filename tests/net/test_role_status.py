"""Snapshots that roles give of themselves."""

from __future__ import annotations

import attrs
import pytest

from tunnelkit.net.role_status import Metric, RoleStatus, metric


@attrs.frozen(kw_only=True)
class KettleStatus(RoleStatus):
    lids: tuple[str, ...]
    open: int = metric("kettles_open", "Kettles that are open now")
    boiled: int = metric("boils_total", "Times it boiled", outcome="tea")


KETTLE = KettleStatus(role="kettle", lids=("tin",), open=2, boiled=7)


def test_the_fields_come_in_order_as_json_can_write_them() -> None:
    assert list(KETTLE.as_mapping().items()) == [
        ("role", "kettle"),
        ("lids", ("tin",)),
        ("open", 2),
        ("boiled", 7),
    ]


def test_numbers_to_watch_have_a_name_labels_and_a_kind() -> None:
    assert list(KETTLE.measured()) == [
        (Metric("kettles_open", "Kettles that are open now"), 2),
        (Metric("boils_total", "Times it boiled", (("outcome", "tea"),)), 7),
    ]
    assert [found.kind for found, _ in KETTLE.measured()] == ["gauge", "counter"]


def test_a_snapshot_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        KettleStatus.__setattr__(KETTLE, "role", "pot")
