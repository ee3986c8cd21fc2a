"""The lines of a measurement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.measurement import LONGEST_LINE, Asked, Report, last_report

counts = st.integers(0, 10**20 - 1)


@given(st.sampled_from(("down", "up", "echo")), st.integers(1, 60_000))
def test_what_is_asked_reads_as_it_was_written(verb: str, milliseconds: int) -> None:
    line = bytes(Asked(verb, milliseconds))
    assert len(line) < LONGEST_LINE
    assert Asked.read(line) == Asked(verb, milliseconds)


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"down 1", b"down 0\n", b"down 60001\n", b"DOWN 1\n", b"down  1\n"]
)
def test_nothing_else_can_be_asked(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="expected down, up or echo"):
        Asked.read(line)


@given(st.binary(max_size=100), counts, counts)
def test_the_last_report_is_found_behind_anything(data: bytes, count: int, time: int) -> None:
    report = bytes(Report(count, time))
    end = (data + b"\n" + report)[-LONGEST_LINE:]
    assert last_report(end) == (Report(count, time), len(report))


@given(st.lists(counts, min_size=1, max_size=4))
def test_the_last_of_several_reports_counts(several: list[int]) -> None:
    said = b"".join(bytes(Report(count, 7)) for count in several)
    assert last_report(said[-LONGEST_LINE:])[0] == Report(several[-1], 7)


@pytest.mark.parametrize("end", [b"", b"\n", b"1\n", b"1 2", b"x 2\n", b"1 -2\n"])
def test_without_a_report_it_is_an_error(end: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="no report"):
        last_report(end)
