"""What is written from `tunnelkit.interfaces` alone provides the interface, and carries a byte."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from examples.custom_protocol import ExampleMux
from tests.frontends.talk import Talk
from tests.net.channels.ends import FAR, NEAR, EndsCase, reactor
from tunnelkit.core.mux.credit import Budget
from tunnelkit.core.prologue import Export
from tunnelkit.errors import Code, DialError
from tunnelkit.interfaces import (
    IChannelProtocol,
    IEnd,
    IFrontEnd,
    IMeeting,
    IProxyRole,
    IRendezvous,
    IRoleService,
    ITunnel,
)
from tunnelkit.net.channels.contracts import (
    END,
    Connection,
    DatagramSink,
    ExtendedConnection,
    Flow,
    LocalSide,
    Remote,
    TunnelStatus,
)
from tunnelkit.net.role_status import RoleStatus
from tunnelkit.net.sockets.carrier import Carrier
from tunnelkit.net.sockets.socket_carrier import SocketCarrier

# -- a rendezvous by hand, and a protocol ---------------------------------------------------


@implementer(IMeeting)
class OwnMeeting:
    announced = caller = host = ""
    hops = ()
    leftover = b""

    def __init__(self, carrier: Carrier, calls: bool) -> None:
        self.carrier = carrier
        self.tls_client = self.exclusive = calls
        carrier.start(self)
        carrier.pause_reading()

    def prologue(
        self,
        certificate_name: str,
        allowed: frozenset[str],
        same_key: bool,
        export: Export,
        now: float,
    ) -> None:
        return None

    def carrier_received(self, view: memoryview) -> None:
        raise AssertionError("reading is paused")

    def carrier_writable(self) -> None:
        raise AssertionError("nothing is written")

    def carrier_lost(self, reason: str, clean: bool) -> None:
        raise AssertionError(reason)


@implementer(IRendezvous)
class Callee:
    """Waits to be called, by as many as like: one meeting after the other."""

    serves = True

    def __init__(self) -> None:
        self.waiting: Deferred[OwnMeeting] | None = None

    def meet(self, on_waiting: Callable[[str], object] | None = None) -> Deferred[OwnMeeting]:
        self.waiting = Deferred()
        if on_waiting is not None:
            on_waiting("by the telephone")
        return self.waiting


@implementer(IRendezvous)
class Caller:
    """Calls ``callee``, which may be out."""

    serves = False

    def __init__(self, case: EndsCase, callee: Callee) -> None:
        self.case = case
        self.callee = callee

    async def meet(self, on_waiting: Callable[[str], object] | None = None) -> OwnMeeting:
        waiting, self.callee.waiting = self.callee.waiting, None
        if waiting is None:
            raise DialError("nobody answers the telephone")
        pair = socket.socketpair()
        for sock in pair:
            sock.setblocking(False)
        poller = self.case.shared.poller
        waiting.callback(OwnMeeting(SocketCarrier(poller, pair[0]), False))
        return OwnMeeting(SocketCarrier(poller, pair[1]), True)


@implementer(IChannelProtocol)
class OwnProtocol:
    alpn = (b"own/2", b"own/1", b"")

    def __init__(self) -> None:
        self.made: list[bytes] = []
        self.up: list[str] = []
        self.ended: list[str] = []

    def make_mux(self, master: bool, alpn: bytes, now: float) -> ExampleMux:
        self.made.append(alpn)
        return ExampleMux(master, Budget(), now)

    def extend(self, connection: ExtendedConnection, end: IEnd) -> Callable[[], object]:
        assert verifyObject(IEnd, end)
        self.up.append(connection.peer)
        return lambda: self.ended.append(connection.peer)


class OwnEndsTests(EndsCase):
    async def ask(self, tunnel: ITunnel) -> None:
        talk: Any = await tunnel.channel_to("service:echo").connect(Factory.forProtocol(Talk))
        talk.write(b"x")
        assert await talk.received(1) == b"x"
        await talk.close()

    async def test_a_rendezvous_and_a_protocol_of_ones_own_carry_a_byte(self) -> None:
        callee, spoken = Callee(), OwnProtocol()
        assert verifyObject(IRendezvous, callee)
        assert verifyObject(IChannelProtocol, spoken)
        far = self.end(FAR, callee, [spoken])
        assert self.ready == [FAR], "who serves is ready when it waits"
        caller = Caller(self, callee)
        assert verifyObject(IRendezvous, caller)
        near = self.end(NEAR, caller, [OwnProtocol()])
        assert verifyObject(ITunnel, near.tunnel)
        assert verifyObject(IEnd, near)
        await gatherResults([near.tunnel.when_up(), far.tunnel.when_up()])
        assert self.ready == [FAR, NEAR]
        assert near.tunnel.topology == (NEAR, FAR)
        await self.ask(near.tunnel)
        await self.ask(far.tunnel)
        assert (spoken.made, spoken.up, spoken.ended) == ([b"own/2"], [NEAR], [])
        await near.stop(1.0)
        await self.until(lambda: spoken.ended == [NEAR])

    async def test_one_that_serves_meets_one_after_the_other(self) -> None:
        callee = Callee()
        far = self.end(FAR, callee, [OwnProtocol()])
        ends = [self.end(NEAR, Caller(self, callee), [OwnProtocol()]) for _ in range(3)]
        await self.until(lambda: len(far.tunnel.connections) == 3)
        for end in ends:
            await self.ask(end.tunnel)

    async def test_a_meeting_is_verified(self) -> None:
        callee = Callee()
        waiting = callee.meet()
        calling = await Caller(self, callee).meet()
        assert verifyObject(IMeeting, calling)
        (await waiting).carrier.abort()
        calling.carrier.abort()

    async def test_a_tunnel_that_is_down_says_why(self) -> None:
        callee = Callee()
        near = self.end(NEAR, Caller(self, callee), [OwnProtocol()])
        assert near.tunnel.last_error == "nobody answers the telephone"
        assert near.tunnel.status().last_error == "nobody answers the telephone"
        far = self.end(FAR, callee, [OwnProtocol()])
        near.connect()
        await gatherResults([near.tunnel.when_up(), far.tunnel.when_up()])
        assert near.tunnel.last_error == near.tunnel.status().last_error == ""
        far.tunnel.connections[0].end(Code.RESET, "for the test")
        await self.until(lambda: not near.tunnel.status().up)
        assert near.tunnel.last_error.startswith("reset: ")


# -- a tunnel, a front end and a role -------------------------------------------------------


class Mirror:
    """A channel (`ChannelHandle`) whose far side sends back what it gets."""

    def __init__(self, side: LocalSide) -> None:
        self.side = side
        self.bytes_received = 0

    def ready(self) -> None:
        buffer = memoryview(bytearray(100))
        while (size := self.side.pull_into(buffer)) > 0:
            self.bytes_received += self.side.push(buffer[:size])
        if size == END:
            self.side.finish()
            self.side.close()

    def drained(self) -> None:
        raise AssertionError("everything is taken at once")

    def abort(self, code: Code, reason: str) -> None:
        self.side.reset(code, reason)

    def hand_over(self, side: LocalSide) -> None:
        self.side = side
        side.attach(self)

    def open_accepted(self, origin: str, side: LocalSide) -> Deferred[str]:
        raise AssertionError("nobody listens")


@implementer(IStreamClientEndpoint)
class MirrorEndpoint:
    def __init__(self, tunnel: OwnTunnel, destination: str) -> None:
        self.tunnel = tunnel
        self.destination = destination

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        side = ProtocolAsSide(protocolFactory.buildProtocol(None))
        return self.tunnel.open(self.destination, side).addCallback(lambda _: side.protocol)


class ProtocolAsSide:
    """A Twisted protocol, and the least of a transport, as a `LocalSide`."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.written: deque[bytes] = deque()
        self.channel: Any = None

    def attach(self, channel: Any) -> None:
        self.channel = channel
        self.protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.channel.ready()

    def pull_into(self, view: memoryview) -> int:
        if not self.written:
            return 0
        data = self.written.popleft()
        view[: len(data)] = data
        return len(data)

    def push(self, view: memoryview) -> int:
        self.protocol.dataReceived(bytes(view))
        return len(view)

    def finish(self) -> None:
        raise AssertionError("it does not end")

    def close(self) -> None:
        raise AssertionError("it does not end")

    def reset(self, code: Code, reason: str) -> None:
        raise AssertionError(reason)


