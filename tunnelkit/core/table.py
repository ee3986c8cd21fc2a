"""State machines as literal tables: ``{(state, input): (action, state)}``.

A table is data, so a test can walk it and the documentation can print it. What
is not in it breaks the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TypeVar

from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError

State = TypeVar("State", bound=Enum)
Input = TypeVar("Input", bound=Enum)
Action = TypeVar("Action", bound=Enum)


class Symbol(Enum):
    """A state, input or action of a table that is asked for every message.

    Members are hashed by identity, as they are compared: an `Enum` hashes its name, in Python,
    which would be two calls more for every look-up.
    """

    __hash__ = object.__hash__


def step(
    table: Mapping[tuple[State, Input], tuple[Action, State]],
    state: State,
    happened: Input,
    code: Code = Code.PROTOCOL,
) -> tuple[Action, State]:
    """What to do and the state to go to when ``happened`` comes in ``state``.

    Raises `RemoteProtocolError` with ``code`` and the state's name if the table has no entry.
    """
    entry = table.get((state, happened))
    if entry is None:
        raise RemoteProtocolError(
            f"{happened.name} is not allowed in state {state.name}", code=code, state=state.name
        )
    return entry


def local_step(
    table: Mapping[tuple[State, Input], tuple[Action, State]],
    state: State,
    wanted: Input,
    what: str,
) -> tuple[Action, State]:
    """The same for a wish of this side; raises `LocalProtocolError` that begins with ``what``."""
    entry = table.get((state, wanted))
    if entry is None:
        raise LocalProtocolError(f"{what} is {state.value}: {wanted.name} is not possible")
    return entry


def states_with(
    table: Mapping[tuple[State, Input], tuple[Action, State]], happened: Input
) -> frozenset[State]:
    """The states in which ``happened`` is allowed."""
    return frozenset(state for state, each in table if each is happened)


def reachable(
    table: Mapping[tuple[State, Input], tuple[Action, State]], start: State
) -> Iterator[State]:
    """Every state that ``start`` can lead to, ``start`` first."""
    seen = [start]
    for state in seen:
        yield state
        for (source, _), (_, target) in table.items():
            if source is state and target not in seen:
                seen.append(target)


def as_markdown(table: Mapping[tuple[State, Input], tuple[Action, State]]) -> str:
    """The table in the form in which the documentation shows it, in its own order."""
    lines = ["| state | input | action | next state |", "| --- | --- | --- | --- |"]
    for (state, happened), (action, target) in table.items():
        lines.append(f"| {state.name} | {happened.name} | {action.name} | {target.name} |")
    return "\n".join(lines) + "\n"
