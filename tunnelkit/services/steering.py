"""What can be done to a running role from its page (rows O6, L14, U15)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable
from tunnelkit.services.control import Commands
from tunnelkit.services.reload import Reloader

Wish = Mapping[str, object]
"""What a request's body says, by name."""
Action = Callable[[Wish], Mapping[str, object]]
"""Does it; the answer, or `ConfigError`."""

_COMMANDS = ("connect", "disconnect", "disconnect-now")
"""Of a role, that are actions as they are."""


class Steering:
    """Of one role. ``end`` begins the end of the process, as SIGTERM does."""

    def __init__(self, role: Any, reloader: Reloader, end: Callable[[], object]) -> None:
        self._commands: Commands = role.commands()
        self._reloader = reloader
        self._end = end
        self.draining = False
        """It takes nothing new, and ends."""
        self._actions: dict[str, Action] = {"drain": self._drain, "reload": self._reload}
        for name in _COMMANDS:
            if name in self._commands:
                self._actions[name] = self._plain(name)

    @property
    def names(self) -> tuple[str, ...]:
        """What can be done."""
        return tuple(self._actions)

    def act(self, name: str, wish: Wish) -> Mapping[str, object]:
        """Do it; raises `ConfigError`."""
        return self._actions[name](wish)

    def _plain(self, name: str) -> Action:
        command = self._commands[name]

        def act(wish: Wish) -> Mapping[str, object]:
            only(wish)
            return command()

        return act

    def _drain(self, wish: Wish) -> Mapping[str, object]:
        only(wish)
        self.draining = True
        self._end()
        return {"draining": True}

    def _reload(self, wish: Wish) -> Mapping[str, object]:
        only(wish)
        return self._reloader.reload()


def only(wish: Wish, *names: str) -> None:
    """Refuse what else it says (`ConfigError`)."""
    for name in wish:
        if name not in names:
            expected = ", ".join(names) or "nothing"
            raise ConfigError(f"{printable(name)}: not possible here: expected {expected}")


def text_of(wish: Wish, name: str) -> str:
    """A text in it; empty if it is not there. Raises `ConfigError`."""
    value = wish.get(name, "")
    if not isinstance(value, str):
        raise ConfigError(f"{name}: it is no text: expected one")
    return value


def seconds_of(wish: Wish, name: str, most: float) -> float:
    """A time in it; 0 if it is not there. Raises `ConfigError`."""
    value = wish.get(name, 0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise ConfigError(f"{name}: not possible: expected 0 to {most:g} seconds")
    return float(value)
