"""Strict reading of JSON objects that a stranger sent.

Plain ``json`` accepts too much: duplicate keys, NaN, numbers of thousands of
digits, nesting that exhausts the stack, halves of surrogate pairs. Here each
of them is a `RemoteProtocolError`, and so is a field of another type than the
one asked for; ``true`` is not a number. Fields nobody asks for are ignored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from tunnelkit.errors import RemoteProtocolError

MAX_DEPTH = 16
"""How deep objects and lists may be nested."""
MAX_DIGITS = 20
"""Characters of an integer: enough for 64 bits."""

_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_STEPS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}

_KINDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


class _Refused(Exception):
    """Raised inside the parser's hooks: what is wrong, without saying where."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Refused("the same field twice")
    return fields


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _Refused(f"a number of more than {MAX_DIGITS} digits")
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


_raw_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant
).raw_decode
_BLANKS = " \t\n\r"

dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""The shortest JSON text of an object, without escapes for what UTF-8 can say."""
quoted: Callable[[str], str] = json.encoder.encode_basestring
"""What `dump` makes of one text."""


def _decode(text: str) -> object:
    """What ``text`` says, with blanks around it or none; raises ValueError."""
    text = text.strip(_BLANKS)
    value, end = _raw_decode(text)
    if end != len(text):
        raise ValueError
    return value


def _too_deep(body: bytes) -> bool:
    """Whether brackets outside of strings are nested deeper than `MAX_DEPTH`; linear time."""
    depth = 0
    for token in _BRACKETS.findall(body):
        depth += _STEPS.get(token, 0)
        if depth > MAX_DEPTH:
            return True
    return False


def load(body: bytes, what: str) -> Fields:
    """The object in ``body`` (UTF-8 JSON); an empty body reads as ``{}``.

    ``what`` names the message in errors. Raises `RemoteProtocolError`.
    """
    if not body:
        return Fields({}, what)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _too_deep(body):
        raise RemoteProtocolError(f"{what}: nested deeper than {MAX_DEPTH} levels")
    try:
        value = _decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise RemoteProtocolError(f"{what}: the body is not UTF-8") from None
    except _Refused as wrong:
        raise RemoteProtocolError(f"{what}: {wrong}") from None
    except ValueError:
        raise RemoteProtocolError(f"{what}: the body is not JSON") from None
    if type(value) is not dict:
        raise RemoteProtocolError(f"{what}: the body must be an object, not {_KINDS[type(value)]}")
    return Fields(value, what)


class Fields:
    """The fields of one object; every method raises `RemoteProtocolError` naming the field.

    ``get_*`` methods give None for a field that is absent; the others demand it.
    """

    __slots__ = ("_values", "_what")

    def __init__(self, values: dict[str, object], what: str) -> None:
        self._values = values
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def those_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Which of ``names`` are there."""
        return tuple(filter(self._values.__contains__, names))

    def wrong(self, name: str, expected: str) -> RemoteProtocolError:
        """The error for a field that is not what it must be."""
        kind = _KINDS[type(self._values[name])] if name in self._values else "absent"
        return RemoteProtocolError(f"{self._what}: field {name} must be {expected}; it is {kind}")

    def is_null(self, name: str) -> bool:
        """Whether the field is absent or null."""
        return self._values.get(name) is None

    def text(self, name: str, most: int, least: int = 0) -> str:
        """Text of ``least`` to ``most`` characters."""
        value = self._values.get(name)
        if (
            type(value) is not str
            or not least <= len(value) <= most
            or not (value.isascii() or _encodable(value))
        ):
            raise self.wrong(name, f"text of {least} to {most} characters")
        return value

    def get_text(self, name: str, most: int, least: int = 0) -> str | None:
        """The same, or None if absent."""
        return self.text(name, most, least) if name in self._values else None

    def name(self, name: str) -> str:
        """A name: 1 to 255 printable characters."""
        return self.printable(name, 255, 1)

    def printable(self, name: str, most: int, least: int = 0) -> str:
        """Text of ``least`` to ``most`` printable characters."""
        value = self.text(name, most, least)
        if not value.isprintable():
            raise self.wrong(name, f"{least} to {most} printable characters")
        return value

    def matching(self, name: str, pattern: re.Pattern[str], expected: str) -> str:
        """Text that ``pattern`` matches as a whole; ``expected`` says so in words."""
        value = self._values.get(name)
        if type(value) is not str or pattern.fullmatch(value) is None:
            raise self.wrong(name, expected)
        return value

    def one_of(self, name: str, choices: Sequence[str]) -> str:
        """Text that is one of ``choices``."""
        value = self._values.get(name)
        if type(value) is not str or value not in choices:
            raise self.wrong(name, "one of " + ", ".join(choices))
        return value

    def integer(self, name: str, least: int, most: int) -> int:
        """A whole number in the range, written without fraction or exponent."""
        value = self._values.get(name)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(name, f"a whole number from {least} to {most}")
        return value

    def get_integer(self, name: str, least: int, most: int) -> int | None:
        """The same, or None if absent."""
        return self.integer(name, least, most) if name in self._values else None

    def number(self, name: str, most: float) -> float:
        """A finite number from 0 to ``most``."""
        value = self._values.get(name)
        if (
            (type(value) is not int and type(value) is not float)
            or not math.isfinite(value)
            or not 0 <= value <= most
        ):
            raise self.wrong(name, f"a number from 0 to {most:g}")
        return value

    def flag(self, name: str) -> bool:
        """``true`` or ``false``; absent reads as false."""
        value = self._values.get(name, False)
        if type(value) is not bool:
            raise self.wrong(name, "true or false")
        return value

    def items(self, name: str, most: int) -> list[object]:
        """A list of at most ``most`` entries."""
        value = self._values.get(name)
        if type(value) is not list or len(value) > most:
            raise self.wrong(name, f"a list of at most {most} entries")
        return value

    def texts(self, name: str, count: int, most: int) -> tuple[str, ...]:
        """A list of at most ``count`` texts of 1 to ``most`` characters."""
        return tuple(
            Fields({name: value}, self._what).text(name, most, 1)
            for value in self.items(name, count)
        )

    def get_texts(self, name: str, count: int, most: int) -> tuple[str, ...]:
        """The same; empty if absent."""
        return self.texts(name, count, most) if name in self._values else ()

    def object(self, name: str) -> Fields:
        """An object."""
        value = self._values.get(name)
        if type(value) is not dict:
            raise self.wrong(name, "an object")
        return Fields(value, f"{self._what} {name}")

    def pairs(self, name: str, count: int, most: int) -> tuple[tuple[str, str], ...]:
        """An object of at most ``count`` texts of at most ``most`` characters; empty if absent."""
        if name not in self._values:
            return ()
        inner = self.object(name)
        if len(inner._values) > count:
            raise self.wrong(name, f"an object of at most {count} texts")
        for key in inner._values:
            if len(key) > most or not _encodable(key):
                raise self.wrong(name, f"an object whose fields have at most {most} characters")
        return tuple((key, inner.text(key, most)) for key in inner._values)

    def objects(self, name: str, count: int) -> list[Fields]:
        """A list of at most ``count`` objects."""
        entries = []
        for index, value in enumerate(self.items(name, count)):
            if type(value) is not dict:
                raise self.wrong(f"{name}", f"a list of objects, but entry {index} is another")
            entries.append(Fields(value, f"{self._what} {name}[{index}]"))
        return entries


def _encodable(text: str) -> bool:
    """Whether UTF-8 can say it: JSON escapes can name half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
