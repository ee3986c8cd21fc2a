"""``tunnelkit completion``: the scripts load in their shells and complete what there is (Q9)."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.test_keys import Capture, mistake, ok
from tunnelkit.cli.cmd_completion import known_words


def completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last word."""
    line = " ".join(f'"{word}"' for word in words)
    asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _tunnelkit; "
    done = subprocess.run(
        ["bash", "--norc", "-c", f'{script}\n{asked}printf "%s\\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture
def script(capsys: Capture) -> str:
    return ok(capsys, "completion", "bash")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("tunnelkit", "sta"), ["status"]),
        (("tunnelkit", "lstp-m"), ["lstp-middle"]),
        (("tunnelkit", "keys", "rev"), ["revoke"]),
        (("tunnelkit", "keys", "issue", "--mid"), ["--middle"]),
        (("tunnelkit", "keys", "show", "--mid"), []),
        (("tunnelkit", "server", "--allo"), ["--allow"]),
        (("tunnelkit", "middle", "--allo"), []),
        (("tunnelkit", "status", "--js"), ["--json"]),
        (("tunnelkit", "completion", "fi"), ["fish"]),
    ],
)
def test_bash_completes_commands_actions_and_options(
    script: str, words: tuple[str, ...], expected: list[str]
) -> None:
    assert completed(script, *words) == expected


def test_zsh_has_the_same_script_behind_its_own_beginning(capsys: Capture, script: str) -> None:
    assert ok(capsys, "completion", "zsh").endswith(f"bashcompinit\n{script}")


def test_fish_has_a_line_for_each_option(capsys: Capture) -> None:
    lines = ok(capsys, "completion", "fish").splitlines()
    where = "complete -c tunnelkit -n '__fish_seen_subcommand_from"
    assert f"{where} server' -l allow" in lines
    assert f"{where} keys ; and __fish_seen_subcommand_from issue' -l middle" in lines
    assert len(lines) == 1 + sum(map(len, known_words().values())) - len(known_words()[""])


def test_another_shell_is_one_clear_line(capsys: Capture) -> None:
    assert "invalid choice: 'csh'" in mistake(capsys, "completion", "csh")
