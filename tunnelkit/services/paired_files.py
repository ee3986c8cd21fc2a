"""What pairing leaves behind: an identity and the settings of a role (row Q2).

``office.pem`` is an ordinary self-signed identity (row K3), ``office.toml`` what
``tunnelkit server --config`` takes. A further pairing of the same name adds one line to it.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from tunnelkit.errors import ConfigError
from tunnelkit.policy.identity import Identity, identity_pem, load_identity
from tunnelkit.policy.key_directory import KeyDirectory, write_new, write_over
from tunnelkit.policy.keys import check_name, self_signed
from tunnelkit.policy.printable import printable

PINNED, ISSUED = "peer-pin", "peer"
"""How a peer stands in the settings: by its key, or by the name that the CA gave to it."""
MOST_FORWARDS = 8

_SERVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_EXACT = re.compile(
    r"(?:tcp:)?(?!(?:udp|unix|x11|service|listen):)"
    r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})"
)
"""A rule for one TCP port of one host."""


@attrs.frozen
class PairedFiles:
    """The two files of the end ``name`` in ``directory``."""

    directory: Path
    name: str

    @property
    def identity_file(self) -> Path:
        """``NAME.pem``."""
        return self.directory / f"{self.name}.pem"

    @property
    def config_file(self) -> Path:
        """``NAME.toml``."""
        return self.directory / f"{self.name}.toml"

    def identity(self) -> Identity:
        """The one that is there, or a new one that nobody has written yet.

        Raises `ConfigError` for one that cannot be paired, and for settings without the other.
        """
        check_name(self.name)
        if not os.path.lexists(self.identity_file):
            if os.path.lexists(self.config_file):
                raise ConfigError(
                    f"{printable(str(self.config_file))} is there without "
                    f"{self.identity_file.name}: expected both, or neither"
                )
            return self_signed(self.name)
        identity = load_identity(self.identity_file)
        if identity.credentials.authorities:
            raise ConfigError(
                f"{printable(str(self.identity_file))} was issued by a CA: whoever has one needs "
                "no pairing; expected --issue on the inside, another --name, or another --dir"
            )
        if identity.name != self.name:
            raise ConfigError(
                f"{printable(str(self.identity_file))} is {identity.name}'s: expected another "
                "--name"
            )
        return identity

    def identity_of(self, keys: KeyDirectory) -> Identity:
        """The one that is there, which the CA in ``keys`` has issued, or a new one of it; raises
        `ConfigError`."""
        check_name(self.name)
        authority = keys.load().certificate
        if not os.path.lexists(self.identity_file):
            return keys.issue(self.name, out=self.identity_file)[0]
        identity = load_identity(self.identity_file)
        if identity.credentials.authorities != (authority,):
            raise ConfigError(
                f"--issue: {printable(str(self.identity_file))} is not of the CA in "
                f"{printable(str(keys.path))}: expected another --name"
            )
        return identity

    def check(self, inside: bool, way: str = PINNED) -> None:
        """Raises `ConfigError` if a further peer could not be added to the settings: an inside may
        have several."""
        if not os.path.lexists(self.config_file):
            return
        if not inside:
            raise ConfigError(
                f"{printable(str(self.config_file))}: {self.name} is paired already: run it, or "
                "expected another --name"
            )
        if f"{way} = [" not in self._lines():
            raise ConfigError(
                f"{printable(str(self.config_file))} has no line '{way} = [': expected the file as "
                "pairing wrote it, or another --name"
            )

    def keep(
        self,
        identity: Identity,
        settings: Mapping[str, str | Iterable[str]],
        peer: str,
        way: str = PINNED,
    ) -> None:
        """Write what is not there yet; ``peer`` is the other end's ``NAME=sha256:...``, or with
        `ISSUED` its name, which takes the place of an earlier one of that name."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.lexists(self.identity_file):
            write_new(self.identity_file, identity_pem(identity))
        if not os.path.lexists(self.config_file):
            write_new(self.config_file, _toml(settings, peer, way).encode("utf-8"))
            return
        lines = self._lines()
        name = json.dumps(peer.partition("=")[0])[:-1] + ("=" if way == PINNED else '"')
        kept = [line for line in lines if not line.strip().startswith(name)]
        kept.insert(kept.index(f"{way} = [") + 1, f"    {json.dumps(peer)},")
        write_over(self.config_file, ("\n".join(kept) + "\n").encode("utf-8"))

    def _lines(self) -> list[str]:
        try:
            return self.config_file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{printable(str(self.config_file))}: cannot be read: {error}"
            ) from None


def _toml(settings: Mapping[str, str | Iterable[str]], peer: str, way: str) -> str:
    lines = ["# Written by `tunnelkit pair`; every option of the role can stand here."]
    for key, value in settings.items():
        if isinstance(value, str):
            lines.append(f"{key} = {_text(value)}")
        elif values := list(value):
            lines += [f"{key} = [", *(f"    {_text(one)}," for one in values), "]"]
    # The end takes new keys here (`tunnelkit pair --again`), and counts its meetings beside it.
    lines.append("paired = true")
    lines += [f"{way} = [", f"    {_text(peer)},", "]"]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """A JSON string without escapes for what UTF-8 can say is a TOML string too."""
    return json.dumps(value, ensure_ascii=False)


def entrances(rules: Iterable[str], services: Iterable[str] = ()) -> dict[str, list[str]]:
    """Front ends for what the other end allows and publishes: a forward for each single place and
    each service, SOCKS for the rest.

    Both are the other end's words: what is not understood makes nothing.
    """
    forwards: list[str] = []
    others = False
    for rule in rules:
        found = _EXACT.fullmatch(rule)
        if found is None or not 0 < int(found[2]) < 65536:
            others = True
        elif len(forwards) < MOST_FORWARDS:
            forwards.append(f"127.0.0.1:{_free_port(int(found[2]))}={rule}")
    for service in filter(_SERVICE.fullmatch, services):
        if len(forwards) < MOST_FORWARDS:
            forwards.append(f"127.0.0.1:{_free_port(0)}=service:{service}")
    made = {"forward": forwards} if forwards else {}
    if others or not forwards:
        made["socks"] = [f"127.0.0.1:{_free_port(1080)}"]
    return made


def _free_port(wanted: int) -> int:
    """``wanted``, or 10000 more where that needs root; another one where it is taken."""
    preferred = wanted if wanted >= 1024 else wanted + 10_000
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("no port is free on 127.0.0.1")
