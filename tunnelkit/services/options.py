"""The options of every role, made from what it declares, as `twisted.python.usage` wants them.

Each option is declared once; ``--config`` accepts the same names as keys. A
mistake is one line on stderr and exit status 2 (twistd by itself would print
the whole help and end with status 1).
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IProxyRole
from tunnelkit.policy.settings import Given, Option, Settings, suggestion
from tunnelkit.roles.configure import count
from tunnelkit.services.collector import collector_off
from tunnelkit.services.config_file import read_config_file
from tunnelkit.services.pid_file import settle_pid_file
from tunnelkit.services.role_help import help_text
from tunnelkit.services.status_options import STATUS, StatusPlaces, status_of

EXIT_CONFIG = 2


def program() -> str:
    """What was called: ``twistd``, or ``tunnelkit`` (row Q1)."""
    return "tunnelkit" if os.path.basename(sys.argv[0]) == "tunnelkit" else "twistd"


def exit_with(role: str, problem: object) -> NoReturn:
    """Say what is wrong in one line on stderr and end with status 2.

    Writes past `sys.stderr`, which twistd may have turned into a log already.
    """
    line = " ".join(str(problem).split())
    os.write(2, f"{program()} {role}: {line}\n".encode("utf-8", "backslashreplace"))
    raise SystemExit(EXIT_CONFIG)


GRACE = Option(
    "grace",
    "SECONDS",
    "in which what is open may finish when it is told to end (default: 30; WTLS: 10)",
)

EVERY_ROLE = (
    Option(
        "config", "FILE.toml", "with the same settings; an option given here wins", files="*.toml"
    ),
    Option("log-json", "", "log as JSON, one object a line"),
    Option(
        "control",
        "PATH",
        "of a unix socket for `tunnelkit status`, `connect` and `disconnect`",
    ),
    GRACE,
    Option(
        "audit",
        "FILE",
        "to which the access log goes too, each line vouching for the one before",
        files="*",
    ),
    Option(
        "checkpoint-to",
        "unix:PATH|FILE",
        "for checkpoints of --audit, beside the other end",
        files="*",
    ),
    Option(
        "checkpoints",
        "FILE",
        "for the checkpoints that other ends send of their audit files",
        files="*",
    ),
    *STATUS,
)
"""What every role has, whatever it declares."""


def grace_of(settings: Settings) -> float | None:
    """What ``--grace`` says; None: nothing. Raises `ConfigError`."""
    if settings.one("grace") is None:
        return None
    return float(count(settings, "grace", 0, 0, 86_400))


def audit_of(settings: Settings) -> tuple[str, str, str]:
    """What ``--audit``, ``--checkpoint-to`` and ``--checkpoints`` say, as absolute paths."""
    audit, place, kept = (settings.one(name) for name in ("audit", "checkpoint-to", "checkpoints"))
    paths = [os.path.abspath(given.text) if given else "" for given in (audit, kept)]
    where = ""
    if place is not None:
        if audit is None:
            place.wrong("there is no audit file", "--audit FILE too")
        unix = place.text.startswith("unix:")
        where = ("unix:" if unix else "") + os.path.abspath(place.text.removeprefix("unix:"))
    return paths[0], where, paths[1]


def options_for(role: IProxyRole) -> type[RoleOptions]:
    """The class of the options of ``twistd NAME``.

    Raises `ConfigError` if two plug-ins declare the same option.
    """
    declared: dict[str, Option] = {}
    for option in (*EVERY_ROLE, *role.options):
        if option.name in declared or option.name in ("help", "help-all", "version"):
            raise ConfigError(
                f"--{option.name} is declared twice for {role.name}: expected front ends and "
                "roles whose options have different names"
            )
        declared[option.name] = option
    repeatable = frozenset(name for name, option in declared.items() if option.repeatable)
    members: dict[str, Any] = {
        "role": role,
        "tapname": role.name,
        "synopsis": role.synopsis,
        "longdesc": role.longdesc,
        "declared": declared,
        "flags": frozenset(name for name, option in declared.items() if not option.metavar),
        "repeatable": repeatable,
        "live": frozenset(name for name, option in declared.items() if option.live),
        "paths": frozenset(
            name
            for name, option in declared.items()
            if option.files or option.metavar in ("DIR", "PATH")
        ),
        "compData": usage.Completions(
            multiUse=sorted(repeatable),
            optActions={
                name: usage.CompleteFiles(option.files)
                for name, option in declared.items()
                if option.files
            },
        ),
    }
    for option in declared.values():
        members[f"opt_{option.attribute}"] = _taker(option)
    return type("Options", (RoleOptions,), members)


def _taker(option: Option) -> Callable[..., None]:
    """The method that takes the option's value from the command line."""
    name = option.name

    def take(self: RoleOptions, value: str) -> None:
        self.given.setdefault(name, []).append(Given(value, f"--{name}"))

    def take_flag(self: RoleOptions) -> None:
        self.given[name] = [Given("true", f"--{name}")]

    method = take if option.metavar else take_flag
    method.__doc__ = option.doc
    return method


