"""What is open at a role, as its page asks for it: sorted, filtered, a thousand rows (row O6)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs

from tunnelkit.errors import ConfigError
from tunnelkit.net.traffic import BROWSER, Traffic
from tunnelkit.policy.destination import split_host_port
from tunnelkit.policy.printable import printable

MOST_ROWS = 1000
"""That are shown."""
MOST_LOOKED_AT = 100_000
_SLICE = 100
"""Rows that are written at a time."""
_FIELDS = frozenset(field.name for field in attrs.fields(Traffic))
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
    # At once: what is open changes between two pieces.
    rows = list(islice(traffic, MOST_LOOKED_AT))
    total = len(rows)
    yield b""
    if question.text:
        rows = [row for row in rows if question.text in _text_of(row)]
        yield b""
    rows.sort(key=lambda row: _key(getattr(row, question.by)), reverse=question.down)
    yield f'{{"total": {total}, "matching": {len(rows)}, "rows": ['.encode("ascii")
    shown = iter(rows[:MOST_ROWS])
    comma = ""
    while some := list(islice(shown, _SLICE)):
        yield (comma + ", ".join(json.dumps(_as_mapping(row)) for row in some)).encode("ascii")
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


def _as_mapping(row: Traffic) -> dict[str, object]:
    return {**attrs.asdict(row), "whom": whom(row)}


def _text_of(row: Traffic) -> str:
    return f"{row.who}\n{row.what}\n{row.origin}\n{row.state}\n{row.kind}".casefold()


def _key(value: Any) -> tuple[bool, float, str]:
    if isinstance(value, int | float):
        return True, float(value), ""
    return False, 0.0, value or ""
