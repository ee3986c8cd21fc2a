"""``--onward-for PATTERN``: what goes on to the next gate, and is not connected here (row U18).

A pattern is a rule as those of ``--allow``, and as with them nothing passes without one. The
names in it are not looked up here: the next gate does that, and asks its own rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from tunnelkit.core.decision import Decision
from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import SERVICE, TCP, UNIX, Destination
from tunnelkit.policy.patterns import shown
from tunnelkit.policy.rules import Rule, parse_rule
from tunnelkit.policy.special import special_ranges

ONWARD = "onward"
"""The action of a `Decision`."""
KINDS = (TCP, UNIX, SERVICE)


class OnwardRules:
    """All patterns of a gate."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)

    def decide(self, peer: str, destination: Destination) -> Decision | None:
        """Permission for ``peer`` to have the next gate asked for ``destination`` (rule X1).

        None: it does not go on from here.
        """
        for rule in self.rules:
            if rule.is_for(peer) and _matches(rule, destination):
                kind, host, port = destination.kind, destination.host, destination.port
                return Decision(peer, ONWARD, kind, host, port, rule.text)
        return None


def parse_onward(text: str) -> Rule:
    """Read one ``--onward-for`` value; raises `ConfigError`."""
    rule = parse_rule(text, what="pattern")
    if rule.kind not in KINDS:
        problem = f"{rule.kind}: does not go onward; expected tcp:, unix: or service:"
    elif rule.own or rule.also or rule.also_own:
        problem = "names are looked up at the next gate; expected no 'self' and no '@'"
    else:
        return rule
    raise ConfigError(f"pattern {shown(text)}: {problem}")


def _matches(rule: Rule, destination: Destination) -> bool:
    if rule.kind != destination.kind:
        return False
    if rule.kind == UNIX:
        return rule.exact == destination.host
    if rule.kind == SERVICE:
        return rule.host is not None and rule.host.match(destination.host)
    if not rule.has_port(destination.port):
        return False
    if destination.is_address:
        address = ip_address(destination.host)
        return rule.admits(address, None, special_ranges(address))
    return rule.is_for_name(destination.host.removesuffix("."))
