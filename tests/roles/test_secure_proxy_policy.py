"""The policy file: what it says, and each mistake with its place (S5, R13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.roles.secure_proxy_policy import EXAMPLE, load_policy, parse_policy

GOOD = """
duplicate = "refuse"

[clients.office]
publish = ["tunnel", "pass:Site.Example.", "web:*.app.example"]
groups = ["servers"]

[clients."laptop-*"]
connect = ["office/tunnel", "group:servers/*"]
lookup = ["office", "group:servers"]
admin = true

[resources."pass:site.example"]
from = ["192.0.2.0/24", "::1"]
"""


def test_a_policy_file() -> None:
    policy = parse_policy(GOOD, "p.toml")
    assert policy.duplicate == "refuse"
    assert policy.may_publish("office", "pass:site.example").rule == (
        'clients.office publish "pass:site.example"'
    )
    assert policy.may_connect("laptop-1", "office", "tunnel")
    assert policy.may_administrate("laptop-1")
    assert policy.kind_of("b.app.example") == "web"
    assert policy.may_enter("pass:site.example", "192.0.2.7")
    assert not policy.may_enter("pass:site.example", "192.0.3.7")


def test_the_example_says_nothing_until_it_is_written_out() -> None:
    assert parse_policy(EXAMPLE, "").clients == {}
    lines = [line.removeprefix("# ") for line in EXAMPLE.splitlines()]
    start = next(number for number, line in enumerate(lines) if line == "[clients.office]")
    rules = [line for line in lines[start:] if line[:1] in "[pgclaf#" and "Browsers" not in line]
    policy = parse_policy("\n".join(rules), "")
    assert set(policy.clients) == {"office", "laptop"}
    assert "pass:site.example" in policy.sources


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("duplicate = 1", 1, ["duplicate", '"replace" or "refuse"']),
        ("duplicates = 'replace'", 1, ["duplicates", "not known", "duplicate"]),
        ("clients = 1", 1, ["clients", "[clients.NAME]"]),
        ("[clients]\noffice = 1", 2, ["clients.office"]),
        ("\n[clients.a]\npublsh = []", 3, ["clients.a.publsh", "did you mean 'publish'"]),
        ("[clients.a]\npublish = 'x'", 2, ["clients.a.publish", "a list"]),
        ("[clients.a]\npublish = [1]", 2, ["a resource's name", "not 1"]),
        ("[clients.a]\npublish = ['pass:1.2.3.4']", 2, ["pass:HOST"]),
        ("[clients.a]\npublish = ['tcp:a']", 2, ["pass:HOST"]),
        ("[clients.a]\ngroups = ['a*']", 2, ["a group's name"]),
        ("[clients.a]\nconnect = ['office']", 2, ["TARGET/RESOURCE"]),
        ("[clients.a]\nconnect = ['/tunnel']", 2, ["TARGET/RESOURCE"]),
        ("[clients.a]\nlookup = ['']", 2, ["a client's name"]),
        ("[clients.a]\n\nadmin = 1", 3, ["clients.a.admin", "true or false"]),
        ("[clients.'group:a']", 1, ["a client's name"]),
        ("[resources.'tunnel']\nfrom = []", 1, ["pass:HOST or web:HOST"]),
        ("[resources.'pass:a.example']", 1, ["from = [NETWORK"]),
        ("[resources.'pass:a.example']\nfrom = ['x']", 2, ["from", "x"]),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, line: int, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, "p.toml")
    message = str(caught.value)
    assert message.startswith(f"p.toml:{line}: "), message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_what_is_no_policy_file(tmp_path: Path) -> None:
    for content, words in ((b"a = ", "not TOML"), (b"\xff", "UTF-8")):
        path = tmp_path / "p.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            load_policy(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_policy(str(tmp_path / "none"))
