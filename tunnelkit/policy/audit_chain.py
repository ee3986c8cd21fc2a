"""The lines of an audit file, each of which vouches for the one before (row O8).

A line is one JSON object. ``seq`` counts the lines, ``prev`` is the SHA-256 of the line before
without its end of line (zeros: there is none). The first line of each file has ``chain``, which
names the chain whatever its files are called: a file that was begun after the one before it was
moved away goes on with ``seq`` and ``prev``.

What a killed process has written of its last line stays; the next line has the hash of it as
``torn``.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

import attrs

from tunnelkit.errors import ConfigError, RemoteProtocolError
from tunnelkit.wire.checkpoint import Checkpoint
from tunnelkit.wire.json_body import load

NOTHING = "0" * 64
"""What the first line of a chain has as ``prev``."""
_BEGIN = b'{"seq": '


class Chain:
    """Where a chain has come to."""

    def __init__(self, name: str = "", seq: int = 0, last: str = NOTHING) -> None:
        self.name = name or secrets.token_hex(16)
        self.seq = seq
        self.last = last
        """The hash of the last line."""

    def line(self, entry: Mapping[str, object], first: bool = False) -> bytes:
        """The next line, without its end; ``first``: of a file. Then tell `took`."""
        head: dict[str, object] = {"seq": self.seq + 1, "prev": self.last}
        if first:
            head["chain"] = self.name
        return json.dumps({**head, **entry}).encode("ascii")

    def is_next(self, line: bytes) -> bool:
        """Whether ``line`` goes on with this chain."""
        entry = _entry(line)
        return entry is not None and (entry.seq, entry.prev) == (self.seq + 1, self.last)

    def took(self, line: bytes) -> None:
        """``line`` is the next one."""
        self.seq += 1
        self.last = sha256(line).hexdigest()

    def checkpoint(self) -> Checkpoint:
        """Up to here; there must be a line."""
        return Checkpoint(self.name, self.seq, self.last)


def resumed(content: bytes) -> tuple[Chain, bytes]:
    """The chain that goes on behind ``content``, a whole audit file, and what stands behind its
    last line: nothing, or what a killed process has left. Raises `ConfigError` if it is none."""
    lines = content.split(b"\n")
    tail = lines.pop()
    behind = [tail]
    while lines:
        entry = _entry(lines[-1])
        if entry is not None:
            chain = Chain(_chain_of(lines), entry.seq, sha256(lines[-1]).hexdigest())
            if len(behind) == 1 and tail and chain.is_next(tail):
                chain.took(tail)
                behind = [b""]
            return chain, b"\n".join(behind)
        # What was torn off before, and nothing has been written since.
        behind.insert(0, lines.pop())
    torn = b"\n".join(behind)
    if not _BEGIN.startswith(torn[: len(_BEGIN)]):
        raise ConfigError("it is not an audit file: expected one, or a new name")
    return Chain(), torn


def _chain_of(lines: Sequence[bytes]) -> str:
    for line in lines:
        entry = _entry(line)
        if entry is not None and entry.chain:
            return entry.chain
    raise ConfigError("it is not an audit file, no line has its chain: expected a new name")


@attrs.frozen
class _Entry:
    seq: int
    prev: str
    chain: str
    torn: str


def _entry(line: bytes) -> _Entry | None:
    """What a line says of the chain; None if it is no line of one."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    seq, prev = fields.get("seq"), fields.get("prev")
    chain, torn = fields.get("chain", ""), fields.get("torn", "")
    if type(seq) is not int or not all(isinstance(text, str) for text in (prev, chain, torn)):
        return None
    return _Entry(seq, str(prev), chain, torn)


# -- verifying ----------------------------------------------------------------


@attrs.frozen
class Vouched:
    """A checkpoint as its keeper wrote it down."""

    checkpoint: Checkpoint
    time: str
    """When, by the keeper's clock."""
    peer: str
    """Who said it; empty: this very process."""


def read_checkpoints(lines: Iterable[bytes], what: str) -> list[Vouched]:
    """The lines of a file of checkpoints; raises `ConfigError`. One torn off at the end is none."""
    found = []
    numbered = list(enumerate(lines, 1))
    for number, line in numbered:
        if number == len(numbered) and not line.endswith(b"\n"):
            break
        try:
            fields = load(line, f"{what}:{number}")
            told = Vouched(
                Checkpoint.from_fields(fields), fields.text("time", 64), fields.text("peer", 255)
            )
        except RemoteProtocolError as error:
            raise ConfigError(f"{error}: expected a file that --checkpoints has written") from None
        found.append(told)
    return found


