"""What an end needs besides its identity: the settings file that ``keys issue`` writes (row Q3).

``office.toml`` lies beside ``office.pem`` and ``revoked.crl``, in any directory: its paths are
looked up beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import attrs

from tunnelkit.net.dial.choice import stands_alone
from tunnelkit.net.dial.via import parse_hop
from tunnelkit.policy.destination import parse_forward, parse_host_port, parse_listen
from tunnelkit.policy.rules import parse_rule
from tunnelkit.policy.settings import Given
from tunnelkit.roles.configure import to_name, to_tunnel_name


@attrs.frozen(kw_only=True)
class EndPlan:
    """How one end of a tunnel over a middle is to run, in the words of its options."""

    middle: str
    tunnel: str
    peers: Sequence[str]
    via: Sequence[str] = ()
    allow: Sequence[str] = ()
    """What others may reach there; some: it is a server end."""
    forward: Sequence[str] = ()
    socks: Sequence[str] = ()

    def check(self) -> None:
        """Raises `ConfigError` for a value that the end would refuse."""
        Given(self.middle, "--middle").parsed(parse_host_port)
        Given(self.tunnel, "--tunnel").parsed(to_tunnel_name)
        for name, parse, texts in (
            ("peer", to_name, self.peers),
            ("allow", parse_rule, self.allow),
            ("forward", parse_forward, self.forward),
            ("socks", parse_listen, self.socks),
        ):
            for text in texts:
                Given(text, f"--{name}").parsed(parse)
        for text in self.via:
            # A PAC file is one of the machine that dials.
            if not stands_alone(text):
                parse_hop(text, "--via")

    @property
    def role(self) -> str:
        """``server`` or ``client``; empty: it does not say what it is for."""
        return "server" if self.allow else "client" if self.forward or self.socks else ""

    def toml(self, identity: str) -> str:
        """The file; ``identity`` is the name of the other one."""
        settings: dict[str, str | Sequence[str]] = {
            "identity": identity,
            "middle": self.middle,
            "tunnel": self.tunnel,
            "peer": self.peers,
            "via": self.via,
            "allow": self.allow,
            "forward": self.forward,
            "socks": self.socks,
        }
        head = (
            "# Written by `tunnelkit keys issue`; every option of the role can stand here.\n"
            "# Files are looked up beside this one.\n"
        )
        return head + "".join(f"{line}\n" for line in toml_lines(settings))

    def commands(self, config: str) -> list[str]:
        """What to run there, as lines to be printed."""
        if self.role:
            return [f"tunnelkit {self.role} --config {config}"]
        return [
            f"tunnelkit server --config {config} --allow tcp:HOST:PORT   "
            "# others may reach HOST:PORT from there",
            f"tunnelkit client --config {config} --socks 1080            "
            "# or: programs there reach the others",
        ]


def toml_lines(settings: Mapping[str, str | Iterable[str]]) -> list[str]:
    """``key = value``, a line for each that has one."""
    lines = []
    for key, value in settings.items():
        if isinstance(value, str):
            lines.append(f"{key} = {_text(value)}")
        elif values := ", ".join(map(_text, value)):
            lines.append(f"{key} = [{values}]")
    return lines


def _text(value: str) -> str:
    """A JSON string without escapes for what UTF-8 can say is a TOML string too."""
    return json.dumps(value, ensure_ascii=False)
