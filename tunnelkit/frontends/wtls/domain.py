"""The port of a domain proxy: DTLS with devices that come through an operator (rows W6, W7).

MAP -> a device comes from there -> DTLS -> CoAP -> HTTPS to the secure server
a URL of another domain, or the device closes -> END
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from tunnelkit.core.wtls.coap_blocks import Response
from tunnelkit.core.wtls.coap_server import Request
from tunnelkit.core.wtls.domain import Announced, Event, Mappings, Over, Send
from tunnelkit.core.wtls.http_mapping import Url, error_response, url_of
from tunnelkit.frontends.wtls.answers import who
from tunnelkit.frontends.wtls.keys import ProxyKeys
from tunnelkit.frontends.wtls.paths import Way
from tunnelkit.frontends.wtls.proxy_port import ProxyPort
from tunnelkit.net.sockets.datagram_port import Address
from tunnelkit.net.wtls.coap_association import CoapAssociation
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.wire.coap import Code
from tunnelkit.wire.dtls_records import Kind, classify
from tunnelkit.wire.wtls_map import is_map

_log = Logger()

BEFORE_END = 2.0
"""Seconds before the end of the time to live at which nothing new is begun."""
LAST_CALL = 1.5
"""Seconds in which a device that is in the middle of something is told that it is over."""

ENDING = error_response(Code.SERVICE_UNAVAILABLE, "the tunnel has ended: connect again", 0)
ELSEWHERE = error_response(Code.SERVICE_UNAVAILABLE, "not of this domain: connect again", 0)


@attrs.frozen(kw_only=True)
class DomainConfig:
    """Where to listen, and what is of this domain."""

    address: str
    port: int
    origins: Mapping[str, Url]
    """Host in requests: where it is fetched from."""
    map_key: bytes | None = attrs.field(default=None, repr=False)
    """None: no operator can announce devices."""


class DomainProxy(ProxyPort):
    """A domain's."""

    def __init__(
        self, reactor: Any, way: Way, policy: PolicyHolder, keys: ProxyKeys, config: DomainConfig
    ) -> None:
        super().__init__(reactor, way, policy, keys, config.address, config.port)
        self.origins = config.origins
        self._mappings = None if config.map_key is None else Mappings(config.map_key)
        self._associations: dict[Address, CoapAssociation] = {}
        self.description = f"listening on {self.address}"
        """For the role's ready line."""

    def status(self) -> dict[str, int]:
        """What is there now."""
        dropped = self.server.dropped + (self._mappings.dropped if self._mappings else 0)
        return {
            "associations": len(self._associations),
            "mappings": 0 if self._mappings is None else self._mappings.count,
            "dropped": dropped,
        }

    # -- datagrams --------------------------------------------------------

    def _received(self, data: bytes, address: Address) -> None:
        mappings = self._mappings
        if mappings is not None and is_map(data):
            self._do(mappings.receive(address, data, self._reactor.seconds()))
            return
        if classify(data) is Kind.HELLO and (
            not (self.running and self._policy.admits(address[0]))
            or (mappings is not None and mappings.is_ending(address))
        ):
            self.server.dropped += 1
            return
        self.server.datagramReceived(data, address)

    def _do(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Send):
                self._port.write(event.data, event.address)
            elif isinstance(event, Announced):
                association = self._associations.get(event.address)
                if association is not None:
                    self._limit(association, event.seconds)
            elif isinstance(event, Over):
                association = self._associations.get(event.address)
                if association is not None:
                    association.close()
        due = None if self._mappings is None else self._mappings.next_deadline()
        if due is not None:
            self._timer.start_by(due)

    def _due(self) -> None:
        if self._mappings is not None:
            self._do(self._mappings.deadline_passed(self._reactor.seconds()))

    # -- associations ------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> CoapAssociation:
        """One device's association is complete."""
        where: Any = addr
        return CoapAssociation(
            self._reactor,
            (where.host, where.port),
            self._answer,
            self._kept,
            self._made,
            self._ended,
        )

    def _made(self, association: CoapAssociation) -> None:
        self._associations[association.address] = association
        if self._mappings is not None:
            now = self._reactor.seconds()
            left = self._mappings.seconds_left(association.address, now)
            if left is not None:
                self._limit(association, left)

    def _limit(self, association: CoapAssociation, seconds: float) -> None:
        """Nothing new is begun shortly before the mapping's time is over."""
        association.end_in(max(0.0, seconds - BEFORE_END), ENDING, LAST_CALL)

    def _ended(self, association: CoapAssociation) -> None:
        address = association.address
        if self._associations.get(address) is association:
            del self._associations[address]
        # The device may have begun another association instead.
        if self._mappings is not None and self.running and not self.server.knows(address):
            self._do(self._mappings.end(address, self._reactor.seconds()))

    def _is_real(self, address: Address) -> bool:
        if self._mappings is None:
            return False
        return self._mappings.seconds_left(address, 0.0) is not None

    async def _answer(self, association: CoapAssociation, request: Request) -> Response:
        url = url_of(request.message)
        origin = self.origins.get(url.host)
        if origin is None:
            _log.info(
                "{device} asked for another domain: {host}",
                device=who(association.name, association.address),
                host=url.host,
            )
            association.close_when_answered = True
            return ELSEWHERE
        target = origin.target.removesuffix("/") + url.target
        wanted = association.mapping.request(
            request.message, attrs.evolve(origin, target=target), request.body
        )
        return await self._answers.ask(association, request, wanted)
