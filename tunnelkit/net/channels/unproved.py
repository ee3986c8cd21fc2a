"""How many strangers may be at the door at once: early drop (rules X16, X18)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

MAX_UNPROVED = 200
"""Connections whose certificate has not been seen yet (rule X16); the oldest goes first."""
MAX_UNPROVED_PER_ADDRESS = 16


class Unproved:
    """Those that came in and have not proved who they are."""

    def __init__(self) -> None:
        self._proving: dict[Deferred[Any], str] = {}

    def make_room(self, host: str) -> None:
        """Drop who has been here longest without proof, from ``host`` or from anywhere, if there
        are too many for one more."""
        same = [proving for proving, other in self._proving.items() if other == host]
        if len(same) >= MAX_UNPROVED_PER_ADDRESS:
            same[0].cancel()
        elif len(self._proving) >= MAX_UNPROVED:
            next(iter(self._proving)).cancel()

    def add(self, proving: Deferred[Any], host: str) -> None:
        """One from ``host``; ``proving`` fires when it has proved itself or failed."""
        self._proving[proving] = host

        def over(result: Any) -> Any:
            self._proving.pop(proving, None)
            return result

        proving.addBoth(over)
