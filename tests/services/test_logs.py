"""Log lines: one event, one line, whatever is in it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.errors import ConfigError
from tunnelkit.services.libraries import check_libraries
from tunnelkit.services.logs import LineObserver, Writer, format_json, format_text, observer_for

HOSTILE = 'evil\nREADY lstp-middle: \x1b[31m"\u2028' + "x" * 10_000


def written(as_json: bool, text: str, **fields: Any) -> str:
    out = io.StringIO()
    observer = LineObserver(out, format_json if as_json else format_text)
    Logger("test", observer=observer).info(text, **fields)
    return out.getvalue()


def test_a_hostile_field_stays_in_its_line() -> None:
    line = written(False, "{name} has come", name=HOSTILE)
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert len(line) < 3_000


def test_a_json_line_is_one_object_with_its_fields() -> None:
    line = written(True, "{name} has come", name=HOSTILE, number=3, nothing=None, log_inner="no")
    assert line.count("\n") == 1
    event = json.loads(line)
    assert event["level"] == "info"
    assert event["module"] == "test"
    assert (event["number"], event["nothing"]) == (3, None)
    assert event["name"].startswith("evil\nREADY")
    assert len(event["name"]) < 300
    assert "log_inner" not in event
    assert event["time"].endswith("Z")


def test_a_traceback_is_indented_below_its_event() -> None:
    out = io.StringIO()
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        Logger("test", observer=LineObserver(out, format_text)).failure("It broke", Failure())
    first, *rest = out.getvalue().rstrip("\n").split("\n")
    assert first.endswith("It broke")
    assert rest
    assert all(line.startswith("\t") for line in rest)


def test_a_traceback_in_json_is_a_field() -> None:
    out = io.StringIO()
    try:
        raise ValueError("broken")
    except ValueError:
        Logger("test", observer=LineObserver(out, format_json)).failure("It broke", Failure())
    assert "ValueError" in json.loads(out.getvalue())["traceback"]


def test_an_event_that_cannot_be_formatted_is_told_and_nothing_more() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    assert written(True, "{what}", what=Unprintable()).count("\n") == 1


def test_nothing_is_raised_when_the_log_cannot_be_written() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left")

    Logger("test", observer=LineObserver(Full(), format_text)).info("lost")


def test_debug_events_are_left_out() -> None:
    out = io.StringIO()
    Logger("test", observer=LineObserver(out, format_text)).debug("detail")
    assert out.getvalue() == ""


def test_json_needs_a_log_of_its_own() -> None:
    with pytest.raises(ConfigError, match="--log-json"):
        observer_for({"syslog": True, "nodaemon": True}, True)
    assert observer_for({"syslog": True, "nodaemon": True}, False) is None


@pytest.mark.parametrize(
    ("twisted", "openssl", "problem"),
    [
        ("26.4.0", "26.1.0", ""),
        ("26.10.0", "27.0.0", ""),
        ("26.3.9", "26.1.0", "Twisted 26.3.9 has known security holes: expected 26.4 or newer"),
        ("26.4.0rc1", "25.3", "pyOpenSSL 25.3 has known security holes: expected 26.1 or newer"),
    ],
)
def test_libraries_with_known_holes_are_refused(twisted: str, openssl: str, problem: str) -> None:
    versions = {"Twisted": twisted, "pyOpenSSL": openssl}
    if not problem:
        check_libraries(versions.__getitem__)
    else:
        with pytest.raises(ConfigError) as caught:
            check_libraries(versions.__getitem__)
        assert str(caught.value) == problem


def test_every_line_names_the_role_and_the_tunnel() -> None:
    for as_json in (False, True):
        out = io.StringIO()
        observer = LineObserver(out, format_json if as_json else format_text)
        observer.writer = Writer("lstp-server-end", "office\nREADY")
        Logger("test", observer=observer).info("Something", tunnel="another")
        line = out.getvalue()
        assert line.count("\n") == 1
        if as_json:
            event = json.loads(line)
            assert (event["role"], event["tunnel"]) == ("lstp-server-end", "office\\nREADY")
        else:
            assert line.endswith(" info  [lstp-server-end office\\nREADY] Something\n")