@implementer(ITunnel)
class OwnTunnel:
    """Leads back to where it begins."""

    name = "own"
    peer = "mirror"
    topology = ("here", "mirror")
    last_error = ""
    connections: Sequence[Connection] = ()

    def to(self, *peers: str) -> OwnTunnel:
        return self

    def channel_to(self, destination: str) -> MirrorEndpoint:
        return MirrorEndpoint(self, destination)

    def accept(self, service: str) -> IStreamServerEndpoint:
        raise NotImplementedError

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        side.attach(Mirror(side))
        return succeed(destination)

    def open_flow(self, destination: str, near: Remote, sink: DatagramSink) -> Flow | None:
        return None

    def watch(self, came: Callable[[Connection], object]) -> None:
        return None

    def unwatch(self, came: Callable[[Connection], object]) -> None:
        return None

    def when_up(self) -> Deferred[ITunnel]:
        return succeed(self)

    def status(self) -> TunnelStatus:
        return TunnelStatus("own", True, ("mirror",), self.topology, 1, 0, 0, 0)


class Between(Protocol):
    """One connection at the own front end."""

    transport: Any
    channel: Any = None

    def __init__(self, tunnel: ITunnel) -> None:
        self.tunnel = tunnel

    def connectionMade(self) -> None:
        there = Factory.forProtocol(lambda: Back(self))
        opening: Deferred[Any] = self.tunnel.channel_to("tcp:there:1").connect(there)
        opening.addCallback(lambda channel: setattr(self, "channel", channel))

    def dataReceived(self, data: bytes) -> None:
        self.channel.transport.write(data)


