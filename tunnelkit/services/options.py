"""The options of every role, as `twisted.python.usage` wants them.

Each option is declared once; ``--config`` accepts the same names as keys. A
mistake is one line on stderr and exit status 2 (twistd by itself would print
the whole help and end with status 1).
"""

from __future__ import annotations

import getopt
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from tunnelkit.errors import ConfigError
from tunnelkit.services.config_file import read_config_file
from tunnelkit.services.given import Given, Settings, suggestion

EXIT_CONFIG = 2


def exit_with(program: str, problem: object) -> NoReturn:
    """Say what is wrong in one line on stderr and end with status 2.

    Writes past `sys.stderr`, which twistd may have turned into a log already.
    """
    line = " ".join(str(problem).split())
    os.write(2, f"twistd {program}: {line}\n".encode("utf-8", "backslashreplace"))
    raise SystemExit(EXIT_CONFIG)


def option(name: str, doc: str) -> Callable[[RoleOptions, str], None]:
    def take(self: RoleOptions, value: str) -> None:
        self.given.setdefault(name, []).append(Given(value, f"--{name}"))

    take.__doc__ = doc
    return take


def flag(name: str, doc: str) -> Callable[[RoleOptions], None]:
    def take(self: RoleOptions) -> None:
        self.given[name] = [Given("true", f"--{name}")]

    take.__doc__ = doc
    return take


class RoleOptions(usage.Options):
    """Options of one twistd subcommand; a subclass names its options and makes its config."""

    tapname: ClassVar[str]
    flags: ClassVar[frozenset[str]] = frozenset({"log-json"})
    repeatable: ClassVar[frozenset[str]] = frozenset()
    live: ClassVar[frozenset[str]] = frozenset()
    """What a reload can change; the rest needs a restart."""
    synopsis = "[options]"

    opt_config = option("config", "FILE.toml with the same settings; an option given here wins")
    opt_log_json = flag("log-json", "log as JSON, one object a line")
    opt_control = option(
        "control", "PATH of a unix socket for `tunnelkit status`, `connect` and `disconnect`"
    )

    def __init__(self) -> None:
        self.given: dict[str, list[Given]] = {}
        usage.Options.__init__(self)
        self.config: Any = None
        """The role's configuration object, once the options have been parsed."""
        self.settings = Settings({})
        """What it was made of."""
        self.needs_rules = True
        """Whether an end that serves has to have a rule (X22). One that runs may lose its last:
        what is taken away must not stay because of that."""
        self.log_as_json = False
        self.control_path = ""
        """Where the control socket is to be; empty: nowhere."""

    @classmethod
    def known(cls) -> frozenset[str]:
        """The names of all settings, as options without dashes and as keys of the file."""
        other = {"config", "help", "version"}
        names = {name[4:].replace("_", "-") for name in dir(cls) if name.startswith("opt_")}
        return frozenset(names - other)

    def make_config(self, settings: Settings) -> object:
        """The role's configuration; raises `ConfigError`."""
        raise NotImplementedError

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse, read the configuration file, validate; one line and status 2 for a mistake."""
        try:
            usage.Options.parseOptions(self, options)
        except (usage.UsageError, ConfigError) as error:
            exit_with(self.tapname, self._explained(error))

    def parseArgs(self, *arguments: str) -> None:
        """Nothing but options is expected."""
        if arguments:
            raise ConfigError(f"'{arguments[0]}' is not an option: expected only --options")

    def postOptions(self) -> None:
        """Merge the configuration file, then make the config."""
        self.settings = self.read_settings()
        self.log_as_json = self.settings.flag("log-json")
        control = self.settings.one("control")
        if control is not None:
            self.control_path = os.path.abspath(control.text)
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
            found = read_config_file(files[0].text, self.known(), self.flags, self.repeatable)
            settings = {**found, **settings}
        return Settings(settings)

    def getSynopsis(self) -> str:
        """The first line of the help."""
        return f"Usage: twistd [twistd's options] {self.tapname} {self.synopsis}"

    def opt_version(self) -> None:
        """Display the version and exit."""
        from tunnelkit import __version__

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
            return f"--{name} could be several options: expected the whole name"
        dashes = "--" if len(name) > 1 else "-"
        hint = suggestion(name, self.known(), "--")
        return f"{dashes}{name} is not an option{hint}: see twistd {self.tapname} --help"


FILE = usage.CompleteFiles()


class LstpMiddleOptions(RoleOptions):
    """The options of ``twistd lstp-middle``."""

    tapname = "lstp-middle"
    synopsis = "--listen HOST:PORT [options]"
    longdesc = (
        "The middle of LSTP tunnels: both ends dial it, it pairs the two that belong together "
        "and passes their bytes on. It holds no key and cannot read what passes."
    )
    repeatable = frozenset({"listen", "admit", "via"})
    live = frozenset({"admit", "admission-token-file"})
    compData = usage.Completions(
        multiUse=["listen", "admit", "via"],
        optActions={
            "config": usage.CompleteFiles("*.toml"),
            "admission-token-file": FILE,
            "via-password-file": FILE,
        },
    )

    opt_listen = option("listen", "HOST:PORT on which ends are awaited; repeatable")
    opt_name = option("name", "name of this middle in topologies (default: the host's)")
    opt_next = option(
        "next", "HOST:PORT of another middle, where partners are looked for that are not here"
    )
    opt_via = option("via", "URL of a proxy on the way to the next middle, as for ends; repeatable")
    opt_via_password_file = option("via-password-file", "FILE with the last proxy's password")
    opt_admit = option("admit", "NETWORK from which ends are admitted (default: all); repeatable")
    opt_admission_token_file = option(
        "admission-token-file", "FILE with the token that ends have to show"
    )
    opt_max_waiting = option("max-waiting", "ends that may wait at once (default: 10000)")
    opt_max_waiting_per_address = option(
        "max-waiting-per-address", "of those, from one address (default: 10000)"
    )
    opt_max_in_setup = option(
        "max-in-setup", "connections at once whose setup is not complete (default: 200)"
    )

    def make_config(self, settings: Settings) -> object:
        """See `tunnelkit.services.config.lstp_middle_config`."""
        from tunnelkit.services.config import lstp_middle_config

        return lstp_middle_config(settings)