class RoleOptions(usage.Options):
    """Options of one twistd subcommand; `options_for` makes a subclass for each role."""

    role: ClassVar[IProxyRole]
    tapname: ClassVar[str]
    synopsis: ClassVar[str]
    longdesc: ClassVar[str]
    declared: ClassVar[Mapping[str, Option]]
    """By name."""
    flags: ClassVar[frozenset[str]]
    repeatable: ClassVar[frozenset[str]]
    live: ClassVar[frozenset[str]]
    """What a reload can change; the rest needs a restart."""
    paths: ClassVar[frozenset[str]]
    """What names files; in ``--config`` beside that file, if relative."""

    def __init__(self) -> None:
        self.given: dict[str, list[Given]] = {}
        usage.Options.__init__(self)
        self.config: Any = None
        """The role's configuration object, once the options have been parsed."""
        self.settings = Settings({})
        """What it was made of."""
        self.starting = True
        """Whether an end that would be of no use is a mistake (X22). One that runs may lose its
        last rule: what is taken away must not stay because of that."""
        self.log_as_json = False
        self.control_path = ""
        """Where the control socket is to be; empty: nowhere."""
        self.status_places = StatusPlaces()
        """Where state and metrics are served."""
        self.audit_path = ""
        """The audit file; empty: none."""
        self.checkpoint_place = ""
        """Where its checkpoints go, see `tunnelkit.services.audit.Audit`."""
        self.checkpoints_path = ""
        """Where those of other ends are kept."""
        self.grace: float | None = None
        """Seconds in which what is open may finish; None: as the role has it."""

    @classmethod
    def known(cls) -> frozenset[str]:
        """The names of all settings, as options without dashes and as keys of the file."""
        return frozenset(cls.declared) - {"config"}

    def make_config(self, settings: Settings) -> Any:
        """The role's configuration; raises `ConfigError`."""
        with collector_off():
            config = self.role.configure(settings, self.starting)
        expected = self.role.config_class
        if not isinstance(config, expected):
            raise TypeError(f"{self.tapname} configured {config!r}: expected {expected.__name__}")
        return config

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse, read the configuration file, validate; one line and status 2 for a mistake."""
        try:
            self.parse(options)
        except ConfigError as error:
            exit_with(self.tapname, error)

    def parse(self, options: Sequence[str] | None = None) -> None:
        """The same for who goes on after a mistake; raises `ConfigError`."""
        try:
            usage.Options.parseOptions(self, options)
        except (usage.UsageError, ConfigError) as error:
            raise ConfigError(self._explained(error)) from None

    def parseArgs(self, *arguments: str) -> None:
        """Nothing but options is expected."""
        if arguments:
            raise ConfigError(f"'{arguments[0]}' is not an option: expected only --options")

    def postOptions(self) -> None:
        """Merge the configuration file, then make the config."""
        if self.parent is not None:
            settle_pid_file(self.parent, sys.argv[1:])
        self.settings = self.read_settings()
        self.log_as_json = self.settings.flag("log-json")
        control = self.settings.one("control")
        if control is not None:
            self.control_path = os.path.abspath(control.text)
        self.status_places = status_of(self.settings)
        self.audit_path, self.checkpoint_place, self.checkpoints_path = audit_of(self.settings)
        self.grace = grace_of(self.settings)
        self.config = self.make_config(self.settings)

    @property
    def config_file(self) -> str:
        """The file that ``--config`` names; empty: none."""
        given = self.given.get("config")
        return given[0].text if given else ""

    def read_settings(self) -> Settings:
        """What the command line and, below it, the configuration file say now.

        Raises `ConfigError`.
        """
        settings = dict(self.given)
        files = settings.pop("config", [])
        if len(files) > 1:
            raise ConfigError("--config is given twice: expected one file")
        for name, values in settings.items():
            if len(values) > 1 and name not in self.repeatable:
                raise ConfigError(f"--{name} is given twice: expected one value")
        if files:
            found = read_config_file(
                files[0].text, self.known(), self.flags, self.repeatable, self.paths
            )
            settings = {**found, **settings}
        return Settings(settings)

    def getSynopsis(self) -> str:
        """The first line of the help."""
        own = " [twistd's options]" if program() == "twistd" else ""
        return f"Usage: {program()}{own} {self.tapname} {self.synopsis}"

    def __str__(self) -> str:
        """What ``--help`` prints."""
        return self._help(everything=False)

    def opt_help_all(self) -> None:
        """Display every option and exit."""
        print(self._help(everything=True))
        raise SystemExit(0)

    def _help(self, *, everything: bool) -> str:
        about = " ".join(self.longdesc.split())
        return help_text(self.getSynopsis(), about, self.declared, everything)

    def opt_version(self) -> None:
        """Display the version and exit."""
        from tunnelkit.version import __version__

        print(f"tunnelkit {__version__}")
        raise SystemExit(0)

    def _explained(self, error: Exception) -> str:
        reason = error.__context__ if error.__context__ is not None else error
        if not isinstance(reason, getopt.GetoptError):
            return str(error)
        name = reason.opt
        if "requires argument" in reason.msg:
            return f"--{name} has no value: expected one behind it"
        if "must not have an argument" in reason.msg:
            return f"--{name} takes no value: expected it alone"
        if "not a unique prefix" in reason.msg:
            choices = sorted(f"--{one}" for one in (*self.declared, "help", "help-all", "version"))
            meant = ", ".join(one for one in choices if one.startswith(f"--{name}"))
            return f"--{name} could be several options: expected one of {meant}"
        dashes = "--" if len(name) > 1 else "-"
        hint = suggestion(name, self.known(), "--")
        return f"{dashes}{name} is not an option{hint}: see {program()} {self.tapname} --help"