class Back(Protocol):
    def __init__(self, between: Between) -> None:
        self.between = between

    def dataReceived(self, data: bytes) -> None:
        self.between.transport.write(data)


class OwnPort(Service):
    """The port of the own front end."""

    def __init__(self, clock: Any, tunnel: ITunnel) -> None:
        factory = Factory.forProtocol(lambda: Between(tunnel))
        self.port: Any = clock.listenTCP(0, factory, interface="127.0.0.1")
        self.description = f"own on {self.port.getHost().port}"

    def stopService(self) -> Any:
        return self.port.stopListening()


@implementer(IFrontEnd)
class OwnFrontEnd:
    name = "own"
    options = ()

    def configure(self, settings: Any) -> Sequence[str]:
        return ["there"]

    def needs(self, config: str) -> Sequence[str]:
        return ()

    def make_service(self, reactor: Any, tunnel: ITunnel, policy: Any, config: str) -> IService:
        return OwnPort(reactor, tunnel)


@implementer(IRoleService)
class OwnService(MultiService):
    grace = 30.0

    def __init__(self) -> None:
        MultiService.__init__(self)

    def status(self) -> RoleStatus:
        return RoleStatus(role="own")

    def commands(self) -> Mapping[str, Callable[[], Mapping[str, object]]]:
        return {}

    def reload(self, config: Any) -> Sequence[str]:
        return []


@implementer(IProxyRole)
class OwnRole:
    name = "own"
    description = synopsis = longdesc = "A port that leads back."
    options = ()
    config_class = str

    def configure(self, settings: Any, starting: bool) -> str:
        return ""

    def make_service(self, reactor: Any, config: str) -> IRoleService:
        service = OwnService()
        port = OwnFrontEnd().make_service(reactor, OwnTunnel(), None, "there")
        port.setServiceParent(service)
        return service


class OwnRoleTests(EndsCase):
    async def test_a_role_a_front_end_and_a_tunnel_of_ones_own_carry_a_byte(self) -> None:
        role = OwnRole()
        for interface, made in ((IProxyRole, role), (IFrontEnd, OwnFrontEnd())):
            assert verifyObject(interface, made)
        assert verifyObject(ITunnel, OwnTunnel())
        service: Any = role.make_service(reactor, role.configure(None, True))
        assert verifyObject(IRoleService, service)
        service.startService()
        self.addCleanup(service.stopService)
        assert service.status().as_mapping()["role"] == "own"
        (port,) = service
        place = TCP4ClientEndpoint(reactor, "127.0.0.1", port.port.getHost().port)
        talk: Any = await connectProtocol(place, Talk())
        talk.write(b"x")
        assert await talk.received(1) == b"x"
        await talk.close()
