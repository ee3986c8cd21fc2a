"""Warnings that come again are counted, and nobody can fill the log with them."""

from __future__ import annotations

import io
import json

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger

from tunnelkit.net.role_status import RoleStatus
from tunnelkit.services.last_problem import LastProblem
from tunnelkit.services.logs import LineObserver, format_json, format_text
from tunnelkit.services.repeats import LINES, MOST_KINDS, WINDOW, Repeats


class Log:
    """A log of warnings, and its lines without time and level."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.out = io.StringIO()
        self.repeats = Repeats(self.clock, LineObserver(self.out, format_text))
        self.logger = Logger("test", observer=self.repeats)

    @property
    def lines(self) -> list[str]:
        return [line.split(maxsplit=2)[2] for line in self.out.getvalue().splitlines()]


@pytest.fixture
def log() -> Log:
    return Log()


def test_equal_warnings_are_counted(log: Log) -> None:
    for _ in range(58):
        log.logger.warn("Refused {who}", who="a portal")
    assert log.lines == ["Refused a portal"]
    log.clock.advance(WINDOW)
    assert log.lines[1:] == ["Refused a portal (57 times more in the last minute)"]


def test_as_long_as_it_goes_on_there_is_one_line_a_minute_and_then_no_timer(log: Log) -> None:
    for _ in range(5):
        for _ in range(20):
            log.logger.error("No registry")
        log.clock.advance(WINDOW)
    assert len(log.lines) == 6
    assert log.lines[-1] == "No registry (20 times more in the last minute)"
    log.clock.advance(WINDOW)
    assert not log.clock.getDelayedCalls()
    log.logger.error("No registry")
    assert log.lines[6:] == ["No registry"]


def test_a_flood_of_different_texts_has_fewer_and_fewer_lines(log: Log) -> None:
    counts = []
    for minute in range(5):
        before = len(log.lines)
        for number in range(1000):
            log.logger.warn("Not admitted: {client}", client=f"192.0.2.1:{minute}{number}")
        log.clock.advance(WINDOW)
        counts.append(len(log.lines) - before)
    assert counts == [LINES + 1, LINES // 2 + 1, LINES // 4 + 1, 2, 2]
    assert log.lines[-1] == "Not admitted: 192.0.2.1:4999 (999 more like this in the last minute)"


def test_a_flood_of_one_peer_leaves_the_lines_of_another_one_alone(log: Log) -> None:
    for number in range(100):
        log.logger.warn("Not allowed: {why}", why=f"a, port {number}", peer="a")
    log.logger.warn("Not allowed: {why}", why="b", peer="b")
    assert log.lines[LINES:] == ["Not allowed: b"]


def test_kinds_are_bounded_too(log: Log) -> None:
    for number in range(MOST_KINDS + 1000):
        log.logger.warn("Not allowed", peer=str(number))
        log.logger.warn("Refused {number}", number=number)
    assert len(log.lines) <= MOST_KINDS + LINES


def test_what_is_no_warning_is_never_held_back(log: Log) -> None:
    for _ in range(100):
        log.logger.info("channel out")
    assert log.lines == ["channel out"] * 100
    assert not log.clock.getDelayedCalls()


def test_what_answers_a_change_by_hand_is_told_each_time(log: Log) -> None:
    for _ in range(3):
        log.logger.error("Not reloaded", log_always=True)
    assert log.lines == ["Not reloaded"] * 3


def test_what_has_not_been_told_is_told_at_the_end(log: Log) -> None:
    for _ in range(2):
        log.logger.warn("Refused")
    log.clock.advance(5)
    log.repeats.close()
    assert log.lines == ["Refused", "Refused (once more in the last 5 s)"]
    assert not log.clock.getDelayedCalls()


def test_a_count_is_a_field_of_its_own_in_json() -> None:
    clock, out = Clock(), io.StringIO()
    logger = Logger("test", observer=Repeats(clock, LineObserver(out, format_json)))
    for _ in range(4):
        logger.warn("Refused {who}", who="x\ny")
    clock.advance(WINDOW)
    first, summed = map(json.loads, out.getvalue().splitlines())
    assert (first["who"], "count" in first) == ("x\ny", False)
    assert (summed["count"], summed["who"], summed["level"]) == (3, "x\ny", "warn")


def test_the_last_problem_is_the_newest_warning_with_its_time() -> None:
    problem = LastProblem()
    logger = Logger("test", observer=problem)
    status = RoleStatus(role="own")
    assert problem.put_into(status) == status
    assert (status.last_problem, status.last_problem_at) == ("", "")
    logger.warn("first")
    logger.error("then\n{what}", what="this")
    logger.info("and all is well")
    found = problem.put_into(status)
    assert found.last_problem == "then\\nthis"
    assert found.last_problem_at.endswith("+00:00")


def test_a_warning_is_the_last_problem_also_where_it_is_only_counted_or_always_told() -> None:
    problem, status = LastProblem(), RoleStatus(role="own")
    logger = Logger(
        "test", observer=Repeats(Clock(), LineObserver(io.StringIO(), format_text), problem)
    )
    for _ in range(2):
        logger.warn("again")
        logger.warn("by hand", log_always=True)
    assert problem.put_into(status).last_problem == "by hand"
    logger.warn("again")
    logger.info("and all is well")
    assert problem.put_into(status).last_problem == "again"
