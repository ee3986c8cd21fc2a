"""``--config FILE.toml``: every mistake is named with file, line, key and what is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.services.config_file import read_config_file

KNOWN = ("listen", "name", "both", "max-waiting")


def read(path: Path, text: str) -> dict[str, list[str]]:
    path.write_text(text)
    found = read_config_file(str(path), KNOWN, flags={"both"}, repeatable={"listen"})
    return {key: [given.text for given in values] for key, values in found.items()}


def problem(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path, text)
    return str(caught.value).replace(str(path), "FILE")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "end.toml"


def test_settings_are_the_options_without_dashes(path: Path) -> None:
    text = 'listen = ["127.0.0.1:1", "127.0.0.1:2"]\nname = "x"\nboth = true\nmax-waiting = 5\n'
    assert read(path, text) == {
        "listen": ["127.0.0.1:1", "127.0.0.1:2"],
        "name": ["x"],
        "both": ["true"],
        "max-waiting": ["5"],
    }


def test_one_value_needs_no_list(path: Path) -> None:
    assert read(path, 'listen = "127.0.0.1:1"') == {"listen": ["127.0.0.1:1"]}


def test_a_flag_that_is_false_is_not_set(path: Path) -> None:
    assert read(path, "both = false") == {"both": []}


def test_unknown_key_names_its_line_and_a_close_match(path: Path) -> None:
    assert problem(path, '# a comment\n\nname = "x"\nlisten-on = "y"\n') == (
        "FILE:4: key listen-on: not known (did you mean 'listen'?): "
        "expected one of both, listen, max-waiting, name"
    )


def test_the_line_is_right_behind_values_of_several_lines(path: Path) -> None:
    text = 'name = """\nwrong = 1\n"""\nlisten = [\n  "a",\n  # wrong\n  "b",\n]\nwrong = 1\n'
    assert problem(path, text).startswith("FILE:9: key wrong: not known")


def test_a_table_is_an_unknown_key(path: Path) -> None:
    assert problem(path, 'name = "x"\n[limits]\nmax-waiting = 1\n').startswith(
        "FILE:2: key limits: not known"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name = ["x"]', "FILE:1: key name: expected one value, not a list"),
        ('both = "yes"', "FILE:1: key both: expected true or false"),
        ("name = 1.5", "FILE:1: key name: expected text or a whole number, not a float"),
        ("name = true", "FILE:1: key name: expected text or a whole number, not a bool"),
        ("name = {}", "FILE:1: key name: expected text or a whole number, not a table"),
        (
            'listen = ["x", []]',
            "FILE:1: key listen, entry 2: expected text or a whole number, not a list",
        ),
    ],
)
def test_values_of_the_wrong_kind(path: Path, text: str, expected: str) -> None:
    assert problem(path, text) == expected


def test_what_is_not_toml_is_named_with_its_line(path: Path) -> None:
    message = problem(path, 'name = "x"\nlisten = \n')
    assert message.startswith("FILE:2: not valid TOML: ")
    assert "line" not in message.removeprefix("FILE:2:")


def test_an_unfinished_value_names_the_end(path: Path) -> None:
    assert problem(path, 'name = "x"\nlisten = ["a",').startswith("FILE:2: not valid TOML: ")


def test_a_key_given_twice(path: Path) -> None:
    assert problem(path, 'name = "x"\nname = "y"\n').startswith("FILE:2: not valid TOML: ")


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config .*end\.toml: No such file"):
        read_config_file(str(path), KNOWN, flags=(), repeatable=())


def test_a_file_that_is_not_text(path: Path) -> None:
    path.write_bytes(b'name = "x"\n# \xff\n')
    with pytest.raises(ConfigError, match=r"end\.toml:2: not UTF-8 text"):
        read_config_file(str(path), KNOWN, flags=(), repeatable=())


def test_a_file_that_is_much_too_large(path: Path) -> None:
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        read_config_file(str(path), KNOWN, flags=(), repeatable=())
