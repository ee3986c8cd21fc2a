"""Rules for unix sockets name one path."""

from __future__ import annotations

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.policy.acl import parse_rule


def test_a_rule_for_unix_sockets_has_no_wildcards() -> None:
    with pytest.raises(ConfigError, match="stands for nothing in a path"):
        parse_rule("unix:/run/app/*")
