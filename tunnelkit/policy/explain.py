"""What the rules in force say of one wish, in words; nothing is connected or looked up (row O6)."""

from __future__ import annotations

from tunnelkit.errors import NotAuthorized
from tunnelkit.policy.acl import BIND, CONNECT, LOOPBACK, PolicyHolder, Prospect
from tunnelkit.policy.destination import LISTEN, SERVICE, TCP, UNIX, X11, parse_destination

_DEPENDS = "a rule may allow it, by the address that the name has when it is connected"


def explain(policy: PolicyHolder, peer: str, text: str) -> dict[str, object]:
    """Whether ``peer`` may reach the destination ``text`` from here.

    ``allowed``: True, False, or None where that depends on what a name leads to; ``rule``: the one
    that allows it; ``why``. Raises `ConfigError` if the text is no destination.
    """
    destination = parse_destination(text)
    kind, host, port = destination.kind, destination.host, destination.port
    if host == "*":
        return _answer(None, "", "each datagram is judged by the address that it goes to")
    action = BIND if kind == LISTEN else CONNECT
    protocol = TCP if kind == LISTEN else kind
    named = kind not in (UNIX, SERVICE) and bool(host) and not destination.is_address
    if named and kind == X11:
        return _answer(None, "", _DEPENDS)
    if named:
        prospect = policy.prospect(peer, action, protocol, host, port)
        if prospect is Prospect.NONE:
            return _answer(False, "", prospect.value)
        if prospect is Prospect.BY_NAME:
            rules = policy.current.rules
            rule = next(
                one.text
                for one in rules
                if one.kind == kind
                and one.has_port(port)
                and one.is_for(peer)
                and one.is_for_name(host.removesuffix("."))
            )
            return _answer(True, rule, "unless the name leads to a special address")
        return _answer(None, "", _DEPENDS)
    address = host if host or kind in (UNIX, SERVICE, X11) else LOOPBACK
    try:
        decision = policy.authorize(peer, action, protocol, address, port)
    except NotAuthorized as error:
        return _answer(False, "", str(error))
    return _answer(True, decision.rule, "")


def _answer(allowed: bool | None, rule: str, why: str) -> dict[str, object]:
    return {"allowed": allowed, "rule": rule, "why": why}
