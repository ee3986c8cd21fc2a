"""Meetings are counted in the files of both ends: what shows, and what does not (row Q2)."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from tests.roles.paired_ends import End, Wire, connect, outcome, write
from tunnelkit.core.pairing.meetings import Known
from tunnelkit.egress.meetings import JUST_NOW
from tunnelkit.errors import ConfigError
from tunnelkit.policy.identity import load_identity
from tunnelkit.policy.meeting_counts import FILE, MeetingCounts
from tunnelkit.roles.paired_meetings import AGAIN, PATIENCE
from tunnelkit.wire.meetings import Count


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is said meanwhile."""
    found: list[str] = []

    @implementer(ILogObserver)
    def see(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(see)
    yield found
    globalLogPublisher.removeObserver(see)


@pytest.fixture(params=["office", "laptop"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Each end in a directory of its own, as on two machines; one of them has the lower key."""
    both = tmp_path / "both"
    both.mkdir()
    lower = ""
    while lower != request.param:
        write(both, office=("laptop",), laptop=("office",))
        lower = min(
            ("office", "laptop"), key=lambda name: load_identity(both / f"{name}.pem").fingerprint
        )
    for name in ("office", "laptop"):
        (tmp_path / name).mkdir(mode=0o700)
        for file in both.glob(f"{name}.*"):
            file.rename(tmp_path / name / file.name)
    return tmp_path


def end(place: Path, name: str, directory: str = "") -> End:
    return End(place / (directory or name), name, counts=True)


def meet(place: Path, wire: Wire | None = None, **copies: str) -> None:
    """Both are started, or their ``copies``, meet, and end; long after the time before."""
    wire = wire or Wire()
    for file in place.glob(f"*/{FILE}"):
        known = json.loads(file.read_text())
        for entry in known.values():
            entry["at"] -= 2 * JUST_NOW
        file.write_text(json.dumps(known))
    office, laptop = (end(place, name, copies.get(name, "")) for name in ("office", "laptop"))
    connect(office, laptop, wire)
    wire.run()


def numbers(place: Path, directory: str) -> list[int]:
    known = json.loads((place / directory / FILE).read_text())
    return [entry["number"] for entry in known.values()]


def test_both_count_in_files_of_their_own(place: Path, warnings: list[str]) -> None:
    for _ in range(3):
        meet(place)
    assert numbers(place, "office") == numbers(place, "laptop") == [3]
    assert stat.S_IMODE((place / "office" / FILE).stat().st_mode) == 0o600
    assert warnings == []


@pytest.mark.parametrize("most", range(1, 6))
def test_wherever_a_meeting_breaks_off_nobody_is_suspected(
    place: Path, most: int, warnings: list[str]
) -> None:
    meet(place)
    for _ in range(3):
        meet(place, Wire(most))
    meet(place)
    meet(place)
    assert numbers(place, "office") == numbers(place, "laptop")
    assert warnings == []


@pytest.mark.parametrize("copied", ["laptop", "office"])
def test_a_copy_is_told_on_both_sides_when_the_next_one_comes(
    place: Path, warnings: list[str], copied: str
) -> None:
    meet(place)
    shutil.copytree(place / copied, place / "copy")
    meet(place, None, **{copied: "copy"})
    assert warnings == []
    meet(place)
    assert len(warnings) == 2
    for line in warnings:
        assert f"somebody else has the key of {copied}" in line
        assert "out of peer-pin, and pair the two by a code" in line
    warnings.clear()
    meet(place)
    assert warnings == []
    meet(place, None, **{copied: "copy"})
    assert len(warnings) == 2


def test_a_copy_without_the_count_shows_as_well(place: Path, warnings: list[str]) -> None:
    shutil.copytree(place / "laptop", place / "copy")
    meet(place)
    meet(place)
    meet(place, laptop="copy")
    assert sorted(warnings)[0].startswith("The files here know of 2 meetings with laptop, and")
    assert sorted(warnings)[1].startswith("office has met laptop 2 times, and the files here know ")


def test_files_of_both_that_have_met_others_show(place: Path, warnings: list[str]) -> None:
    meet(place)
    for name in ("office", "laptop"):
        shutil.copytree(place / name, place / f"old-{name}")
    meet(place, laptop="old-laptop")
    meet(place, office="old-office")
    assert warnings == []
    meet(place)
    assert len(warnings) == 2
    assert all("do not know of the same last meeting" in line for line in warnings)


def test_new_keys_begin_anew(place: Path, warnings: list[str]) -> None:
    office, laptop, wire = end(place, "office"), end(place, "laptop"), Wire()
    connect(office, laptop, wire)
    wire.run()
    outcome(laptop, wire)
    meet(place)
    assert numbers(place, "office") == [1, 1]
    assert warnings == []


def test_several_connections_at_once_are_counted_one_after_the_other(
    place: Path, warnings: list[str]
) -> None:
    office, laptop, wire = end(place, "office"), end(place, "laptop"), Wire()
    for _ in range(3):
        connect(office, laptop, wire)
    wire.run()
    assert numbers(place, "office") == numbers(place, "laptop") == [3]
    assert warnings == []


@pytest.mark.parametrize("in_step", [True, False])
def test_two_programs_with_one_identity_wait_for_each_other(
    place: Path, warnings: list[str], in_step: bool
) -> None:
    meet(place)
    office, wires = end(place, "office"), (Wire(), Wire())
    others = [end(place, "laptop"), end(place, "laptop")]
    for other, wire in zip(others, wires, strict=True):
        connect(office, other, wire)
    # Both have said what they know; what the second has said is still on the way, or is not.
    while in_step and any(wire.halves for wire in wires):
        for wire in wires:
            if wire.halves:
                wire.halves.popleft().move()
    for wire in wires:
        wire.run()
    for each in (office, *others):
        each.clock.advance(AGAIN)
    for wire in wires:
        wire.run()
    assert numbers(place, "office") == numbers(place, "laptop") == [3]
    assert warnings == []


def test_who_has_counted_and_does_not_any_more_is_told(place: Path, warnings: list[str]) -> None:
    meet(place)
    office, silent, wire = end(place, "office"), End(place / "laptop", "laptop"), Wire()
    connect(office, silent, wire)
    wire.run()
    office.clock.advance(PATIENCE)
    (line,) = warnings
    assert line.startswith("laptop has counted its meetings before, and does not now: ")
    # Who never has is an older version.
    warnings.clear()
    (place / "office" / FILE).unlink()
    connect(end(place, "office"), silent, wire)
    wire.run()
    assert warnings == []


def test_where_nothing_can_be_kept_that_is_told(place: Path, warnings: list[str]) -> None:
    (place / "office" / FILE).mkdir()
    meet(place / "office", laptop="../laptop", office="../office")
    assert any(f"{FILE}: cannot be kept" in line for line in warnings)
    assert any("expected --state-dir DIR" in line for line in warnings)


def test_a_count_takes_only_the_place_of_the_one_that_was_told(tmp_path: Path) -> None:
    counts = MeetingCounts(tmp_path, lambda: 100.0)
    first, second, third = (Count(number, f"{number:032x}") for number in (1, 2, 3))
    assert counts.known("a", "b") == Known()
    assert counts.seconds_since("a", "b") is None
    assert counts.met("a", "b", first, after=Count())
    assert not counts.met("a", "b", third, after=second)
    assert counts.known("a", "b") == Known(first)
    assert counts.known("b", "a") == Known()
    counts.coming("a", "b", second, first)
    assert MeetingCounts(tmp_path).known("a", "b") == Known(first, (second,))
    assert MeetingCounts(tmp_path, lambda: 107.0).seconds_since("a", "b") == 7.0
    (tmp_path / FILE).write_text('{"a b": {"number": "x"}}')
    assert counts.known("a", "b") == Known()
    with pytest.raises(ConfigError, match="cannot be kept"):
        MeetingCounts(tmp_path / "gone").met("a", "b", first)
