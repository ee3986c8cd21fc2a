"""``tunnelkit``: finds its subcommands, runs one, and turns mistakes into one line (status 2).

What is the name of a role runs the role (row Q1). A subcommand NAME is a module
``tunnelkit.cli.cmd_NAME`` with two functions: ``register(subparsers)`` adds its
parser, ``run(args) -> int`` does the work. Only the module of the command that was asked for is
imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

import tunnelkit
import tunnelkit.cli
from tunnelkit.cli.role_command import about_roles, role_names, run_role
from tunnelkit.errors import ConfigError, TunnelkitError
from tunnelkit.policy.settings import suggestion

PREFIX = "cmd_"
USED_FIRST = ("pair", "keys", "check", "doctor", "status", "connect", "disconnect", "demo")
"""Commands in the order of ``--help``; the others follow."""
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE


class Parser(argparse.ArgumentParser):
    """Reports a mistake as `ConfigError` instead of printing usage; subcommands inherit it."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see '{self.prog} --help')")


class Version(argparse.Action):
    """``--version``: also of what it stands on."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print them, and end."""
        from importlib.metadata import version

        from cryptography.hazmat.backends.openssl import backend

        print(f"tunnelkit {tunnelkit.__version__}")
        print(f"Twisted {version('Twisted')}, Python {platform.python_version()}")
        print(backend.openssl_version_text())
        parser.exit()


def command_names() -> list[str]:
    """The subcommands that are installed, without importing any."""
    return sorted(
        module.name[len(PREFIX) :]
        for module in pkgutil.iter_modules(tunnelkit.cli.__path__)
        if module.name.startswith(PREFIX)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except TunnelkitError as error:
        # One line, whatever the message was made of.
        print("tunnelkit:", " ".join(str(error).split()), file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`| head`) has what it wanted. What is still buffered goes
        # nowhere, or the interpreter would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _run(argv: Sequence[str]) -> int:
    names = command_names()
    asked = next((word for word in argv if not word.startswith("-")), "")
    parser = Parser(
        prog="tunnelkit",
        description="Runs the parties of a tunnel, and what goes with them.",
        epilog="" if asked else about_roles(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, help="show the versions and exit")
    subparsers = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    modules: dict[str, ModuleType] = {}
    if asked in names:
        modules[asked] = _load(asked)
        modules[asked].register(subparsers)
    elif asked:
        known = role_names()
        if argv[0] in known:
            run_role(argv[0], argv[1:])
        expected = ", ".join([*names, *known])
        hint = suggestion(asked, [*names, *known])
        parser.error(f"there is no command {asked!a}{hint}, expected one of {expected}")
    else:
        # Help is about all commands; one that is broken must not take the others with it.
        for name in sorted(names, key=_rank):
            try:
                _load(name).register(subparsers)
            except TunnelkitError as error:
                subparsers.add_parser(name, help=f"({error})".replace("%", "%%"))
    args = parser.parse_args(argv)
    status: int = modules[args.command].run(args)
    sys.stdout.flush()
    return status


def _rank(name: str) -> tuple[int, str]:
    """What is used first comes first."""
    return (USED_FIRST.index(name) if name in USED_FIRST else len(USED_FIRST), name)


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"tunnelkit.cli.{PREFIX}{name}")
    except ImportError as error:
        raise ConfigError(f"the command {name} does not work here: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
