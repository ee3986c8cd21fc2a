"""``--config FILE.toml``: the same settings as the options, with line numbers for mistakes.

The file is one flat table: each key is the name of an option without its
dashes, a repeatable option takes a list. Nothing in it is ever ignored (X22).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Given, suggestion

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_SIZE = 1 << 20
"""Bytes; a configuration file is never this large."""


def read_config_file(
    path: str,
    known: Collection[str],
    flags: Collection[str],
    repeatable: Collection[str],
    files: Collection[str] = (),
) -> dict[str, list[Given]]:
    """The settings in the file; raises `ConfigError` with file, line and key for every mistake.

    The values of ``files`` are paths: one that is relative is looked up beside the file, so that
    a directory with all that an end needs can be put anywhere (row Q3).
    """
    beside = os.path.dirname(path)
    text = _read(path)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(path, text, str(error))) from None
    lines = _lines_of_keys(text)
    settings: dict[str, list[Given]] = {}
    for key, value in table.items():
        line = lines.get(key, 1)
        where = f"{path}:{line}: key {printable(key)}"
        if key not in known:
            expected = ", ".join(sorted(known))
            raise ConfigError(
                f"{where}: not known{suggestion(key, known)}: expected one of {expected}"
            )
        if key in flags:
            if not isinstance(value, bool):
                raise ConfigError(f"{where}: expected true or false")
            settings[key] = [Given("true", where, path)] if value else []
        elif isinstance(value, list):
            if key not in repeatable:
                raise ConfigError(f"{where}: expected one value, not a list")
            settings[key] = [
                Given(_text(item, f"{where}, entry {n}"), f"{where}, entry {n}", path)
                for n, item in enumerate(value, 1)
            ]
        else:
            settings[key] = [Given(_text(value, where), where, path)]
        if key in files:
            settings[key] = [
                Given(_placed(beside, given.text), given.where, path) for given in settings[key]
            ]
    return settings


def _placed(directory: str, text: str) -> str:
    """Where a path of the file leads; ``unix:PATH`` is one too."""
    scheme, colon, path = text.rpartition("unix:") if text.startswith("unix:") else ("", "", text)
    return f"{scheme}{colon}{os.path.join(directory, path)}" if path else text


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"--config {printable(path)}: {error.strerror}") from None
    if len(data) > MAX_SIZE:
        raise ConfigError(f"--config {printable(path)}: larger than 1 MiB: expected a TOML file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text: expected a TOML file") from None


def _text(value: object, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    kind = "a table" if isinstance(value, Mapping) else f"a {type(value).__name__}"
    raise ConfigError(f"{where}: expected text or a whole number, not {kind}")


def _syntax_error(path: str, text: str, message: str) -> str:
    found = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = int(found[1]) if found else max(1, len(text.splitlines()))
    reason = re.sub(r" \(at (?:line \d+, column \d+|end of document)\)$", "", message)
    return f"{path}:{line}: not valid TOML: {printable(reason)}"


def _lines_of_keys(text: str) -> dict[str, int]:
    """The line that each top-level key of a valid document starts on, counted from 1.

    The TOML parsers of Python keep no positions, so the document is taken
    apart into its statements: the shortest runs of lines that parse alone.
    """
    found: dict[str, int] = {}
    statement: list[str] = []
    start = 1
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            start = number
        statement.append(line)
        try:
            keys = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            continue
        for key in keys:
            found.setdefault(key, start)
        statement = []
    return found
