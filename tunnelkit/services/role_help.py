"""``--help`` of a role: in groups, what is used most first, on 80 columns (row Q8).

What is rarely needed is behind ``--help-all``. An option that is in no table here, of a plug-in
for instance, is always shown.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import attrs

from tunnelkit.policy.settings import Option

COLUMNS = 80
_LEFT = 30
"""Where the meaning begins."""


@attrs.frozen
class Group:
    """Options that belong together."""

    title: str
    names: tuple[str, ...]
    """The most used first."""
    examples: tuple[str, ...]
    """The first one whose options the role has is shown."""


GROUPS = (
    Group(
        "Meeting the other end",
        (
            *("middle", "gate", "server", "target", "tunnel", "listen", "await", "via"),
            *("via-password-file", "rendezvous", "server-name", "server-ca", "serve", "both"),
            *("login", "login-file", "admission-token-file", "next", "relay", "onward"),
            *("onward-peer", "onward-for", "bastion", "admit", "name", "manual", "protocol"),
            *("connections", "keepalive", "compress", "session-binding", "resource", "spares"),
            *("secure", "learn-from", "origin", "proxy-protocol"),
        ),
        (
            "--middle relay.example:7000 --tunnel work",
            "--gate gate.example:7000",
            "--server relay.example:443 --target office",
            "--listen 7000",
        ),
    ),
    Group(
        "Who it is, and whom it trusts",
        (
            *("identity", "peer", "peer-pin", "crl", "no-crl", "certificate", "policy"),
            *("identity-mode", "eku", "state-dir", "map-key-file", "paired"),
        ),
        ("--identity office.pem --peer laptop", "--identity relay.pem"),
    ),
    Group(
        "Opened here, for programs on this side",
        (
            *("forward", "socks", "http-proxy", "dns", "x11", "reverse", "ask", "wtls"),
            *("socks-auth-file", "http-proxy-auth-file", "from", "forwards-allow", "forwards-file"),
        ),
        ("--forward 2222=tcp:10.1.2.3:22 --socks 1080",),
    ),
    Group(
        "Allowed here, for the other end",
        ("allow", "publish", "map", "resolver", "dns-server", "max-channels"),
        ("--allow 10.1.2.3:22 --allow 'laptop=*.corp.example:80,443'",),
    ),
    Group(
        "Running",
        (
            *("config", "status", "control", "log-json", "grace", "audit", "checkpoint-to"),
            *("checkpoints", "status-token-file", "log"),
        ),
        ("--config office.toml",),
    ),
)

RARE = frozenset(
    (
        *("admission-token-file", "next", "onward", "onward-peer", "onward-for", "bastion"),
        *("protocol", "connections", "keepalive", "compress", "session-binding", "spares"),
        *("proxy-protocol", "identity-mode", "eku", "state-dir", "no-crl", "map-key-file"),
        *("resolver", "dns-server", "max-channels", "half-closed-limit", "log-json", "grace"),
        *("audit", "checkpoint-to", "checkpoints", "status-token-file", "serve", "both"),
        *("max-waiting", "max-waiting-per-address", "max-in-setup", "match", "ttl"),
        *("socks-auth-file", "http-proxy-auth-file", "site-proxy-header", "min-publish-interval"),
        *("via-password-file", "server-ca", "manual", "paired", "forwards-file"),
    )
)
"""Shown by ``--help-all`` only; so are all ``max-*`` and ``wtls-*``."""


def is_rare(name: str) -> bool:
    """Whether ``--help`` leaves it out."""
    return name in RARE or name.startswith(("max-", "wtls-"))


def help_text(synopsis: str, about: str, declared: Mapping[str, Option], everything: bool) -> str:
    """The whole help; with ``everything`` also what is rare."""
    shown = {
        name: one
        for name, one in declared.items()
        if everything or not is_rare(name) or f"--{name} " in synopsis
    }
    lines = [
        *textwrap.wrap(synopsis, COLUMNS, subsequent_indent="    ", break_on_hyphens=False),
        "",
        *textwrap.wrap(about, COLUMNS),
    ]
    left = set(shown)
    for group in GROUPS:
        names = [name for name in group.names if name in shown]
        left.difference_update(names)
        lines += _group(group.title, [shown[name] for name in names], _example(group, declared))
    lines += _group("More", [shown[name] for name in sorted(left)], "")
    hidden = len(declared) - len(shown)
    more = f"--help-all shows {hidden} more options; " if hidden else ""
    lines += ["", *textwrap.wrap(f"{more}--version shows the version.", COLUMNS)]
    return "\n".join(lines) + "\n"


def _example(group: Group, declared: Mapping[str, Option]) -> str:
    for example in group.examples:
        used = [word[2:] for word in example.split() if word.startswith("--")]
        if all(name in declared for name in used):
            return example
    return ""


def _group(title: str, options: Sequence[Option], example: str) -> Iterable[str]:
    if not options:
        return
    yield ""
    yield f"{title}:"
    if example:
        yield f"  e.g. {example}"
    for option in options:
        yield from _option(option)


def _option(option: Option) -> Iterable[str]:
    left = f"  --{option.name} {option.metavar}".rstrip()
    meaning = option.help.lstrip(",: ") + ("; repeatable" if option.repeatable else "")
    lines = textwrap.wrap(meaning, COLUMNS - _LEFT, break_on_hyphens=False)
    if len(left) >= _LEFT:
        yield left
        left = ""
    for line in lines:
        yield f"{left:<{_LEFT}}{line}"
        left = ""
