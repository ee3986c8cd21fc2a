"""What is refused names the rule that would have allowed it, and that rule does."""

from __future__ import annotations

import shlex

import pytest

from tunnelkit.errors import NotAuthorized
from tunnelkit.policy.acl import Policy
from tunnelkit.policy.remedy import allow_option
from tunnelkit.policy.rules import parse_rule


@pytest.mark.parametrize(
    ("action", "protocol", "address", "port", "host", "option"),
    [
        ("connect", "tcp", "10.1.2.3", 23, None, "--allow tcp:10.1.2.3:23"),
        ("connect", "tcp", "93.184.216.34", 80, "Example.ORG", "--allow tcp:example.org:80"),
        ("connect", "tcp", "127.0.0.1", 80, "localhost", "--allow tcp:127.0.0.1:80"),
        ("connect", "tcp", "::1", 80, None, "--allow tcp:[::1]:80"),
        ("sendto", "udp", "192.0.2.1", 53, None, "--allow udp:192.0.2.1:53"),
        ("bind", "tcp", "127.0.0.1", 8000, None, "--allow listen:127.0.0.1:8000"),
        ("connect", "unix", "/run/a b", 0, None, "--allow 'unix:/run/a b'"),
        ("connect", "service", "wiki", 0, None, "--allow service:wiki"),
        ("connect", "x11", "", 0, None, "--allow x11::0"),
    ],
)
def test_the_rule_that_is_named_allows_it(
    action: str, protocol: str, address: str, port: int, host: str | None, option: str
) -> None:
    asked = ("laptop", action, protocol, address, port, host)
    with pytest.raises(NotAuthorized) as caught:
        Policy().authorize(*asked)
    assert caught.value.remedy == option
    assert option not in str(caught.value)
    rule = shlex.split(option)[1]
    assert Policy([parse_rule(rule)]).authorize(*asked).rule == rule


@pytest.mark.parametrize(
    ("kind", "host", "port"),
    [("tcp", "*.example", 80), ("unix", "/run/\x1b[31m", 0), ("listen", "127.0.0.1", 0)],
)
def test_no_rule_is_named_that_would_say_more_or_something_else(
    kind: str, host: str, port: int
) -> None:
    assert allow_option(kind, host, port) == ""
