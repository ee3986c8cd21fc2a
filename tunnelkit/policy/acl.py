"""The one place that says what may be connected to, sent to or listened on (rules X1, X2).

Whoever dials asks `Policy.authorize` for the resolved address, immediately
before, and hands the `Decision` to the function in ``net`` that does it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from ipaddress import ip_address
from time import monotonic
from typing import NamedTuple

from tunnelkit.core.decision import Decision
from tunnelkit.errors import NotAuthorized
from tunnelkit.policy.destination import (
    LISTEN,
    MAX_DISPLAY,
    SERVICE,
    TCP,
    UDP,
    UNIX,
    X11,
    X11_BASE_PORT,
)
from tunnelkit.policy.own import OwnListeners, is_own_address
from tunnelkit.policy.printable import printable
from tunnelkit.policy.remedy import allow_option
from tunnelkit.policy.rules import Rule, parse_network, parse_rule
from tunnelkit.policy.special import Network, own_range, special_ranges, unmapped

__all__ = [
    "OwnListeners",
    "Policy",
    "PolicyHolder",
    "Prospect",
    "Rule",
    "parse_network",
    "parse_rule",
]

CONNECT, BIND, SENDTO = "connect", "bind", "sendto"

LOOPBACK = "127.0.0.1"

REMEMBERED = 4096
"""Answers that a Policy keeps."""
REMEMBERED_FOR = 5.0
"""Seconds that it keeps them: this machine may get other addresses of its own."""

_KINDS = {
    (CONNECT, TCP): TCP,
    (CONNECT, UDP): UDP,
    (SENDTO, UDP): UDP,
    (CONNECT, UNIX): UNIX,
    (CONNECT, X11): X11,
    (CONNECT, SERVICE): SERVICE,
    (BIND, TCP): LISTEN,
    (BIND, UDP): LISTEN,
}


class _Denial(NamedTuple):
    """What becomes a `NotAuthorized`."""

    why: str
    reason: str
    remedy: str = ""


class Prospect(enum.Enum):
    """What can come of a name before it has been looked up (rule X23)."""

    NONE = "no rule can admit it, wherever it leads"
    BY_ADDRESS = "a rule may admit where it leads, but none is for the name"
    BY_NAME = "a rule is for the name"


class Policy:
    """All rules of an end; immutable, replaced as a whole when the configuration changes."""

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        sources: Iterable[Network] = (),
        listeners: OwnListeners | None = None,
    ) -> None:
        self.rules = tuple(rules)
        self.sources = tuple(sources)
        """``--from``: who may enter local listeners; empty: whoever can reach them."""
        self.listeners = OwnListeners() if listeners is None else listeners
        self._rules: dict[str, list[Rule]] = {}
        for rule in self.rules:
            self._rules.setdefault(rule.kind, []).append(rule)
        self._answers: dict[tuple[str, str, str, str, int, str | None], Decision | _Denial] = {}
        self._answers_end = 0.0

    def authorize(
        self,
        peer: str,
        action: str,
        protocol: str,
        address: str,
        port: int,
        host: str | None = None,
    ) -> Decision:
        """Permission for ``peer`` to have this done here, or `NotAuthorized` (rules X1, X2).

        ``peer`` is the verified name. ``host`` is the name that was resolved
        to ``address``, if there was one.

        =================  =============  =======================  ==============
        action             protocol       address                  port
        =================  =============  =======================  ==============
        connect            tcp            IPv4 or IPv6 address     1 to 65535
        connect, sendto    udp            IPv4 or IPv6 address     1 to 65535
        connect            unix           path                     0
        connect            x11            address; empty: here     display
        connect            service        name                     0
        bind               tcp, udp       address to listen on     0 to 65535
        =================  =============  =======================  ==============

        A Decision for ``x11`` says where the X server listens: a unix
        socket, or TCP port 6000 + display.
        """
        if protocol == X11 or self.listeners.may_have(protocol, port):
            answer = self._decide(peer, action, protocol, address, port, host)
        else:
            key = (peer, action, protocol, address, port, host)
            now = monotonic()
            if now >= self._answers_end or len(self._answers) >= REMEMBERED:
                self._answers.clear()
                self._answers_end = now + REMEMBERED_FOR
            known = self._answers.get(key)
            if known is None:
                known = self._decide(*key)
                self._answers[key] = known
            answer = known
        if isinstance(answer, Decision):
            return answer
        raise NotAuthorized(answer.why, answer.reason, answer.remedy)

    def prospect(self, peer: str, action: str, protocol: str, host: str, port: int) -> Prospect:
        """What can come of ``peer``'s wish for the name ``host``: asked before anything is looked
        up, so that nobody learns of names, or says things by asking for them, without a rule
        (X23). ``action``, ``protocol`` and ``port`` are as for `authorize`."""
        name = host.lower().removesuffix(".")
        found = Prospect.NONE
        for rule in self._rules.get(_KINDS.get((action, protocol), ""), ()):
            if rule.has_port(port) and rule.is_for(peer):
                if rule.is_for_name(name):
                    return Prospect.BY_NAME
                if rule.is_for_addresses:
                    found = Prospect.BY_ADDRESS
        return found

    def own(self, address: str, port: int, protocol: str, action: str = BIND) -> Decision:
        """Permission for what this end's own configuration asks for, e.g. its listeners."""
        return Decision("", action, protocol, address, port, "own configuration")

    def admits(self, address: str) -> bool:
        """Whether a client from ``address`` may enter a local listener (``--from``, row P4)."""
        if not self.sources:
            return True
        try:
            source = unmapped(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        return any(source in network for network in self.sources)

    def listen_address(self, peer: str, port: int) -> str:
        """Where ``peer`` may have TCP ``port`` opened, if it did not say on which address (row T3).

        That is the first single address that a rule for it names; otherwise loopback.
        """
        for rule in self._rules.get(LISTEN, ()):
            network = rule.network
            if (
                rule.is_for(peer)
                and rule.has_port(port)
                and rule.exact in ("", TCP)
                and network is not None
                and network.num_addresses == 1
            ):
                return str(network.network_address)
        return LOOPBACK

    def _decide(
        self, peer: str, action: str, protocol: str, address: str, port: int, host: str | None
    ) -> Decision | _Denial:
        """A Decision, or why there is none."""
        kind = _KINDS.get((action, protocol), "")
        rules = [rule for rule in self._rules.get(kind, ()) if rule.is_for(peer)]
        if kind in (UNIX, SERVICE) or (kind == X11 and not address):
            return _decide_local(rules, kind, peer, action, protocol, address, port)
        shown = printable(f"{action} {protocol} {host or ''}[{address}]:{port}")
        try:
            if "%" in address:
                raise ValueError("zone")
            target = ip_address(address)
        except ValueError:
            return _Denial(f"{shown} is not an address", "no-address")
        highest = MAX_DISPLAY if kind == X11 else 65535
        if not (0 if kind in (LISTEN, X11) else 1) <= port <= highest:
            return _Denial(f"{shown} has no possible port", "no-address")
        dialled = X11_BASE_PORT + port if kind == X11 else port
        transport = TCP if kind == X11 else protocol
        name = host.lower().removesuffix(".") if host else None
        ranges = special_ranges(target)
        if kind != LISTEN and not target.is_loopback and is_own_address(target):
            ranges = (*ranges, own_range(target))
        is_own = kind != LISTEN and self.listeners.covers(transport, target, dialled)
        for rule in rules:
            if (
                rule.has_port(port)
                and rule.exact in ("", protocol)
                and rule.admits(target, name, ranges)
                and (not is_own or rule.names_exactly(target, port))
            ):
                return Decision(peer, action, transport, str(target), dialled, rule.text)
        if is_own:
            return _Denial(f"{shown} is a listener of this process", "own-listener")
        by_name = name if name and not ranges else str(target)
        remedy = allow_option(kind, by_name, port)
        what = next((f" ({what} address)" for what, _ in ranges), "")
        why = f"no rule allows {printable(peer)} to {shown}{what}"
        return _Denial(why, "special-address" if ranges else "no-rule", remedy)


def _decide_local(
    rules: list[Rule],
    kind: str,
    peer: str,
    action: str,
    protocol: str,
    address: str,
    port: int,
) -> Decision | _Denial:
    """`Policy._decide` for what has no address in a network."""
    for rule in rules:
        if kind == UNIX and rule.exact == address:
            return Decision(peer, action, UNIX, address, 0, rule.text)
        if kind == SERVICE and rule.host is not None and rule.host.match(address):
            return Decision(peer, action, SERVICE, address, 0, rule.text)
        if kind == X11 and rule.host is None and rule.network is None and rule.has_port(port):
            path = f"/tmp/.X11-unix/X{port}"
            return Decision(peer, action, UNIX, path, 0, rule.text)
    shown = printable(f"{action} {protocol}:{address}")
    why = f"no rule allows {printable(peer)} to {shown}"
    return _Denial(why, "no-rule", allow_option(kind, address, port))


class PolicyHolder:
    """The Policy of the moment: what front ends and the far side's answerer ask each time.

    Own listeners outlive a replacement.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.current = Policy() if policy is None else policy
        self.listeners = self.current.listeners

    def replace(self, rules: Iterable[Rule], sources: Iterable[Network] = ()) -> None:
        """Put new rules in force; what is being asked from now on goes by them."""
        self.current = Policy(rules, sources, self.listeners)

    def authorize(
        self,
        peer: str,
        action: str,
        protocol: str,
        address: str,
        port: int,
        host: str | None = None,
    ) -> Decision:
        """See `Policy.authorize`."""
        return self.current.authorize(peer, action, protocol, address, port, host)

    def prospect(self, peer: str, action: str, protocol: str, host: str, port: int) -> Prospect:
        """See `Policy.prospect`."""
        return self.current.prospect(peer, action, protocol, host, port)

    def own(self, address: str, port: int, protocol: str, action: str = BIND) -> Decision:
        """See `Policy.own`."""
        return self.current.own(address, port, protocol, action)

    def admits(self, address: str) -> bool:
        """See `Policy.admits`."""
        return self.current.admits(address)

    def listen_address(self, peer: str, port: int) -> str:
        """See `Policy.listen_address`."""
        return self.current.listen_address(peer, port)
