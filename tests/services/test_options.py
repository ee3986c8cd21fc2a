"""The options of the roles: every mistake is one line on stderr and status 2."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.services.roles import ROLES, options_class
from tunnelkit.roles.lstp_middle import LstpMiddleConfig


def middle(*words: str) -> LstpMiddleConfig:
    options = options_class("lstp-middle")()
    options.parseOptions(list(words))
    assert isinstance(options.config, LstpMiddleConfig)
    return options.config


class Refusal:
    """What a role says to options it does not take."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, role: str, *words: str) -> str:
        """The line, without the name of the program."""
        options = options_class(role)()
        with pytest.raises(SystemExit) as ended:
            options.parseOptions(list(words))
        assert ended.value.code == 2
        out, err = self._capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        prefix = f"twistd {options.tapname}: "
        assert err.startswith(prefix)
        return err.removeprefix(prefix).rstrip("\n")


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(capfd)


def test_a_middle_needs_only_its_port() -> None:
    config = middle("--listen", "127.0.0.1:7000")
    assert config.listen == (("127.0.0.1", 7000),)
    assert config.name
    assert config.admit == ()
    assert config.admission_token is None


def test_repeatable_options_add_up() -> None:
    config = middle(
        "--listen", "127.0.0.1:1", "--listen=[::1]:2", "--admit", "10.0.0.0/8", "--admit", "::1/128"
    )  # fmt: skip
    assert config.listen == (("127.0.0.1", 1), ("::1", 2))
    assert [str(network) for network in config.admit] == ["10.0.0.0/8", "::1/128"]


def test_limits() -> None:
    config = middle("--listen", "127.0.0.1:1", "--max-waiting", "5", "--max-in-setup", "7")
    assert (config.max_waiting, config.max_in_setup) == (5, 7)


def test_the_file_gives_what_options_give_and_the_command_line_wins(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("let me in\n")
    token.chmod(0o600)
    file = tmp_path / "middle.toml"
    file.write_text(
        f'listen = ["127.0.0.1:1"]\nname = "file"\nmax-waiting = 9\n'
        f'admission-token-file = "{token}"\nadmit = "10.0.0.0/8"\n'
    )
    config = middle("--config", str(file), "--name", "line", "--listen", "127.0.0.1:2")
    assert config.listen == (("127.0.0.1", 2),)
    assert config.name == "line"
    assert config.max_waiting == 9
    assert config.admission_token == "let me in"
    assert "let me in" not in repr(config)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            [],
            "--listen is missing: expected [HOST:]PORT on which ends are awaited, e.g. "
            "0.0.0.0:7000",
        ),
        (["--listen"], "--listen has no value: expected one behind it"),
        (
            ["--lisden", "x"],
            "--lisden is not an option (did you mean '--listen'?): see twistd lstp-middle --help",
        ),
        (["-x"], "-x is not an option: see twistd lstp-middle --help"),
        (["7000"], "'7000' is not an option: expected only --options"),
        (
            ["--max", "1"],
            "--max could be several options: expected one of --max-in-setup, --max-waiting, "
            "--max-waiting-per-address",
        ),
        (["--log-json=yes"], "--log-json takes no value: expected it alone"),
        (["--name", "a", "--name", "b"], "--name is given twice: expected one value"),
        (["--config", "a", "--config", "b"], "--config is given twice: expected one file"),
        (["--config", "/nowhere.toml"], "--config /nowhere.toml: No such file or directory"),
    ],
)
def test_mistakes_in_options(refusal: Refusal, words: list[str], expected: str) -> None:
    assert refusal("lstp-middle", *words) == expected


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("listen", "127.0.0.1"),
        ("listen", "127.0.0.1:70000"),
        ("listen", "nobody.example:7000"),
        ("name", ""),
        ("name", "two words"),
        ("admit", "10.0.0.0/33"),
        ("admit", "everybody"),
        ("admission-token-file", "/nowhere"),
        ("max-waiting", "0"),
        ("max-waiting", "many"),
        ("max-in-setup", "-1"),
    ],
)
def test_values_that_cannot_be(refusal: Refusal, tmp_path: Path, option: str, value: str) -> None:
    rest = [] if option == "listen" else ["--listen", "127.0.0.1:1"]
    said = refusal("lstp-middle", *rest, f"--{option}", value)
    assert said.startswith(f"--{option}")
    file = tmp_path / "middle.toml"
    lines = ['name = "x"'] if option == "listen" else ['listen = "127.0.0.1:1"']
    file.write_text("\n".join([*lines, f'{option} = "{value}"', ""]))
    said = refusal("lstp-middle", "--config", str(file))
    assert said.startswith(f"{file}:2: key {option}")


def test_a_token_that_others_can_read_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("let me in\n")
    token.chmod(0o644)
    said = refusal(
        "lstp-middle",
        "--listen",
        "127.0.0.1:1",
        "--admission-token-file",
        str(token),
    )
    assert "chmod 600" in said
    assert "let me in" not in said


@pytest.mark.parametrize("role", ROLES)
def test_help_shows_every_option(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options_class(role)().parseOptions(["--help-all"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    for name in options_class(role).known() | {"config"}:
        assert re.search(rf"^  --{name}\b(?!-)", shown, re.MULTILINE), name
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("role", ROLES)
def test_help_is_short_and_in_groups_with_what_is_used_most(
    role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options_class(role)().parseOptions(["--help"])
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 100
    for title in ("Meeting the other end:", "Running:"):
        assert lines[lines.index(title) + 1].startswith("  e.g. --")
    assert "--config FILE.toml" in shown
    assert "--checkpoints" not in shown
    assert "--help-all shows" in shown


def test_the_port_of_a_middle_alone_is_that_port_of_every_address() -> None:
    assert middle("--listen", "7000").listen == (("0.0.0.0", 7000),)


@pytest.mark.parametrize("role", ROLES)
def test_flags_and_repeatable_options_are_options(role: str) -> None:
    options = options_class(role)
    assert options.flags | options.repeatable <= options.known()
