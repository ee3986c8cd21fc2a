"""Settings: how they are declared, and how they were given, with the place to name when wrong.

Light, because every start of twistd imports what declares options.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypeVar

import attrs

from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable

T = TypeVar("T")


@attrs.frozen
class Option:
    """One setting of a role or front end.

    It is an option of the command line, a key of ``--config`` and a keyword of endpoint strings.
    """

    name: str
    """The option without its dashes; lower case, with hyphens: ``dns-server``."""
    metavar: str
    """What its value is, as help and errors name it: ``[HOST:]PORT``. Empty: a flag, no value."""
    help: str
    """The rest of the sentence that begins with ``metavar``."""
    repeatable: bool = False
    """It may be given more than once; a list in ``--config``."""
    live: bool = False
    """A reload takes it over; otherwise a change needs a restart."""
    files: str = ""
    """Its value is a file, and shells complete those of this pattern, ``*.pem``."""
    commas: bool = False
    """In endpoint strings, which have each keyword once, commas separate several values."""

    @property
    def doc(self) -> str:
        """One line for ``--help``."""
        gap = "" if not self.metavar or self.help.startswith(",") else " "
        return f"{self.metavar}{gap}{self.help}{'; repeatable' if self.repeatable else ''}"

    @property
    def attribute(self) -> str:
        """As part of a Python name."""
        return self.name.replace("-", "_")


@attrs.frozen
class Given:
    """One value of one setting, before anybody has looked at it."""

    text: str
    """What was written; a flag that is set reads ``true``."""
    where: str
    """The place: ``--listen``, or ``end.toml:3: key listen``."""
    from_file: str = ""
    """The configuration file it stands in; empty for the command line."""

    def wrong(self, what: str, expected: str, *, show: bool = True) -> NoReturn:
        """Raise the `ConfigError` for this value; ``show`` False keeps a secret out of it (X13)."""
        shown = f" {printable(self.text)}" if show else ""
        raise ConfigError(f"{self.where}{shown}: {what}: expected {expected}")

    def parsed(self, parse: Callable[[str], T]) -> T:
        """``parse(text)``, with the place put before the message of its `ConfigError`."""
        try:
            return parse(self.text)
        except ConfigError as error:
            raise ConfigError(f"{self.where}: {error}") from None


class Settings:
    """All values given for a role, by the name of the option without dashes."""

    def __init__(self, values: Mapping[str, Iterable[Given]]) -> None:
        self._values = {name: tuple(given) for name, given in values.items()}

    def all(self, name: str) -> tuple[Given, ...]:
        """Every value of a repeatable setting, in order."""
        return self._values.get(name, ())

    def one(self, name: str) -> Given | None:
        """The value of a setting; the last one where it was repeated on the command line."""
        values = self._values.get(name, ())
        return values[-1] if values else None

    def required(self, name: str, meaning: str) -> Given:
        """The value of a setting that has to be there; raises `ConfigError` naming it."""
        given = self.one(name)
        if given is None:
            raise ConfigError(f"--{name} is missing: expected {meaning}")
        return given

    def with_values(self, name: str, values: Iterable[Given]) -> Settings:
        """The same with other values for one setting; none: it is not given."""
        others = {key: given for key, given in self._values.items() if key != name}
        values = tuple(values)
        return Settings({**others, name: values} if values else others)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that are given."""
        return tuple(self._values)

    def differing(self, other: Settings) -> list[str]:
        """The names of those that do not say the same in ``other``."""
        names = sorted({*self._values, *other._values})
        return [name for name in names if self._texts(name) != other._texts(name)]

    def _texts(self, name: str) -> list[str]:
        return [given.text for given in self.all(name)]

    def flag(self, name: str) -> bool:
        """Whether a flag is set."""
        given = self.one(name)
        return given is not None and given.text == "true"


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`` (did you mean 'x'?)`` if a known word is close; empty otherwise."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{prefix}{close[0]}'?)" if close else ""
