"""What can be done to a running role from its page (rows O6, L14, U15)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IExplains, IOpensPorts, ISteered, IUnlocks
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.explain import explain
from tunnelkit.policy.printable import printable
from tunnelkit.roles.live_ports import KINDS, LivePort, LivePorts
from tunnelkit.services.control import Commands
from tunnelkit.services.reload import Reloader

Wish = Mapping[str, object]
"""What a request's body says, by name."""
Action = Callable[[Wish], Mapping[str, object]]
"""Does it; the answer, or `ConfigError`."""

Explain = Callable[[str, str], Mapping[str, object]]
"""Who, and what: see `IExplains`."""

_COMMANDS = ("connect", "disconnect-now")
"""Of a role, that are actions as they are."""
LONGEST_BAR = 30 * 86_400.0
"""Seconds for which somebody can be kept out: for good, his key is revoked."""


class Steering:
    """Of one role. ``end`` begins the end of the process, as SIGTERM does."""

    def __init__(self, role: Any, reloader: Reloader, end: Callable[[], object]) -> None:
        self._commands: Commands = role.commands()
        self.steered: ISteered | None = ISteered(role, None)
        """What shows what is open; None: this role does not."""
        self._reloader = reloader
        self._end = end
        self.draining = False
        """It takes nothing new, and ends."""
        self._actions: dict[str, Action] = {"drain": self._drain, "reload": self._reload}
        for name in _COMMANDS:
            if name in self._commands:
                self._actions[name] = self._plain(name)
        self._ports: LivePorts | None = None
        self._unlocks = IUnlocks(role, None)
        if self._unlocks is not None:
            self._actions["unlock"] = self._unlock
        if IOpensPorts.providedBy(role):
            self._ports = role.live_ports
            self._actions["forwards"] = self._forwards
        self.explain = _explainer(role)
        """Says what the rules here say of a wish; None: there are none."""
        if self.steered is not None or "disconnect" in self._commands:
            self._actions["disconnect"] = self._disconnect

    @property
    def names(self) -> tuple[str, ...]:
        """What can be done."""
        return tuple(self._actions)

    @property
    def abilities(self) -> tuple[str, ...]:
        """The same as the page has to know it."""
        found = [name for name in self._actions if name != "disconnect"]
        if "disconnect" in self._commands:
            found.append("disconnect")
        if self.steered is not None:
            found.append("channels")
        if self.explain is not None:
            found.append("explain")
        return tuple(found)

    def act(self, name: str, wish: Wish) -> Mapping[str, object]:
        """Do it; raises `ConfigError`."""
        return self._actions[name](wish)

    def _plain(self, name: str) -> Action:
        command = self._commands[name]

        def act(wish: Wish) -> Mapping[str, object]:
            only(wish)
            return command()

        return act

    def _disconnect(self, wish: Wish) -> Mapping[str, object]:
        """Nothing: as the command. ``channel``: that one. ``peer``: all of him, and he is kept out
        for ``for`` seconds. ``all``: everything that is open."""
        only(wish, "channel", "peer", "for", "all")
        channel, peer = text_of(wish, "channel"), text_of(wish, "peer")
        seconds = seconds_of(wish, "for", LONGEST_BAR)
        if bool(channel) + bool(peer) + (wish.get("all") is True) > 1:
            raise ConfigError("channel, peer, all: expected one of them")
        if seconds and not peer:
            raise ConfigError("for: it says nothing of whom: expected peer too")
        steered = self.steered
        if channel or peer or wish.get("all") is True:
            if steered is None:
                raise ConfigError("this role does not show what is open: expected nothing")
            if peer:
                return {"ended": steered.throw_out(peer, seconds)}
            numbers = [channel] if channel else [row.id for row in list(steered.traffic())]
            return {"ended": sum(steered.end_one(number) for number in numbers)}
        command = self._commands.get("disconnect")
        if command is None:
            raise ConfigError("this role does not dial: expected channel, peer or all")
        return command()

    def forwards(self) -> dict[str, object] | None:
        """Ports that were added by hand, and what kinds there are; None: this role takes none."""
        if self._ports is None:
            return None
        ports = [attrs.asdict(port) for port in self._ports.ports]
        return {"kinds": KINDS, "forwards": ports}

    def _forwards(self, wish: Wish) -> Mapping[str, object]:
        """``add`` or ``remove``: a kind of port; ``value``: as its option has it."""
        only(wish, "add", "remove", "value")
        assert self._ports is not None
        add, remove, value = (text_of(wish, name) for name in ("add", "remove", "value"))
        if bool(add) == bool(remove) or not value:
            raise ConfigError("expected add or remove with a kind of port, and value")
        if add:
            return {"opened": self._ports.open(LivePort(add, value))}
        return {"closed": self._ports.close(LivePort(remove, value))}

    def _unlock(self, wish: Wish) -> Mapping[str, object]:
        """``passphrase``: that of the identity."""
        only(wish, "passphrase")
        assert self._unlocks is not None
        answer: Mapping[str, object] = self._unlocks.unlock(text_of(wish, "passphrase").encode())
        return answer

    @property
    def locked(self) -> str:
        """What waits for its passphrase; empty: nothing."""
        return str(self._unlocks.locked) if self._unlocks is not None else ""

    def _drain(self, wish: Wish) -> Mapping[str, object]:
        only(wish)
        self.draining = True
        self._end()
        return {"draining": True}

    def _reload(self, wish: Wish) -> Mapping[str, object]:
        only(wish)
        return self._reloader.reload()


def _explainer(role: Any) -> Explain | None:
    own = IExplains(role, None)
    if own is not None:
        found: Explain = own.explain
        return found
    policy = getattr(role, "policy", None)
    return partial(explain, policy) if isinstance(policy, PolicyHolder) else None


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
