"""How often an end has met each of those that it is paired with, remembered over restarts (Q2)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunnelkit.core.pairing.meetings import Known
from tunnelkit.errors import ConfigError
from tunnelkit.policy.files import reason
from tunnelkit.policy.printable import printable
from tunnelkit.policy.state_file import StateFile
from tunnelkit.wire.meetings import Count

FILE = "meetings.json"
MOST_PAIRS = 1000
"""Those that have met last are kept."""


class MeetingCounts:
    """What is known, in ``DIR/meetings.json``; each pair by the keys of both, 64 hex digits each.

    Where that cannot be read and written everything raises `ConfigError`.
    """

    def __init__(
        self, directory: str | os.PathLike[str], clock: Callable[[], float] = time.time
    ) -> None:
        self._file = StateFile(Path(directory) / FILE)
        self._clock = clock

    def known(self, own: str, other: str) -> Known:
        """By the end with the key ``own``, of that with ``other``."""
        try:
            return _known(self._file.read().get(_pair(own, other)))
        except OSError as error:
            raise self._problem(error) from None

    def seconds_since(self, own: str, other: str) -> float | None:
        """How long ago the two have met; None: that is not known."""
        try:
            entry = self._file.read().get(_pair(own, other))
        except OSError as error:
            raise self._problem(error) from None
        at = entry.get("at") if isinstance(entry, dict) else None
        return self._clock() - at if isinstance(at, int | float) else None

    def coming(self, own: str, other: str, count: Count, told: Count) -> None:
        """``count`` is named to the other end, which has told that ``told`` is its last one; it
        may write it down, or not."""
        self._change(own, other, lambda old: old.naming(count, told))

    def met(self, own: str, other: str, count: Count, after: Count | None = None) -> bool:
        """``count`` is written down at both ends.

        False, and nothing has changed: ``after`` is not the last one any more.
        """
        return self._change(
            own, other, lambda old: Known(count) if after in (None, old.last) else None
        )

    def _change(self, own: str, other: str, change: Callable[[Known], Known | None]) -> bool:
        pair = _pair(own, other)
        try:
            with self._file.locked():
                entries = self._file.read()
                # Behind all others: those before have not met for longer.
                old = entries.pop(pair, None)
                found = change(_known(old))
                if found is None:
                    return False
                met = self._clock() if not found.coming else _at(old)
                entries[pair] = {
                    **found.last.fields(),
                    "coming": [count.fields() for count in found.coming],
                    "at": met,
                }
                self._file.write(dict(list(entries.items())[-MOST_PAIRS:]))
        except OSError as error:
            raise self._problem(error) from None
        return True

    def _problem(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{printable(os.fspath(self._file.path))}: cannot be kept ({reason(error)}): meetings "
            "are not counted, so a copied identity does not show; expected --state-dir DIR"
        )


def _pair(own: str, other: str) -> str:
    return f"{own} {other}"


def _at(entry: Any) -> float:
    at = entry.get("at") if isinstance(entry, dict) else None
    return float(at) if isinstance(at, int | float) else 0.0


def _known(entry: Any) -> Known:
    """What an entry of the file says; one that is damaged says that nothing is known."""
    try:
        coming = tuple(Count(int(one["number"]), str(one["mark"])) for one in entry["coming"])
        return Known(Count(int(entry["number"]), str(entry["mark"])), coming)
    except (KeyError, TypeError, ValueError):
        return Known()
