"""The three ways in which two ends meet to be paired, and what they are from then on (row Q2)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import attrs

from tunnelkit.core.pairing.code import rendezvous_id
from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IRendezvous
from tunnelkit.net.dial.via import Via
from tunnelkit.net.lstp.meeting import LstpParty, LstpRendezvous
from tunnelkit.net.secureproxy.once import OnceRendezvous
from tunnelkit.net.secureproxy.rendezvous import InitiatorRendezvous
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.usher.meeting import UsherRendezvous
from tunnelkit.policy.keys import self_signed
from tunnelkit.policy.settings import Given, Settings
from tunnelkit.roles.configure import to_name
from tunnelkit.roles.secure_proxy_link import SYSTEM, LinkConfig, configure_link
from tunnelkit.roles.usher_rendezvous import ListeningGate
from tunnelkit.roles.way_out import WayOut
from tunnelkit.wire.lstp import CLIENT_END, SERVER_END

NO_NAME = "pairing"
"""What both are called before they know each other."""
RESOURCE = "pair-"
"""What an inside publishes at a Communication Server, in front of its nameplate."""


class PairingWay(Protocol):
    """How the two ends meet."""

    def rendezvous(self, reactor: Any, nameplate: int, inside: bool) -> IRendezvous:
        """Under the number of a code."""

    def role(self, inside: bool) -> str:
        """What ``tunnelkit`` is asked to run from then on."""

    def settings(self, tunnel: str) -> dict[str, str | Iterable[str]]:
        """Its settings, as far as they say how the other end is met."""

    def elsewhere(self) -> str:
        """The options of the other machine's ``tunnelkit pair``, where this is the inside."""


@attrs.frozen
class LstpPairing:
    """Meeting at an LSTP middle, through proxies if need be."""

    middle: tuple[str, int]
    via: Via = ()

    def rendezvous(self, reactor: Any, nameplate: int, inside: bool) -> IRendezvous:
        """See `PairingWay`."""
        way = WayOut(reactor, self.via, "middle", self.middle)
        role = SERVER_END if inside else CLIENT_END
        party = LstpParty(rendezvous_id(nameplate), NO_NAME, role)
        return LstpRendezvous(Shared.of(reactor), way, party)

    def role(self, inside: bool) -> str:
        """See `PairingWay`."""
        return "server" if inside else "client"

    def settings(self, tunnel: str) -> dict[str, str | Iterable[str]]:
        """See `PairingWay`."""
        return {"middle": format_address(self.middle), "tunnel": tunnel}

    def elsewhere(self) -> str:
        """See `PairingWay`."""
        return f"--middle {format_address(self.middle)}"


@attrs.frozen
class GatePairing:
    """Meeting at a gate: the inside (``listens``) has its port at ``address``, the joiner dials
    it."""

    address: tuple[str, int]
    listens: bool = False
    via: Via = ()

    def rendezvous(self, reactor: Any, nameplate: int, inside: bool) -> IRendezvous:
        """See `PairingWay`."""
        if inside:
            return ListeningGate(reactor, self.address)
        return UsherRendezvous(WayOut(reactor, self.via, "gate", self.address))

    def role(self, inside: bool) -> str:
        """See `PairingWay`."""
        return "gate" if inside else "portal"

    def settings(self, tunnel: str) -> dict[str, str | Iterable[str]]:
        """See `PairingWay`."""
        address = format_address(self.address)
        return {"listen": [address]} if self.listens else {"gate": address}

    def elsewhere(self) -> str:
        """See `PairingWay`."""
        return f"--gate HOST:{self.address[1]}"


@attrs.frozen
class SecureProxyPairing:
    """Meeting at a Communication Server that knows both by a login (row S11)."""

    link: LinkConfig
    """Its login is this end's, whose name it is."""
    files: Mapping[str, str]
    """``server-ca`` and ``login-file``, as the settings have them."""
    target: str = ""
    """The joiner's: the inside's name."""

    def rendezvous(self, reactor: Any, nameplate: int, inside: bool) -> IRendezvous:
        """See `PairingWay`."""
        login, config = self.link.login, self.link
        assert login is not None
        shared = Shared.of(reactor)
        link = config.link(shared, config.way(reactor), self_signed(login.name, days=1))
        resource = f"{RESOURCE}{nameplate}"
        if inside:
            return OnceRendezvous(link, login.name, resource)
        return InitiatorRendezvous(link, login.name, self.target, resource)

    def role(self, inside: bool) -> str:
        """See `PairingWay`."""
        return "secure-proxy-client"

    def settings(self, tunnel: str) -> dict[str, str | Iterable[str]]:
        """See `PairingWay`."""
        login, link = self.link.login, self.link
        assert login is not None
        found: dict[str, str | Iterable[str]] = {
            "server": format_address(link.server),
            "server-name": link.server_name,
            "login": login.name,
            **self.files,
        }
        return found | ({"target": self.target} if self.target else {})

    def elsewhere(self) -> str:
        """See `PairingWay`."""
        login, link = self.link.login, self.link
        assert login is not None
        words = [f"--server {format_address(link.server)}", f"--target {login.name}"]
        if link.server_name != link.server[0]:
            words.append(f"--server-name {link.server_name}")
        return " ".join([*words, "--server-ca FILE --login-file FILE"])


def secure_proxy_pairing(settings: Settings, name: str, inside: bool) -> SecureProxyPairing:
    """What the options of ``tunnelkit pair --server`` say; raises `ConfigError`."""
    authority = settings.required("server-ca", "FILE of the server's CA, or system")
    password = settings.required("login-file", f"FILE with the password of {name} at the server")
    given = {option: settings.all(option) for option in settings.names}
    link = configure_link(Settings({**given, "login": [Given(name, "--name")]}))
    target = settings.one("target")
    if inside and target is not None:
        target.wrong("the inside is asked for", "it on the other machine")
    if not inside and target is None:
        raise ConfigError("--target is missing: expected NAME, which the inside calls itself")
    files = {
        option: file.text if file.text == SYSTEM else os.path.abspath(file.text)
        for option, file in (("server-ca", authority), ("login-file", password))
    }
    return SecureProxyPairing(link, files, "" if target is None else target.parsed(to_name))
