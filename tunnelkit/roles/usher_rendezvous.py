"""Dialling, or being dialled, with any channel protocol: ``tunnel-end --rendezvous usher``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tunnelkit.interfaces import IHasPorts, IRendezvous
from tunnelkit.local.listening import ListeningService
from tunnelkit.net.dial.via import Via
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.usher.meeting import GateRendezvous, UsherMeeting, UsherRendezvous
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.destination import TCP, parse_host_port, parse_open_listen
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import proxies
from tunnelkit.roles.way_out import WayOut


@attrs.frozen
class Config:
    """The gate to dial, or the port at which to be one."""

    address: tuple[str, int]
    gate: bool
    via: Via = ()


def configure(settings: Settings) -> Config:
    """See `IRendezvousMaker`."""
    waits = settings.one("await")
    if waits is None:
        expected = "HOST:PORT of the gate, e.g. gate.example:7000 (or --await to be one)"
        gate = settings.required("gate", expected)
        return Config(gate.parsed(parse_host_port), False, proxies(settings))
    if given := settings.one("gate"):
        given.wrong("this end is a gate itself", "--gate or --await, not both")
    return Config(waits.parsed(parse_open_listen), True)


def describe(config: Config) -> str:
    """See `IRendezvousMaker`."""
    address = format_address(config.address)
    return f"awaiting at {address}" if config.gate else f"gate {address}"


def make_rendezvous(reactor: Any, config: Config) -> IRendezvous:
    """See `IRendezvousMaker`; a port is bound now (`ConfigError` if it is taken)."""
    if config.gate:
        return ListeningGate(reactor, config.address)
    return UsherRendezvous(WayOut(reactor, config.via, "gate", config.address))


@implementer(IHasPorts, IRendezvous)
class ListeningGate(ListeningService):
    """A gate with its port."""

    serves = True

    def __init__(self, reactor: Any, address: tuple[str, int]) -> None:
        self._gate = GateRendezvous(Shared.of(reactor))
        super().__init__(reactor, PolicyHolder(Policy()), TCP, *address, self._gate.accept)
        self.own_ports = ((TCP, address[0], int(self.address.rpartition(":")[2])),)

    def meet(self, on_waiting: Callable[[str], object] | None = None) -> Deferred[UsherMeeting]:
        """See `IRendezvous`."""
        return self._gate.meet(on_waiting)
