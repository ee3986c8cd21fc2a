"""What is open at a role, as its page asks for it: sorted, filtered, a thousand rows (row O6)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import attrgetter
from typing import Any

import attrs

from tunnelkit.errors import ConfigError
from tunnelkit.net.traffic import BROWSER, Traffic
from tunnelkit.policy.destination import split_host_port
from tunnelkit.policy.printable import printable

MOST_ROWS = 1000
"""That are shown."""
MOST_LOOKED_AT = 100_000
_SLICE = 50
"""Rows that are made or written at a time: half a millisecond's work."""
_FIELDS = tuple(field.name for field in attrs.fields(Traffic))
_values_of = attrgetter(*_FIELDS)
_BY_ADDRESS = frozenset({"pair", "waiting", "association"})
"""Kinds in which names prove nothing: who is thrown out is an address."""


@attrs.frozen
class Question:
    """Which of them."""

    text: str = ""
    """In any of a row's texts, in upper or lower case."""
    by: str = "seconds"
    """The field to sort by."""
    down: bool = True
    """The largest first."""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Question:
        """What ``filter`` and ``sort`` (a field, with ``-`` before it: the largest first) say.

        Raises `ConfigError`.
        """
        for name in given:
            if name not in ("filter", "sort"):
                raise ConfigError(f"{printable(name)}: not possible here: expected filter or sort")
        sort = given.get("sort", "-seconds")
        by = sort.removeprefix("-")
        if by not in _FIELDS:
            expected = ", ".join(sorted(_FIELDS))
            raise ConfigError(f"sort {printable(by)}: there is no such field: expected {expected}")
        return cls(given.get("filter", "").casefold(), by, sort.startswith("-"))


def answered(traffic: Iterable[Traffic], question: Question) -> Iterator[bytes]:
    """The answer as JSON, in pieces: ``total``, ``matching``, and ``rows``.

    Each row has ``whom`` besides its fields: who can be thrown out because of it.
    """
    rows = islice(traffic, MOST_LOOKED_AT)
    total = matching = 0
    # At most about twice as many as are shown, and as plain tuples: with rows that live for
    # several turns the garbage collector would soon have to look through the whole process.
    kept: list[tuple[Any, ...]] = []
    while some := list(islice(rows, _SLICE)):
        total += len(some)
        if question.text:
            some = [row for row in some if question.text in _text_of(row)]
        matching += len(some)
        kept += map(_values_of, some)
        if len(kept) > 2 * MOST_ROWS:
            _keep_first(kept, question)
        yield b""
    _keep_first(kept, question)
    yield f'{{"total": {total}, "matching": {matching}, "rows": ['.encode("ascii")
    shown = iter(kept)
    comma = ""
    while piece := list(islice(shown, _SLICE)):
        written = ", ".join(json.dumps(_as_mapping(Traffic(*row))) for row in piece)
        yield (comma + written).encode("ascii")
        comma = ", "
    yield b"]}"


def whom(row: Traffic) -> list[str]:
    """Names or addresses by which it can be seen to that this one does not come back."""
    if row.kind not in _BY_ADDRESS:
        return [] if row.who == BROWSER else [row.who]
    found = []
    for place in row.origin.split(" and "):
        try:
            host, _ = split_host_port(place)
        except ConfigError:
            continue  # in this process, or a path
        if host not in found:
            found.append(host.strip("[]"))
    return found


def _keep_first(rows: list[tuple[Any, ...]], question: Question) -> None:
    """Sort, and keep as many as are shown; equal ones stay in the order in which they came."""
    by = _FIELDS.index(question.by)
    rows.sort(key=lambda row: _key(row[by]), reverse=question.down)
    del rows[MOST_ROWS:]


def _as_mapping(row: Traffic) -> dict[str, object]:
    return dict(zip((*_FIELDS, "whom"), (*_values_of(row), whom(row)), strict=True))


def _text_of(row: Traffic) -> str:
    return f"{row.who}\n{row.what}\n{row.origin}\n{row.state}\n{row.kind}".casefold()


def _key(value: Any) -> tuple[bool, float, str]:
    if isinstance(value, int | float):
        return True, float(value), ""
    return False, 0.0, value or ""
