"""What the rules say of a wish, before anybody has it."""

from __future__ import annotations

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.explain import explain
from tunnelkit.policy.rules import parse_rule

RULES = ("tcp:web.example:80", "tcp:10.0.0.0/8:22", "unix:/run/x", "service:print", "x11::0")


@pytest.mark.parametrize(
    ("wish", "allowed", "rule"),
    [
        ("tcp:web.example:80", True, "tcp:web.example:80"),
        ("tcp:web.example:81", False, ""),
        ("tcp:other.example:22", None, ""),
        ("tcp:other.example:80", False, ""),
        ("tcp:10.1.2.3:22", True, "tcp:10.0.0.0/8:22"),
        ("tcp:169.254.169.254:22", False, ""),
        ("unix:/run/x", True, "unix:/run/x"),
        ("unix:/run/y", False, ""),
        ("service:print", True, "service:print"),
        ("x11::0", True, "x11::0"),
        ("x11::1", False, ""),
        ("udp:*", None, ""),
        ("listen:tcp:127.0.0.1:80", False, ""),
    ],
)
def test_the_rule_that_decides_is_named(wish: str, allowed: bool | None, rule: str) -> None:
    answer = explain(PolicyHolder(Policy(map(parse_rule, RULES))), "laptop", wish)
    assert (answer["allowed"], answer["rule"]) == (allowed, rule)
    assert allowed or answer["why"]


def test_what_is_no_destination_is_refused() -> None:
    with pytest.raises(ConfigError):
        explain(PolicyHolder(), "laptop", "nonsense")
