"""A short conversation on a channel of a tunnel that is up, sans-IO: one table, run on messages.

Send ``data_to_send()`` after making a `Talk` and after every call.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

import attrs

from tunnelkit.core.table import local_step, step
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.message_set import M, MessageSet
from tunnelkit.wire.pairing import Refuse

STEP_LIMIT = 10.0
"""Seconds for what the other end's program answers by itself."""
MAX_BYTES = 16384
MAX_MESSAGES = 4

State = TypeVar("State", bound=Enum)
Input = TypeVar("Input", bound=Enum)
Action = TypeVar("Action", bound=Enum)


@attrs.frozen
class Grammar(Generic[M, State, Input, Action]):
    """What may be said, and when."""

    table: Mapping[tuple[State, Input], tuple[Action, State]]
    inputs: Mapping[type[M], Input]
    """Of each message, what it is to the table."""
    messages: MessageSet[M]
    done: State
    """All has been said."""
    ended: State
    """One of the two has said no."""


class Talk(Generic[M, State, Input, Action]):
    """One side of one conversation, which begins in ``start``."""

    def __init__(
        self, grammar: Grammar[M, State, Input, Action], start: State, what: str, now: float
    ) -> None:
        """``what`` names it in errors, e.g. ``this renewal``."""
        self._grammar = grammar
        self._what = what
        self._reader = FrameReader(grammar.messages.check_header, MAX_BYTES, MAX_MESSAGES)
        self._outbound = bytearray()
        self._deadline: float | None = now + STEP_LIMIT
        self.state = start

    @property
    def over(self) -> bool:
        """Nothing more is said."""
        return self._deadline is None

    @property
    def succeeded(self) -> bool:
        """All has been said."""
        return self.state is self._grammar.done

    def data_to_send(self) -> bytes:
        """What has to go out now; empties the queue."""
        data, self._outbound = bytes(self._outbound), bytearray()
        return data

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called; None once it is over."""
        return self._deadline

    def deadline_passed(self, now: float) -> str:
        """Why it is over, if what is waited for has not come; otherwise empty."""
        if self._deadline is None or now < self._deadline:
            return ""
        reason = f"the other end did not go on: {self.state.value}"
        self._refuse(Code.TIMED_OUT, reason)
        return reason

    def receive(self, data: bytes | memoryview, now: float) -> list[tuple[Action, M]]:
        """Take bytes as they come, cut anywhere: what is to be done about each message.

        Raises `RemoteProtocolError`. What comes behind the end is passed over.
        """
        self._reader.feed(data)
        found: list[tuple[Action, M]] = []
        try:
            while not self.over and (frame := self._reader.next_frame()) is not None:
                message = self._grammar.messages.decode(frame)
                happened = self._grammar.inputs[type(message)]
                action, self.state = step(self._grammar.table, self.state, happened)
                found.append((action, message))
                self._goes_on(now)
        except RemoteProtocolError as error:
            self._refuse(error.code, str(error))
            raise
        return found

    def say(self, wanted: Input, message: M, now: float) -> None:
        """This side's own step, which says ``message``."""
        _, self.state = local_step(self._grammar.table, self.state, wanted, self._what)
        self._outbound += self._grammar.messages.encode(message)
        self._goes_on(now)

    def decline(self, wanted: Input, code: Code, reason: str) -> None:
        """This side's own step, which says no."""
        _, self.state = local_step(self._grammar.table, self.state, wanted, self._what)
        self._refuse(code, reason)

    def _goes_on(self, now: float) -> None:
        over = self.state in (self._grammar.done, self._grammar.ended)
        self._deadline = None if over else now + STEP_LIMIT

    def _refuse(self, code: Code, reason: str) -> None:
        refusal: MessageSet[Refuse] = MessageSet((Refuse,))
        self._outbound += refusal.encode(Refuse(code, reason))
        self._deadline = None
