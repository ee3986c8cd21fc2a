"""``tunnelkit completion SHELL``: what the shell may complete, as a script for it (row Q9)."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_tunnelkit() {{
    local words="{top}" at="${{COMP_WORDS[1]}}" last="${{COMP_WORDS[COMP_CWORD]}}"
    if [ "$COMP_CWORD" -gt 1 ]; then
        case "$at ${{COMP_WORDS[2]}}" in
{cases}
            *) words="" ;;
        esac
    fi
    case "$last" in
        -*|"") COMPREPLY=($(compgen -W "$words" -- "$last")) ;;
        *) COMPREPLY=($(compgen -W "$words" -- "$last") $(compgen -f -- "$last")) ;;
    esac
}}
complete -o filenames -F _tunnelkit tunnelkit
"""


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "completion",
        help="a script that completes commands and options in bash, zsh or fish",
        description='For bash: eval "$(tunnelkit completion bash)" in ~/.bashrc. For zsh: the '
        "same with zsh, behind compinit. For fish: tunnelkit completion fish | source.",
    )
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    words = known_words()
    if args.shell == "fish":
        print("\n".join(_fish(words)))
        return 0
    if args.shell == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    print(_bash(words), end="")
    return 0


def known_words() -> dict[str, list[str]]:
    """What may follow: nothing, a command, a role, or a command and its action."""
    from tunnelkit.cli.main import PREFIX, command_names
    from tunnelkit.cli.role_command import SHORT, role_names
    from tunnelkit.roles.registry import roles
    from tunnelkit.services.options import options_for

    found: dict[str, list[str]] = {"": [*command_names(), *role_names(), "--help", "--version"]}
    for name in command_names():
        subparsers = argparse.ArgumentParser().add_subparsers()
        importlib.import_module(f"tunnelkit.cli.{PREFIX}{name}").register(subparsers)
        _take(found, name, subparsers.choices[name])
    installed = roles()
    for name in role_names():
        declared = options_for(installed[SHORT.get(name, name)]).declared
        found[name] = [f"--{option}" for option in (*declared, "help", "help-all", "version")]
    return found


def _take(found: dict[str, list[str]], name: str, parser: argparse.ArgumentParser) -> None:
    """The options of a command, and those of its actions."""
    words = found[name] = []
    for action in parser._actions:
        words += [option for option in action.option_strings if option.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):
            words += action.choices
            for inner, one in action.choices.items():
                _take(found, f"{name} {inner}", one)
        elif action.choices is not None:
            words += map(str, action.choices)


def _bash(words: Mapping[str, Sequence[str]]) -> str:
    # An action before the command that it is of: the first case that fits counts.
    names = sorted((name for name in words if name), key=lambda name: (-name.count(" "), name))
    cases = "\n".join(
        f'            "{name}{"" if " " in name else " "}"*) words="{" ".join(words[name])}" ;;'
        for name in names
    )
    return _BASH.format(top=" ".join(words[""]), cases=cases)


def _fish(words: Mapping[str, Sequence[str]]) -> list[str]:
    lines = [f"complete -c tunnelkit -n __fish_use_subcommand -a '{' '.join(words[''])}'"]
    for name, following in words.items():
        if not name:
            continue
        seen = " ".join(f"; and __fish_seen_subcommand_from {word}" for word in name.split())
        condition = seen.removeprefix("; and ")
        for word in following:
            kind = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c tunnelkit -n '{condition}' {kind}")
    return lines
