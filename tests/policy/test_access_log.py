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
from tunnelkit.net.channels.contracts import ChannelRecord
from tunnelkit.policy.access_log import log_channel
from tunnelkit.policy.printable import printable
from tunnelkit.services.logs import LineObserver, format_json, format_text

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

FIELDS = ["peer", "destination", "sent", "received", "seconds", "outcome", "reason"]


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
    return ChannelRecord(text, destination, True, 10, 2000, 1.23456, code, reason, refused)


def lines(events: Seen, as_json: bool) -> list[str]:
    out = io.StringIO()
    observer = LineObserver(out, format_json if as_json else format_text)
    for event in events:
        observer(event)
    return out.getvalue().splitlines()


def test_a_finished_channel_is_one_event_with_its_fields(events: Seen) -> None:
    log_channel(record())
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
    log_channel(record())
    log_channel(record(code=Code.NOT_ALLOWED, reason="not allowed there", refused=True))
    log_channel(record(code=Code.RESET))
    done, refused, reset = lines(events, as_json=False)
    assert done.endswith(
        "channel in peer=gate destination=tcp:web:80 sent=10 received=2000 seconds=1.235 "
        "outcome=done"
    )
    assert refused.endswith('outcome=refused-not-allowed reason="not allowed there"')
    assert reset.endswith("outcome=ended-reset")


@pytest.mark.parametrize("as_json", [False, True])
def test_hostile_names_in_every_field_make_no_further_line_and_no_field(
    events: Seen, as_json: bool
) -> None:
    for text in HOSTILE:
        log_channel(record(text, text, Code.RESET, text))
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
