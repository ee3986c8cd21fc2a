"""Two ends that are paired, over each of the three ways in which they meet (row Q2)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from tests.acceptance.communication import SERVER, start_server
from tests.acceptance.processes import (
    TUNNELKIT,
    Identities,
    Processes,
    Role,
    free_port,
)
from tunnelkit.policy.identity import load_identity
from tunnelkit.policy.keys import self_signed
from tunnelkit.services.paired_files import PairedFiles

Options = tuple[object, ...]

POLICY = """
[clients.office]
publish = ["tunnel", "pair-*"]

[clients.laptop]
connect = ["office/*"]
"""


def at_a_server(processes: Processes, identities: Identities) -> tuple[Options, Options]:
    """A Communication Server that knows office and laptop by their passwords."""

    def secret(name: str, text: str) -> Path:
        file = processes.directory / name
        file.write_text(text)
        file.chmod(0o600)
        return file

    logins = secret("logins", "office:correct horse\nlaptop:battery staple\n")
    server = start_server(processes, identities, "--login-file", logins, policy=POLICY)
    there = (
        "--server", f"127.0.0.1:{server.port}", "--server-name", SERVER,
        "--server-ca", identities.directory / "ca.pem",
    )  # fmt: skip
    return (
        (*there, "--login-file", secret("office-login", "correct horse")),
        (*there, "--login-file", secret("laptop-login", "battery staple"), "--target", "office"),
    )


@attrs.frozen
class Paired:
    """The files of office and laptop, as pairing leaves them, and what is run by them."""

    processes: Processes
    roles: Mapping[str, str]
    """By name, what `tunnelkit` is asked to run."""

    def files(self, name: str) -> PairedFiles:
        """Those of one of the two."""
        return PairedFiles(self.processes.directory / f"{name}-keys", name)

    def pin(self, name: str) -> str:
        """The key in the file of ``name``."""
        return load_identity(self.files(name).identity_file).fingerprint

    def control(self, name: str) -> Path:
        """Where ``name`` can be told something while it runs."""
        return self.processes.directory / f"{name}.control"

    def start(self, name: str, wait: bool = True, config: Path | None = None) -> Role:
        """Run one of the two."""
        config = config or self.files(name).config_file
        words = (self.roles[name], "--config", config, "--control", self.control(name))
        return Role(self.processes.start(name, *TUNNELKIT, *words), waits=wait)


def paired(
    processes: Processes, identities: Identities, way: str, target: str, place: str = ""
) -> Paired:
    """Two that meet at a ``middle`` (or at ``place`` instead), a ``gate`` or a ``server``; the
    office allows ``target``, to which the laptop has a forward."""
    settings: dict[str, dict[str, str | Iterable[str]]] = {"office": {}, "laptop": {}}
    roles = dict.fromkeys(settings, "secure-proxy-client")
    if way == "middle":
        if not place:
            middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
            place = middle.address("listening on")
        for each in settings.values():
            each |= {"middle": place, "tunnel": "work"}
        roles = {"office": "server", "laptop": "client"}
    elif way == "gate":
        place = f"127.0.0.1:{free_port()}"
        settings["office"] |= {"listen": [place]}
        settings["laptop"] |= {"gate": place}
        roles = {"office": "gate", "laptop": "portal"}
    else:
        both = at_a_server(processes, identities)
        for (name, each), options in zip(settings.items(), both, strict=True):
            words = [str(word) for word in options]
            pairs = zip(words[::2], words[1::2], strict=True)
            each |= {option.removeprefix("--"): value for option, value in pairs}
            each |= {"login": name}
    settings["office"] |= {"allow": [target]}
    settings["laptop"] |= {"forward": [f"127.0.0.1:0={target}"]}
    secret = secrets.token_bytes(32)
    made = {name: self_signed(name, rendezvous_secret=secret) for name in settings}
    # The one with the lower key counts, without waiting for others that might be about to.
    while made["office"].fingerprint > made["laptop"].fingerprint:
        made["office"] = self_signed("office", rendezvous_secret=secret)
    found = Paired(processes, roles)
    for name, other in (("office", "laptop"), ("laptop", "office")):
        files = found.files(name)
        settings[name]["identity"] = str(files.identity_file)
        files.keep(made[name], settings[name], f"{other}={made[other].fingerprint}")
    return found
