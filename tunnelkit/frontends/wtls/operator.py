"""The port of an operator's proxy: DTLS with devices, requests for them, tunnel mode (W1 to W5).

datagram -> gateway: mine?  yes -> association -> CoAP -> the web, or 5.03 and MAP
                            no  -> the device's path to the domain proxy, unopened
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from tunnelkit.core.wtls.coap_blocks import Response
from tunnelkit.core.wtls.coap_server import Request
from tunnelkit.core.wtls.events import (
    Answer,
    ClosePath,
    Discard,
    Event,
    GatewayConfig,
    OpenPath,
    Serve,
    ToDevice,
    ToTarget,
)
from tunnelkit.core.wtls.gateway import Gateway
from tunnelkit.core.wtls.http_mapping import CannotBeServed, error_response, url_of
from tunnelkit.core.wtls.mapping import Mapping
from tunnelkit.errors import Code as Reason
from tunnelkit.frontends.wtls.answers import who
from tunnelkit.frontends.wtls.keys import ProxyKeys
from tunnelkit.frontends.wtls.learning import Mirrors
from tunnelkit.frontends.wtls.paths import Path, Way
from tunnelkit.frontends.wtls.proxy_port import ProxyPort
from tunnelkit.net.channels.contracts import ChannelOpening, ChannelRecord
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.datagram_port import Address
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.wtls.coap_association import ANONYMOUS, CoapAssociation
from tunnelkit.policy.access_log import AccessLog
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.wire.coap import Code
from tunnelkit.wire.dtls_records import Kind, classify

_log = Logger()

LINGER = 10.0
"""Seconds that an association stays after 5.03, to repeat it."""

_REFUSALS = {
    Answer.NO_KEY: Code.BAD_GATEWAY,
    Answer.UNREACHABLE: Code.GATEWAY_TIMEOUT,
    Answer.NEW_PORTS: Code.BAD_GATEWAY,
}


@attrs.frozen(kw_only=True)
class OperatorConfig:
    """Where to listen, and what is secure."""

    address: str
    port: int
    gateway: GatewayConfig
    suffixes: tuple[str, ...] = ()
    """Hosts under these are asked for by their mirrors."""


class OperatorProxy(ProxyPort):
    """An operator's; ``drains``: see `ProxyPort`."""

    def __init__(
        self,
        reactor: Any,
        way: Way,
        policy: PolicyHolder,
        keys: ProxyKeys,
        config: OperatorConfig,
        name: str = "wtls",
        drains: bool = True,
    ) -> None:
        super().__init__(reactor, way, policy, keys, config.address, config.port, drains)
        self._way = way
        self.gateway = Gateway(config.gateway, os.urandom)
        self._mirrors = Mirrors(self._reactor, way.stream_to, config.suffixes)
        self._paths: dict[Mapping, Path] = {}
        self._names: dict[Mapping, str] = {}
        self._serials: dict[Mapping, int] = {}
        self.description = f"{name} {self.address}"
        """For the role's ready line."""

    def _close_paths(self) -> None:
        self._do(self.gateway.close())

    def reconfigure(self, gateway: GatewayConfig, suffixes: tuple[str, ...]) -> None:
        """Go by other settings from now on; what is in tunnel mode stays so."""
        self.gateway.config = gateway
        self._mirrors.suffixes = suffixes

    def status(self) -> dict[str, int]:
        """What is there now."""
        return {
            "associations": len(self.server.associations),
            "tunnels": len(self._paths),
            "dropped": self.server.dropped + self.gateway.dropped,
        }

    # -- datagrams --------------------------------------------------------

    def _received(self, data: bytes, device: Address) -> None:
        is_hello = data[:1] == b"\x16" and classify(data) is Kind.HELLO
        if is_hello and not (self.running and self._policy.admits(device[0])):
            self.server.dropped += 1
            return
        events = self.gateway.from_device(device, data, self._reactor.seconds())
        if len(events) == 1:
            # What passes in tunnel mode changes no deadline.
            event = events[0]
            if type(event) is ToTarget:
                self._forward(event)
                return
            if type(event) is Serve:
                self.server.datagramReceived(data, device)
                return
        self._do(events)

    def _forward(self, event: ToTarget) -> None:
        path = self._paths.get(event.mapping)
        if path is not None:
            path.send(event.data)

    def _from_target(self, mapping: Mapping, data: memoryview) -> None:
        events = self.gateway.from_target(mapping, data, self._reactor.seconds())
        if len(events) == 1 and type(events[0]) is ToDevice:
            self._port.write(data, mapping.device)
        else:
            self._do(events)

    def _path_ended(self, mapping: Mapping, why: str) -> None:
        _log.info(
            "No way to the domain proxy {target}: {why}",
            target=format_address(mapping.target),
            why=why,
        )
        self._do(self.gateway.path_failed(mapping, why, self._reactor.seconds()))

    def _is_real(self, address: Address) -> bool:
        return self.gateway.was_tunnelled(address)

    def _due(self) -> None:
        self._do(self.gateway.deadline_passed(self._reactor.seconds()))

    def _do(self, events: Iterable[Event], peer: str = ANONYMOUS) -> None:
        for event in events:
            if isinstance(event, ToTarget):
                self._forward(event)
            elif isinstance(event, ToDevice):
                self._port.write(event.data, event.mapping.device)
            elif isinstance(event, OpenPath):
                path = Path(event.mapping, self._from_target, self._path_ended)
                self._paths[event.mapping] = path
                self._names[event.mapping] = peer
                self._begin(event.mapping, peer)
                path.open(self._way, peer)
            elif isinstance(event, Discard):
                self.server.discard(event.device)
            elif isinstance(event, ClosePath):
                self._close(event.mapping, event.why)
        due = self.gateway.next_deadline()
        if due is not None:
            self._timer.start_by(due)

    def _begin(self, mapping: Mapping, name: str) -> None:
        device = format_address(mapping.device)
        serial = self._serials[mapping] = next(Shared.of(self._reactor).serials)
        peer, target = who(name, mapping.device), f"udp:{format_address(mapping.target)}"
        AccessLog.of(self._reactor)(ChannelOpening(serial, peer, target, True, "", device))

    def _close(self, mapping: Mapping, why: str) -> None:
        path, name = self._paths.pop(mapping, None), self._names.pop(mapping, ANONYMOUS)
        if path is not None:
            path.close()
        began = mapping.began_at
        serials = Shared.of(self._reactor).serials
        serial = self._serials.pop(mapping, 0) or next(serials)
        AccessLog.of(self._reactor)(
            ChannelRecord(
                who(name, mapping.device),
                f"udp:{format_address(mapping.target)}",
                True,
                mapping.bytes_to_device,
                mapping.bytes_from_device,
                self._reactor.seconds() - (mapping.stored_at if began is None else began),
                None if began is not None else Reason.TIMED_OUT,
                why,
                began is None,
                serial,
                "",
                format_address(mapping.device),
            )
        )

    # -- associations ------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> CoapAssociation:
        """One device's association is complete."""
        where: Any = addr
        return CoapAssociation(
            self._reactor,
            (where.host, where.port),
            self._answer,
            self._kept,
            lambda association: self.gateway.places.made(association.address),
            lambda association: self.gateway.places.ended(association.address),
        )

    async def _answer(self, association: CoapAssociation, request: Request) -> Response:
        url = url_of(request.message)
        target = self.gateway.target_of(url.host)
        if target is None and self._mirrors.covers(url.host):
            target = await self._mirrors.domain_proxy_of(url.host, association.name)
            if target is None:
                raise CannotBeServed(Code.BAD_GATEWAY, "the mirror names no domain proxy")
        if target is not None:
            return self._send_away(association, target)
        wanted = association.mapping.request(request.message, url, request.body)
        return await self._answers.ask(association, request, wanted)

    def _send_away(self, association: CoapAssociation, target: Address) -> Response:
        if association.over:
            raise CannotBeServed(Code.BAD_GATEWAY, "the association is over")
        now = self._reactor.seconds()
        answer, events = self.gateway.secure_request(association.address, target, now)
        self._do(events, association.name)
        if answer is Answer.FULL:
            return error_response(Code.SERVICE_UNAVAILABLE, answer.value, 60)
        if answer is not Answer.RETRY:
            _log.warn(
                "{device} cannot be tunnelled to {target}: {why}",
                device=who(association.name, association.address),
                target=format_address(target),
                why=answer.value,
            )
            return error_response(_REFUSALS[answer], answer.value)
        if not association.sent_away:
            association.sent_away = True
            association.close_in(LINGER)
        return error_response(Code.SERVICE_UNAVAILABLE, answer.value, 0)
