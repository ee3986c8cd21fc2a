"""The access log: one line for each channel, whatever the far side calls things (O1, X14)."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tunnelkit.errors import Code
from tunnelkit.net.channels.contracts import ChannelOpening, ChannelRecord
from tunnelkit.policy.access_log import AccessLog
from tunnelkit.policy.printable import printable
from tunnelkit.services.logs import LineObserver, format_json, format_text
from tunnelkit.testing.clock import TestClock

HOSTILE = [
    "a\nb",
    'x" peer="other',
    "peer=other outcome=done",
    "\x1b[31m\r\n\0\x7f",
    "\u2028\u202e\ud800",
    "{log_source}{0}{{",
    "%s%n",
    "\\n\\x41",
    "é" * 300,
    "a" * 100000,
]

RULE = "tcp:web:*"

FIELDS = [
    *("peer", "destination", "sent", "received", "seconds", "outcome", "id", "rule", "origin"),
    "reason",
]


@implementer(ILogObserver)
class Seen(list[LogEvent]):
    """Keeps the events."""

    def __call__(self, event: LogEvent) -> None:
        self.append(event)


@pytest.fixture
def events() -> Iterator[Seen]:
    seen = Seen()
    globalLogPublisher.addObserver(seen)
    yield seen
    globalLogPublisher.removeObserver(seen)


def record(
    text: str = "gate",
    destination: str = "tcp:web:80",
    code: Code | None = None,
    reason: str = "",
    refused: bool = False,
) -> ChannelRecord:
    return ChannelRecord(
        text, destination, True, 10, 2000, 1.23456, code, reason, refused, 7, RULE, "192.0.2.1:9"
    )


def lines(events: Seen, as_json: bool) -> list[str]:
    out = io.StringIO()
    observer = LineObserver(out, format_json if as_json else format_text)
    for event in events:
        observer(event)
    return out.getvalue().splitlines()


def test_a_finished_channel_is_one_event_with_its_fields(events: Seen) -> None:
    AccessLog(TestClock())(record())
    (line,) = lines(events, as_json=True)
    entry = json.loads(line)
    assert entry["event"] == "channel"
    assert entry["direction"] == "in"
    assert entry["peer"] == "gate"
    assert entry["destination"] == "tcp:web:80"
    assert (entry["sent"], entry["received"], entry["seconds"]) == (10, 2000, 1.235)
    assert (entry["outcome"], entry["reason"]) == ("done", "")
    assert not any(name.startswith("log_") for name in entry)


def test_the_line_for_people_has_the_same(events: Seen) -> None:
    AccessLog(TestClock())(record())
    AccessLog(TestClock())(record(code=Code.NOT_ALLOWED, reason="not allowed there", refused=True))
    AccessLog(TestClock())(record(code=Code.RESET))
    done, refused, reset = lines(events, as_json=False)
    where = r"id=\w+\.7 rule=tcp:web:\* origin=192\.0\.2\.1:9"
    begin = r"channel in peer=gate destination=tcp:web:80 sent=10 received=2000 seconds=1\.235"
    assert re.search(f"{begin} outcome=done {where}$", done)
    assert re.search(f'outcome=refused-not-allowed {where} reason="not allowed there"$', refused)
    assert re.search(f"outcome=ended-reset {where}$", reset)


def test_a_channel_has_a_line_when_it_is_open_with_the_id_of_the_one_at_its_end(
    events: Seen,
) -> None:
    log = AccessLog(TestClock())
    log(ChannelOpening(7, "gate", "tcp:web:80", True, RULE, "192.0.2.1:9"))
    log(record())
    log(ChannelOpening(8, "gate", "tcp:web:80", False, "", ""))
    first, last, other = (json.loads(line) for line in lines(events, as_json=True))
    assert (first["event"], last["event"]) == ("opened", "channel")
    same = ("id", "direction", "peer", "destination", "rule", "origin")
    assert [first[name] for name in same] == [last[name] for name in same]
    assert first["id"] != other["id"]
    said = lines(events, as_json=False)
    where = "peer=gate destination=tcp:web:80"
    assert said[0].endswith(f"opened in {where} id={first['id']} rule={RULE} origin=192.0.2.1:9")
    assert said[2].endswith(f"opened out {where} id={other['id']}")


def test_a_flood_of_refusals_is_ten_lines_a_second_and_all_are_counted(events: Seen) -> None:
    clock = TestClock()
    log = AccessLog(clock)
    refusals = [(0.01 * step, "gate") for step in range(250)]
    for due, peer in [*refusals, (0.0, "other"), (2.0, "other")]:
        refused = record(peer, code=Code.NOT_ALLOWED, refused=True)
        clock.callLater(due, log, refused)
    times: list[float] = []
    while clock.step():
        times += [clock.seconds()] * (len(lines(events, as_json=True)) - len(times))
    told = [json.loads(line) for line in lines(events, as_json=True)]
    mine = [at for at, entry in zip(times, told, strict=True) if entry["peer"] == "gate"]
    for begin in mine:
        assert sum(begin <= at < begin + 0.999 for at in mine) <= 10
    counts = [entry["count"] for entry in told if entry["event"] == "refused"]
    assert len(counts) == 3
    assert sum(counts) + len([each for each in told if each["peer"] == "gate"]) - 3 == 250
    assert [entry["event"] for entry in told if entry["peer"] == "other"] == ["channel"] * 2
    assert not clock.getDelayedCalls()


def test_refusals_of_any_number_of_peers_take_a_bounded_place_and_what_is_untold_is_told_at_the_end(
    events: Seen,
) -> None:
    clock = TestClock()
    log = AccessLog(clock)
    for number in range(3000):
        log(record(f"peer-{number}", code=Code.NOT_ALLOWED, refused=True))
    log.close()
    told = [json.loads(line) for line in lines(events, as_json=True)]
    assert len(told) == 1000 + 9 + 1
    assert (told[-1]["peer"], told[-1]["count"]) == ("(other peers)", 3000 - 1009)
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("as_json", [False, True])
def test_hostile_names_in_every_field_make_no_further_line_and_no_field(
    events: Seen, as_json: bool
) -> None:
    for text in HOSTILE:
        AccessLog(TestClock())(record(text, text, Code.RESET, text))
    written = lines(events, as_json)
    assert len(written) == len(HOSTILE)
    for line in written:
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 3000
        if as_json:
            entry = json.loads(line)
            assert entry["outcome"] == "ended-reset"
            assert all(len(entry[name]) <= 256 for name in ("peer", "destination", "reason"))
        else:
            fields = re.findall(r' ([a-z]+)=("[^"]*"|[^ "]+)(?= |$)', line)
            assert [name for name, _ in fields] == FIELDS


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("", ""),
        (b"by\xfftes", "by\\xfftes"),
        ("a\nb", "a\\nb"),
        ("a\\nb", "a\\\\nb"),
        ("bücher", "b\\xfccher"),
        ("x" * 12, "xxxxxxx..."),
        ("é" * 6, "\\xe9\\xe..."),
    ],
)
def test_printable_text_is_escaped_and_cut(text: str | bytes, shown: str) -> None:
    assert printable(text, 10) == shown
    assert printable(text, 10).isprintable()
    assert len(printable(text, 10)) <= 10


@pytest.mark.parametrize(
    ("text", "shown"), [("a\nb", "a\\nb"), ("a\\nb", "a\\\\nb"), ("bücher", "b\\xfccher")]
)
def test_short_text_is_escaped_whole(text: str, shown: str) -> None:
    assert printable(text) == shown