@attrs.define
class Report:
    """What has been found in an audit file."""

    chain: str = ""
    first: int = 0
    """Number of the first line; 0: there is none."""
    last: int = 0
    problems: list[str] = attrs.Factory(list)
    """What is wrong, one sentence each."""
    torn: list[int] = attrs.Factory(list)
    """Behind which lines something was torn off by the end of a process."""
    vouched: Vouched | None = None
    """The last checkpoint that holds."""


class Verifier:
    """Takes the lines of a chain, file after file, oldest first; `report` says what was found."""

    def __init__(self, checkpoints: Iterable[Vouched] | None = None) -> None:
        self._report = Report()
        self._given = checkpoints is not None
        self._checkpoints: dict[int, list[Vouched]] = {}
        self._all = list(checkpoints or ())
        for told in self._all:
            self._checkpoints.setdefault(told.checkpoint.seq, []).append(told)
        self._previous = NOTHING
        self._begun = False
        self._fragment: bytes | None = None

    def file(self, name: str, lines: Iterable[bytes]) -> None:
        """One file."""
        number = 0
        self._begun = False
        for number, line in enumerate(lines, 1):
            self._line(f"{name}:{number}", line)
        if not number:
            self._wrong(f"{name}: the file is empty")

    def report(self) -> Report:
        """After the last file."""
        report = self._report
        if self._fragment is not None:
            report.torn.append(report.last)
        if self._given:
            self._compare()
        return report

    def _line(self, where: str, line: bytes) -> None:
        report = self._report
        body = line.removesuffix(b"\n")
        entry = _entry(body)
        if entry is None or not line.endswith(b"\n"):
            known = self._fragment
            self._fragment = body if known is None else known + b"\n" + body
            return
        if self._fragment is not None:
            if entry.torn != sha256(self._fragment).hexdigest():
                self._wrong(f"{where}: what stands before it is no line of the chain")
            else:
                report.torn.append(report.last)
            self._fragment = None
        if not self._begun:
            self._begun = True
            self._begin(where, entry)
        if report.last and entry.seq != report.last + 1:
            self._out_of_order(where, entry.seq)
        elif entry.prev != self._previous and (report.last or entry.seq == 1):
            before = f"line {entry.seq - 1}" if entry.seq > 1 else "the beginning"
            self._wrong(f"{where}: {before} has been changed, or this line's mark of it")
        if not report.first:
            report.first = entry.seq
        report.last = entry.seq
        self._previous = sha256(body).hexdigest()
        for told in self._checkpoints.get(entry.seq, ()):
            if told.checkpoint.chain == report.chain:
                self._check(where, told)

    def _begin(self, where: str, entry: _Entry) -> None:
        report = self._report
        if not entry.chain:
            self._wrong(
                f"{where}: the first line does not name the chain: lines before it are gone"
            )
        elif report.chain and entry.chain != report.chain:
            self._wrong(f"{where}: the file is of another chain, {entry.chain}")
        else:
            report.chain = entry.chain

    def _out_of_order(self, where: str, seq: int) -> None:
        last = self._report.last
        if seq == last + 2:
            self._wrong(f"{where}: line {last + 1} is missing")
        elif seq > last:
            self._wrong(f"{where}: lines {last + 1} to {seq - 1} are missing")
        else:
            self._wrong(f"{where}: line {seq} stands behind line {last}")

    def _check(self, where: str, told: Vouched) -> None:
        if told.checkpoint.hash != self._previous:
            self._wrong(
                f"{where}: this line, or one before it, is not what it was when "
                f"the checkpoint of {told.time} was written down"
            )
        else:
            self._report.vouched = told

    def _compare(self) -> None:
        report = self._report
        mine = [told for told in self._all if told.checkpoint.chain == report.chain]
        if not mine:
            chain = report.chain or "none"
            self._wrong(f"no checkpoint is of this chain ({chain}): is it another file?")
            return
        newest = max(mine, key=lambda told: told.checkpoint.seq)
        if newest.checkpoint.seq > report.last:
            self._wrong(
                f"the end is missing: the last line is {report.last}, and there was a line "
                f"{newest.checkpoint.seq} when the checkpoint of {newest.time} was written down"
            )

    def _wrong(self, what: str) -> None:
        self._report.problems.append(what)
