"""The pinned keys in a settings file, replaced there while an end runs (row Q2).

Nothing else in the file changes, comments and order included: what comes out is read again, and
refused unless it says what was meant.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tunnelkit.errors import ConfigError
from tunnelkit.policy.identity import PIN_PREFIX
from tunnelkit.policy.key_directory import write_over
from tunnelkit.policy.printable import printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEY = "peer-pin"
EXPECTED = (
    "expected a list 'peer-pin = [' with \"NAME=sha256:HEX\" in it once, as `tunnelkit pair` "
    "writes it"
)


def replace_pins(path: str, name: str, pins: Sequence[bytes]) -> None:
    """Let ``pins`` be the keys of ``name``, the newest last; one of them at least is there now.

    Raises `ConfigError`, and nothing has changed then.
    """
    place = Path(os.path.realpath(path))
    where = printable(path)
    try:
        text = place.read_text("utf-8")
        edited = with_pins(text, name, pins)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if edited != text:
        write_over(place, edited.encode("utf-8"))


def with_pins(text: str, name: str, pins: Sequence[bytes]) -> str:
    """The document ``text`` with these keys of ``name``; raises `ConfigError`."""
    table = tomllib.loads(text)
    listed = table.get(KEY)
    if not isinstance(listed, list):
        raise ConfigError(EXPECTED)
    wanted = [f"{name}={PIN_PREFIX}{pin.hex()}" for pin in pins]
    before = [entry for entry in listed if entry.rpartition("=")[0] == name]
    kept = [entry for entry in before if entry in wanted]
    if not kept or kept != wanted[: len(kept)]:
        raise ConfigError(f"the key of {name} is not in it any more")
    for entry in before:
        if entry not in wanted:
            text = _without(text, _literal(text, entry))
    last = kept[-1]
    for entry in wanted[len(kept) :]:
        text = _with(text, _literal(text, last), entry)
        last = entry
    place = listed.index(kept[0])
    others = [entry for entry in listed[:place] if entry not in before]
    behind = [entry for entry in listed[place:] if entry not in before]
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        found = {}
    if found != {**table, KEY: [*others, *wanted, *behind]}:
        raise ConfigError(EXPECTED)
    return text


def _literal(text: str, entry: str) -> str:
    """How the file writes ``entry``."""
    for literal in (f'"{entry}"', f"'{entry}'"):
        if text.count(literal) == 1:
            return literal
    raise ConfigError(EXPECTED)


def _with(text: str, literal: str, entry: str) -> str:
    """``entry`` behind ``literal``, on a line of its own if that has one."""
    own = re.search(rf"^([ \t]*){re.escape(literal)}[ \t]*,?[ \t]*(?=$|#)", text, re.MULTILINE)
    gap = f"\n{own[1]}" if own is not None else " "
    return text.replace(literal, f"{literal},{gap}{literal[0]}{entry}{literal[0]}")


def _without(text: str, literal: str) -> str:
    line = re.compile(rf"^[ \t]*{re.escape(literal)}[ \t]*,?[ \t]*\n", re.MULTILINE)
    shorter, found = line.subn("", text)
    return shorter if found else re.sub(rf"{re.escape(literal)}[ \t]*,?[ \t]*", "", text)
