"""Channel ids: which are this side's to give out, and which have just been in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

_REMEMBERED = 1024
"""Ids of ended channels whose late messages are ignored."""
_LAST = 0xFFFFFFFF


class Ids:
    """The master allocates odd ids, the other end even ones."""

    __slots__ = ("_just_over", "_just_over_at", "_late", "_master", "next")

    def __init__(self, master: bool) -> None:
        self.next = 1 if master else 2
        """The next that this side gives out, if it is free."""
        self._master = master
        self._late: OrderedDict[int, None] = OrderedDict()
        self._just_over: set[int] = set()
        """Ids of the channels that were over at the time ``_just_over_at``."""
        self._just_over_at = 0.0

    def is_own(self, number: int) -> bool:
        """Whether this side allocates it."""
        return bool(number & 1) == self._master

    def allocate(self, live: Container[int], asked: Container[int]) -> int:
        """One that is in neither."""
        while True:
            number = self.next
            self.next = number + 2 if number + 2 <= _LAST else 2 - self._master
            if number not in live and number not in asked:
                return number

    # -- what comes for ids that are no channel's -------------------------

    def expect_late(self, number: int) -> None:
        """What still comes for this id is late, not wrong."""
        self._late[number] = None
        if len(self._late) > _REMEMBERED:
            self._late.popitem(last=False)

    def is_late(self, number: int) -> bool:
        """See `expect_late`."""
        return number in self._late

    # -- channels whose events are still on their way ---------------------

    def over(self, number: int, now: float) -> None:
        """Its channel has ended ``now``."""
        if self._just_over_at != now:
            self._just_over_at = now
            self._just_over.clear()
        self._just_over.add(number)

    def used_again(self, number: int, now: float) -> bool:
        """The far side asks ``now`` for a new channel of this id. False: events of the old one have
        not been dealt with; they name it by its id."""
        self._late.pop(number, None)
        return self._just_over_at != now or number not in self._just_over
