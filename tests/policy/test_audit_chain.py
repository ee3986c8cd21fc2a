"""Audit files: every way to tamper is found, and nothing else is called tampering (row O8)."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.policy.audit_chain import (
    Chain,
    Report,
    Verifier,
    Vouched,
    read_checkpoints,
    resumed,
)

TIME, LATER = "2026-11-28T10:00:00Z", "2026-11-28T10:01:00Z"


class Written:
    """Ten lines, and checkpoints of the fifth and the eighth."""

    def __init__(self, chain: Chain | None = None, count: int = 10) -> None:
        self.chain = Chain() if chain is None else chain
        self.lines: list[bytes] = []
        self.checkpoints: list[Vouched] = []
        for number in range(count):
            line = self.chain.line({"event": "opened", "id": number}, number == 0)
            self.chain.took(line)
            self.lines.append(line + b"\n")
            if number in (4, 7):
                time = TIME if number == 4 else LATER
                self.checkpoints.append(Vouched(self.chain.checkpoint(), time, "gate"))


def verify(lines: list[bytes], checkpoints: list[Vouched] | None = None) -> Report:
    verifier = Verifier(checkpoints)
    verifier.file("audit", lines)
    return verifier.report()


def forged(lines: list[bytes]) -> list[bytes]:
    """The same events in a chain of their own under the same name."""
    chain = Chain(json.loads(lines[0])["chain"])
    made = []
    for line in lines:
        entry = json.loads(line)
        first = "chain" in entry
        for name in ("seq", "prev", "chain"):
            entry.pop(name, None)
        new = chain.line(entry, first)
        chain.took(new)
        made.append(new + b"\n")
    return made


def changed(line: bytes) -> bytes:
    return line.replace(b"opened", b"closed")


def with_chain(line: bytes, first: bytes) -> bytes:
    """As the first line of a file, of the same chain."""
    return json.dumps({"chain": json.loads(first)["chain"], **json.loads(line)}).encode() + b"\n"


def without_mark(lines: list[bytes]) -> list[bytes]:
    """Line 6 is exchanged for one that fits, and line 7 is not told."""
    entry = json.loads(lines[5])
    return [*lines[:5], json.dumps({**entry, "id": 99}).encode() + b"\n", *lines[6:]]


TAMPERING: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "a field is changed": (
        lambda lines: [*lines[:3], changed(lines[3]), *lines[4:]],
        "line 4 has been changed",
    ),
    "a line is exchanged": (without_mark, "line 6 has been changed"),
    "a line is taken out": (lambda lines: lines[:3] + lines[4:], "line 4 is missing"),
    "lines are taken out": (lambda lines: lines[:3] + lines[6:], "lines 4 to 6 are missing"),
    "the first line is taken out": (lambda lines: lines[1:], "lines before it are gone"),
    "the first lines are, and the next names the chain": (
        lambda lines: [
            lines[2].replace(
                b"{", b'{"chain": "' + json.loads(lines[0])["chain"].encode() + b'", ', 1
            ),
            *lines[3:],
        ],
        "line 3 has been changed",
    ),
    "two lines change places": (
        lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
        "line 4 stands behind line 5",
    ),
    "a line is repeated": (
        lambda lines: [*lines[:4], lines[3], *lines[4:]],
        "line 4 stands behind line 4",
    ),
    "something is put in between": (
        lambda lines: [*lines[:4], b"nothing happened here\n", *lines[4:]],
        "what stands before it is no line of the chain",
    ),
    "a line is made unreadable": (
        lambda lines: [*lines[:4], b"#" + lines[4], *lines[5:]],
        "line 5 is missing",
    ),
    "a mark is changed": (
        lambda lines: [*lines[:4], lines[4].replace(b'"prev": "', b'"prev": "0'), *lines[5:]],
        "line 4 has been changed, or this line's mark of it",
    ),
    "the line ends are changed": (
        lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
        "line 1 has been changed",
    ),
    "the end is cut off up to the last checkpoint": (
        lambda lines: lines[:7],
        f"the end is missing: the last line is 7, and there was a line 8 when the checkpoint of "
        f"{LATER}",
    ),
    "everything is cut off": (lambda lines: [], "the file is empty"),
    "a line is changed and the whole rest made to fit": (
        lambda lines: forged([*lines[:3], changed(lines[3]), *lines[4:]]),
        f"not what it was when the checkpoint of {TIME}",
    ),
    "the first lines are taken out and the rest made to fit": (
        lambda lines: forged([lines[0], *lines[3:]]),
        "not what it was",
    ),
    "another file is put in its place": (
        lambda lines: Written().lines,
        "no checkpoint is of this chain",
    ),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_is_found_and_named(kind: str) -> None:
    written = Written()
    tamper, told = TAMPERING[kind]
    problems = verify(tamper(written.lines), written.checkpoints).problems
    assert any(told in problem for problem in problems), problems


def test_an_untouched_file_is_vouched_for_up_to_the_last_checkpoint() -> None:
    written = Written()
    report = verify(written.lines, written.checkpoints)
    assert (report.problems, report.torn) == ([], [])
    assert (report.first, report.last, report.chain) == (1, 10, written.chain.name)
    assert report.vouched == written.checkpoints[-1]


def test_lines_behind_the_last_checkpoint_are_nobodys_word() -> None:
    written = Written()
    report = verify(written.lines[:8], written.checkpoints)
    assert report.problems == []
    assert report.vouched is not None
    assert (report.vouched.checkpoint.seq, report.vouched.time) == (8, LATER)


@pytest.mark.parametrize("size", [1, 40, -2])
def test_a_line_that_is_torn_off_is_reported_and_no_tampering(size: int) -> None:
    written = Written()
    content = b"".join(written.lines)
    report = verify([*written.lines, written.chain.line({"event": "opened"})[:size]])
    assert (report.problems, report.torn) == ([], [10])

    torn = written.chain.line({"event": "opened"})[:size]
    chain, left = resumed(content + torn)
    assert (chain.name, chain.seq, left) == (written.chain.name, 10, torn)
    line = chain.line({"event": "started", "torn": sha256(left).hexdigest()})
    report = verify([*written.lines, torn + b"\n", line + b"\n"], written.checkpoints)
    assert (report.problems, report.torn, report.last) == ([], [10], 11)


def test_what_is_torn_off_twice_is_one_gap() -> None:
    written = Written()
    chain, left = resumed(b"".join(written.lines) + b'{"seq": 11\n{"se')
    assert left == b'{"seq": 11\n{"se'
    line = chain.line({"event": "started", "torn": sha256(left).hexdigest()})
    report = verify([*written.lines, b'{"seq": 11\n', b'{"se\n', line + b"\n"])
    assert (report.problems, report.torn) == ([], [10])


def test_a_last_line_without_its_end_is_a_line() -> None:
    written = Written()
    content = b"".join(written.lines)
    chain, left = resumed(content.removesuffix(b"\n"))
    assert (chain.seq, left) == (10, b"")
    assert chain.checkpoint() == written.chain.checkpoint()


def test_a_file_that_was_moved_away_goes_on_in_the_next_one() -> None:
    first = Written()
    second = Written(first.chain, 3)
    verifier = Verifier(first.checkpoints)
    verifier.file("audit.1", first.lines)
    verifier.file("audit", second.lines)
    report = verifier.report()
    assert (report.problems, report.last) == ([], 13)
    alone = verify(second.lines)
    assert (alone.problems, alone.first) == ([], 11)
    verifier = Verifier()
    verifier.file("audit.1", first.lines[:-1])
    verifier.file("audit", second.lines)
    assert verifier.report().problems == ["audit:1: line 10 is missing"]


@pytest.mark.parametrize("content", [b"some text\n", b"some text", b'{"a": 1}\n', b"[]\n"])
def test_what_is_no_audit_file_is_not_gone_on_with(content: bytes) -> None:
    with pytest.raises(ConfigError, match="not an audit file"):
        resumed(content)


def test_checkpoints_are_read_as_they_were_written_down() -> None:
    checkpoint = Written().chain.checkpoint()
    entry = {"time": TIME, "peer": "gate", "chain": checkpoint.chain}
    entry |= {"seq": str(checkpoint.seq), "hash": checkpoint.hash}
    line = json.dumps({**entry, "seq": checkpoint.seq}).encode()
    told = Vouched(checkpoint, TIME, "gate")
    assert read_checkpoints([line + b"\n", line + b"\n", line[:50]], "file") == [told, told]
    with pytest.raises(ConfigError, match=r"file:2: field seq must be a whole number"):
        read_checkpoints([line + b"\n", json.dumps(entry).encode() + b"\n"], "file")
