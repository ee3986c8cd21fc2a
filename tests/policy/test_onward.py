"""Which wishes go on to the next gate (row U18)."""

from __future__ import annotations

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import parse_destination
from tunnelkit.policy.onward import OnwardRules, parse_onward


@pytest.mark.parametrize(
    ("pattern", "goes", "stays"),
    [
        (
            "tcp:*.b.example:22,80-90",
            ["tcp:www.b.example:22", "tcp:a.b.example.:85"],
            ["tcp:www.b.example:23", "tcp:b.example:22", "tcp:10.2.0.1:22", "udp:a.b.example:22"],
        ),
        (
            "tcp:10.2.0.0/16:22",
            ["tcp:10.2.3.4:22"],
            ["tcp:10.3.0.1:22", "tcp:www.b.example:22", "tcp:127.0.0.1:22"],
        ),
        ("tcp:*:443", ["tcp:a:443", "tcp:192.0.2.7:443"], ["tcp:127.0.0.1:443", "tcp:[::1]:443"]),
        ("tcp:127.0.0.1:80", ["tcp:127.0.0.1:80"], ["tcp:127.0.0.2:80"]),
        ("unix:/run/x", ["unix:/run/x"], ["unix:/run/y"]),
        ("service:wiki*", ["service:wiki2"], ["service:@dns"]),
        ("ann,b*=tcp:web:80", [], ["tcp:web:80"]),
        ("u*=tcp:web:80", ["tcp:web:80"], []),
    ],
)
def test_a_pattern_is_for_what_a_rule_of_its_text_would_allow(
    pattern: str, goes: list[str], stays: list[str]
) -> None:
    rules = OnwardRules([parse_onward(pattern)])
    for text in goes:
        decision = rules.decide("user", parse_destination(text))
        assert decision is not None
        assert (decision.peer, decision.action, decision.rule) == ("user", "onward", pattern)
    for text in stays:
        assert rules.decide("user", parse_destination(text)) is None


@pytest.mark.parametrize(
    "pattern",
    ["udp:*:53", "x11::0", "listen:0.0.0.0:80", "tcp:self:22", "tcp:a:1@127.0.0.0/8", "a", "tcp:a"],
)
def test_what_cannot_go_onward_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"^pattern .*expected"):
        parse_onward(pattern)
