"""The options of portal and gate, and what becomes of them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tests.services.roles import options_class
from tests.services.test_options import Refusal
from tunnelkit.policy.key_directory import KeyDirectory
from tunnelkit.roles.usher_gate import UsherGateConfig
from tunnelkit.roles.usher_portal import UsherPortalConfig


@pytest.fixture(scope="module")
def who(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The identity ``a`` for the peer ``b``."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    directory = KeyDirectory(path)
    directory.create()
    directory.issue("a")
    return ["--identity", str(path / "a.pem"), "--peer", "b"]


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(capfd)


def gate(*words: str) -> UsherGateConfig:
    options = options_class("usher-gate")()
    options.parseOptions(list(words))
    assert isinstance(options.config, UsherGateConfig)
    return options.config


def portal(*words: str) -> UsherPortalConfig:
    options = options_class("usher-portal")()
    options.parseOptions(list(words))
    assert isinstance(options.config, UsherPortalConfig)
    return options.config


def test_a_portal_that_would_be_of_no_use_does_not_start(refusal: Refusal, who: list[str]) -> None:
    said = refusal("usher-portal", "--gate", "gate.example:7000", *who)
    assert said.startswith("this end would be of no use: expected ")
    portal("--gate", "gate.example:7000", *who, "--allow", "tcp:10.0.0.1:1")


LISTEN = ("--listen", "127.0.0.1:0")


def test_a_portal_needs_only_three_options_and_a_port(who: list[str]) -> None:
    config = portal("--gate", "gate.example:7000", *who, "--socks", "0")
    assert config.gate == ("gate.example", 7000)
    assert config.identity.name == "a"
    assert config.peers == {"b"}
    assert (config.server_name, config.via, config.rules) == ("", (), ())


def test_a_portal_can_dial_through_proxies_and_ask_for_a_name(who: list[str]) -> None:
    config = portal(
        "--gate", "g:1", *who, "--socks", "0", "--via", "http://p:3", "--server-name", "Inside."
    )
    assert config.server_name == "inside"
    assert isinstance(config.via, tuple)
    assert [str(hop) for hop in config.via] == ["http://p:3"]


def test_everything_a_gate_can_be_told(who: list[str]) -> None:
    config = gate(
        *LISTEN, "--listen", "[::1]:7000", *who, "--allow", "b=tcp:127.0.0.1:80",
        "--admit", "10.0.0.0/8", "--from", "127.0.0.0/8", "--relay", "One=gate.one:1",
        "--relay", "two.example=[::1]:2", "--max-channels", "7", "--socks", "0",
    )  # fmt: skip
    assert config.listen == (("127.0.0.1", 0), ("::1", 7000))
    assert config.admit == (ip_network("10.0.0.0/8"),)
    assert config.sources == (ip_network("127.0.0.0/8"),)
    assert config.relays == {"one": ("gate.one", 1), "two.example": ("::1", 2)}
    assert config.max_sessions == 7
    assert [one.front_end.name for one in config.front_ends] == ["socks"]


def test_a_gate_needs_a_rule_unless_it_does_something_else(
    refusal: Refusal, who: list[str]
) -> None:
    assert refusal("usher-gate", *LISTEN, *who).startswith("--allow is missing: expected ")
    assert gate(*LISTEN, *who, "--relay", "inside=gate:1").rules == ()
    assert gate(*LISTEN, *who, "--forward", "0=tcp:web:80").rules == ()


@pytest.mark.parametrize("missing", ["--listen", "--identity", "--peer"])
def test_what_a_gate_misses_is_named(refusal: Refusal, who: list[str], missing: str) -> None:
    words = [*LISTEN, *who, "--allow", "tcp:127.0.0.1:80"]
    at = words.index(missing)
    del words[at : at + 2]
    assert refusal("usher-gate", *words).startswith(f"{missing} is missing: expected ")


def test_what_goes_to_the_next_gate_needs_all_three_options(
    refusal: Refusal, who: list[str]
) -> None:
    words = ["--onward", "b.example:7000", "--onward-peer", "gate-b", "--onward-for", "tcp:*.b:22"]
    onward = gate(*LISTEN, *who, *words, "--via", "http://p:3").onward
    assert onward is not None
    assert (onward.gate, onward.peer) == (("b.example", 7000), "gate-b")
    assert [rule.text for rule in onward.rules] == ["tcp:*.b:22"]
    assert isinstance(onward.via, tuple)
    assert list(map(str, onward.via)) == ["http://p:3"]
    for at in (0, 2, 4):
        said = refusal("usher-gate", *LISTEN, *who, *words[:at], *words[at + 2 :])
        assert f"expected {words[at]}" in said
    assert "expected --onward" in refusal("usher-gate", *LISTEN, *who, "--via", "http://p:3")
    pinned = [*LISTEN, *who[:2], "--peer-pin", f"user=sha256:{'0' * 64}", *words]
    assert "no pinned key is called that" in refusal("usher-gate", *pinned)


@pytest.mark.parametrize(
    "words",
    [
        ["--onward", "b:1", "--onward-peer", "b", "--onward-for", "udp:*:53"],
        ["--relay", "inside"],
        ["--relay", "inside=gate"],
        ["--relay", "10.0.0.1=gate:1"],
        ["--relay", "=gate:1"],
        ["--relay", "inside=gate:1", "--relay", "INSIDE=gate:2"],
        ["--admit", "everywhere"],
        ["--listen", "gate.example:7000"],
        ["--max-channels", "0"],
        ["--max-channels", "32768"],
    ],
)
def test_values_that_a_gate_cannot_have(refusal: Refusal, who: list[str], words: list[str]) -> None:
    said = refusal("usher-gate", *LISTEN, *who, "--allow", "tcp:127.0.0.1:80", *words)
    assert said.startswith(words[-2])
    assert "expected" in said


@pytest.mark.parametrize(
    "words", [["--server-name", "::1"], ["--server-name", "a b"], ["--gate", "gate.example"]]
)
def test_values_that_a_portal_cannot_have(
    refusal: Refusal, who: list[str], words: list[str]
) -> None:
    needed = [] if words[0] == "--gate" else ["--gate", "gate:1"]
    said = refusal("usher-portal", *needed, *who, *words)
    assert said.startswith(words[0])
    assert "expected" in said
