"""Connecting directly to hosts with several addresses."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet import error, reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IResolutionReceiver,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from tests.net.deferreds import problem_of
from tunnelkit.errors import Code, DialError, DialTimeout
from tunnelkit.net.dial.happy_eyeballs import HappyEyeballsEndpoint, interleave


def v4(host: str) -> IPv4Address:
    return IPv4Address("TCP", host, 7000)


def v6(host: str) -> IPv6Address:
    return IPv6Address("TCP", host, 7000)


@implementer(IHostnameResolver)
class Resolver:
    """Answers with the addresses given; not before `answer` if there are none yet."""

    def __init__(self, addresses: Sequence[IAddress] | None) -> None:
        self.addresses = addresses
        self.receivers: list[IResolutionReceiver] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        self.receivers.append(resolutionReceiver)
        if self.addresses is not None:
            self.answer(self.addresses)
        return IHostResolution(self, None)  # nobody asks for it

    def answer(self, addresses: Sequence[IAddress]) -> None:
        receiver = self.receivers.pop()
        for address in addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()


def test_families_alternate_and_keep_their_order() -> None:
    addresses = [v6("::1"), v6("::2"), v6("::3"), v4("192.0.2.1"), v4("192.0.2.2")]
    assert [a.host for a in interleave(addresses)] == [
        "::1",
        "192.0.2.1",
        "::2",
        "192.0.2.2",
        "::3",
    ]
    assert interleave([]) == []


class RaceTests(SynchronousTestCase):
    """On a reactor without sockets."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.built: list[Protocol] = []

    def connect(
        self, addresses: Sequence[IAddress] | None, host: str = "relay.example"
    ) -> Deferred[IProtocol]:
        self.resolver = Resolver(addresses)
        self.reactor.nameResolver = self.resolver
        endpoint = HappyEyeballsEndpoint(self.reactor, host, 7000, name=f"{host}:7000", limit=15)
        return endpoint.connect(Factory.forProtocol(self.build))

    def build(self) -> Protocol:
        self.built.append(Protocol())
        return self.built[-1]

    def tried(self) -> list[str]:
        return [attempt[0] for attempt in self.reactor.tcpClients]

    def refuse(self, place: int, reason: Exception) -> None:
        self.reactor.tcpClients[place][2].clientConnectionFailed(None, Failure(reason))

    def succeed(self, place: int) -> None:
        self.reactor.tcpClients[place][2].buildProtocol(None).makeConnection(None)

    def problem(self, connecting: Deferred[IProtocol], kind: type[Exception] = DialError) -> Any:
        return problem_of(connecting, kind)

    def test_the_next_address_is_tried_after_250_ms(self) -> None:
        self.connect([v6("::1"), v4("192.0.2.1"), v6("::2")])
        assert self.tried() == ["::1"]
        self.reactor.advance(0.24)
        assert self.tried() == ["::1"]
        self.reactor.advance(0.02)
        assert self.tried() == ["::1", "192.0.2.1"]
        self.reactor.advance(0.25)
        assert self.tried() == ["::1", "192.0.2.1", "::2"]

    def test_a_refused_address_does_not_cost_the_delay(self) -> None:
        connecting = self.connect([v6("::1"), v4("127.0.0.1")], "localhost")
        self.refuse(0, error.ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        assert self.tried() == ["::1", "127.0.0.1"]
        self.succeed(1)
        assert self.successResultOf(connecting) is self.built[0]

    def test_the_first_connection_ends_the_other_attempts(self) -> None:
        connecting = self.connect([v6("::1"), v4("192.0.2.1"), v6("::2")])
        self.reactor.advance(0.25)
        self.succeed(0)
        assert self.successResultOf(connecting) is self.built[0]
        assert self.reactor.connectors[1].stoppedConnecting
        self.reactor.advance(60)
        assert len(self.tried()) == 2
        assert self.reactor.getDelayedCalls() == []

    def test_an_address_is_not_looked_up(self) -> None:
        self.connect(None, "192.0.2.1")
        assert self.tried() == ["192.0.2.1"]

    def test_an_ipv6_address_is_not_looked_up_either(self) -> None:
        connecting = self.connect(None, "2001:db8::1")
        assert self.tried() == ["2001:db8::1"]
        self.refuse(0, error.ConnectError(string="odd\nreason"))
        assert "\n" not in str(self.problem(connecting))

    def test_an_attempt_that_times_out_by_itself_is_no_answer(self) -> None:
        connecting = self.connect([v4("192.0.2.1")])
        self.refuse(0, error.TimeoutError())
        problem = self.problem(connecting)
        assert str(problem) == "cannot connect to relay.example:7000: no answer (192.0.2.1)"
        assert problem.code is Code.TIMED_OUT

    def test_a_host_without_addresses_does_not_exist(self) -> None:
        problem = self.problem(self.connect([]))
        assert str(problem) == "cannot connect to relay.example:7000: no such host"
        assert problem.code is Code.NO_SUCH_HOST
        assert self.reactor.getDelayedCalls() == []

    def test_one_address_given_as_such_is_named_once(self) -> None:
        connecting = self.connect(None, "192.0.2.1")
        self.refuse(0, error.ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        problem = self.problem(connecting)
        assert str(problem) == "cannot connect to 192.0.2.1:7000: connection refused"
        assert problem.code is Code.REFUSED
        assert problem.hop == "192.0.2.1:7000"

    def test_every_address_that_failed_is_named_with_its_reason(self) -> None:
        connecting = self.connect([v6("::1"), v4("192.0.2.1"), v4("192.0.2.2")])
        self.refuse(0, error.NoRouteError(errno.ENETUNREACH, "unreachable"))
        self.refuse(1, error.ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        self.refuse(2, error.ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        problem = self.problem(connecting)
        assert str(problem) == (
            "cannot connect to relay.example:7000: network is unreachable (::1);"
            " connection refused (192.0.2.1, 192.0.2.2)"
        )
        assert problem.code is Code.REFUSED

    def test_many_addresses_stay_one_short_line(self) -> None:
        connecting = self.connect([v4(f"192.0.2.{number}") for number in range(50)])
        for number in range(50):
            self.refuse(number, error.ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        assert str(self.problem(connecting)).endswith("192.0.2.5 and 44 more)")

    def test_all_attempts_together_have_one_time_limit(self) -> None:
        connecting = self.connect([v6("::1"), v4("192.0.2.1")])
        self.reactor.advance(0.25)
        self.refuse(0, error.NoRouteError(errno.EHOSTUNREACH, "no route"))
        self.reactor.advance(14.8)
        problem = self.problem(connecting, DialTimeout)
        assert str(problem) == (
            "cannot connect to relay.example:7000: no answer within 15 s:"
            " no route to host (::1); no answer (192.0.2.1)"
        )
        assert self.reactor.connectors[1].stoppedConnecting

    def test_a_resolver_that_does_not_answer_is_named(self) -> None:
        connecting = self.connect(None)
        self.reactor.advance(15)
        problem = self.problem(connecting, DialTimeout)
        assert "looking up relay.example took longer than 15 s" in str(problem)
        self.resolver.answer([v4("192.0.2.1")])
        assert self.tried() == []

    def test_cancelling_ends_everything(self) -> None:
        connecting = self.connect([v6("::1"), v4("192.0.2.1")])
        connecting.cancel()
        self.problem(connecting, error.ConnectingCancelledError)
        assert self.reactor.connectors[0].stoppedConnecting
        assert self.reactor.getDelayedCalls() == []

    def test_a_factory_that_declines_is_not_taken_for_a_bad_address(self) -> None:
        connecting = self.connect([v6("::1"), v4("192.0.2.1")])
        self.reactor.tcpClients[0][2]._wrappedFactory = Declines()
        self.reactor.tcpClients[0][2].buildProtocol(None)
        self.problem(connecting, error.NoProtocol)
        assert self.tried() == ["::1"]


class Declines(Factory):
    def buildProtocol(self, addr: IAddress | None) -> None:
        return None


class SocketTests(TestCase):
    """Over real sockets on loopback."""

    timeout = 10

    async def test_localhost_is_reached_where_only_ipv4_listens(self) -> None:
        accepted: Deferred[None] = Deferred()
        gone: Deferred[None] = Deferred()

        class Accepts(Protocol):
            def connectionMade(self) -> None:
                accepted.callback(None)

            def connectionLost(self, reason: object = None) -> None:
                gone.callback(None)

        real: Any = reactor
        port = real.listenTCP(0, Factory.forProtocol(Accepts), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        endpoint = HappyEyeballsEndpoint(
            reactor, "localhost", port.getHost().port, name="localhost"
        )
        protocol: Any = await endpoint.connect(Factory.forProtocol(Protocol))
        await accepted
        protocol.transport.abortConnection()
        await gone

    async def test_a_closed_port_is_refused_in_one_line(self) -> None:
        real: Any = reactor
        port = real.listenTCP(0, Factory(), interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        endpoint = HappyEyeballsEndpoint(reactor, "127.0.0.1", number, name=f"127.0.0.1:{number}")
        with pytest.raises(DialError) as caught:
            await endpoint.connect(Factory.forProtocol(Protocol))
        assert str(caught.value) == f"cannot connect to 127.0.0.1:{number}: connection refused"
