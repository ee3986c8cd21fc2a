"""The proxies of the WTLS-style tunnel and devices in one process, on real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tunnelkit.core.wtls.coap_blocks import Response
from tunnelkit.core.wtls.events import GatewayConfig
from tunnelkit.core.wtls.http_mapping import parse_url
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.direct import DirectWay
from tunnelkit.egress.names import Names
from tunnelkit.egress.udp import UdpEgress
from tunnelkit.frontends.wtls.domain import DomainConfig, DomainProxy
from tunnelkit.frontends.wtls.keys import ProxyKeys
from tunnelkit.frontends.wtls.operator import OperatorConfig, OperatorProxy
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.net.wtls.device import Device
from tunnelkit.policy.acl import Policy, PolicyHolder, parse_rule
from tunnelkit.testing import ThrowawayCA, throwaway_ca
from tunnelkit.wire.coap import dotted

reactor: Any = global_reactor

KEY = bytes(range(32))


class Pages(Resource):
    """What web servers answer, by host and path; what they were asked."""

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        self.asked: list[str] = []
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}

    def render(self, request: Request) -> bytes:
        where = f"{request.getRequestHostname().decode()}{request.uri.decode()}"
        self.asked.append(f"{request.method.decode()} {where}")
        status, headers, body = self.pages.get(where, (404, {}, b""))
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name, value)
        return body


class Roads(DirectWay):
    """Every name leads to this machine, every stream to ``web``."""

    def __init__(self) -> None:
        policy = PolicyHolder(Policy([parse_rule("udp:*.example:*@127.0.0.0/8")]))
        here = ["127.0.0.1"]
        egress = Egress(
            reactor, Poller.of(reactor), policy, names=Names(lambda host: succeed(here))
        )
        super().__init__(egress)
        self.udp: Any = UdpEgress(egress)
        self.web = 0

    def stream_to(self, destination: str, peer: str) -> Any:
        return TCP4ClientEndpoint(reactor, "127.0.0.1", self.web)


class World:
    """A web server, the domain proxy of bank.example and an operator's proxy."""

    def __init__(self, directory: str, suffixes: tuple[str, ...] = (), **gateway: Any) -> None:
        self.directory = directory
        self.roads = Roads()
        self.pages = Pages()
        self._site = reactor.listenTCP(0, Site(self.pages), interface="127.0.0.1")
        self.roads.web = self._site.getHost().port
        self.operator_ca = throwaway_ca()
        self.bank_ca = throwaway_ca()
        self.policy = PolicyHolder()
        self.domain = DomainProxy(
            reactor,
            self.roads,
            self.policy,
            self.keys(self.bank_ca, "door"),
            DomainConfig(
                address="127.0.0.1",
                port=0,
                origins={"bank.example": parse_url("http://bank.example")},
                map_key=KEY,
            ),
        )
        self.domain.startService()
        self.door = ("door.bank.example", int(self.domain.address.rpartition(":")[2]))
        self.operator = OperatorProxy(
            reactor,
            self.roads,
            self.policy,
            self.keys(self.operator_ca, "proxy"),
            OperatorConfig(
                address="127.0.0.1",
                port=0,
                gateway=GatewayConfig(keys={self.door: KEY}, **gateway),
                suffixes=suffixes,
            ),
        )
        self.operator.startService()
        self.devices: list[Device] = []

    def keys(self, ca: ThrowawayCA, name: str) -> ProxyKeys:
        return ProxyKeys(reactor, str(ca.identity_file(name, self.directory)))

    @property
    def required(self) -> dict[str, str]:
        """What a mirror says."""
        return {"Tunnel-Required": f"{self.door[0]}:{self.door[1]}"}

    def device(self, proxy: OperatorProxy | DomainProxy | None = None) -> Device:
        where = (proxy or self.operator).address.rpartition(":")
        own = self.policy.own("127.0.0.1", 0, "udp")
        device = Device.bound(reactor, own, (where[0], int(where[2])))
        self.devices.append(device)
        return device

    async def asks(self, device: Device, url: str, ca: ThrowawayCA) -> tuple[str, bytes]:
        """Code and body of the answer, in an association of its own."""
        await device.connect(DtlsContext(None, [ca.certificate]))
        response: Response = await device.ask(url)
        return dotted(response.code), response.payload

    async def close(self) -> None:
        for device in self.devices:
            device.close()
        await self.operator.stopService()
        await self.domain.stopService()
        self.roads.udp.stopService()
        await self._site.stopListening()
