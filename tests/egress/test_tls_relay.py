"""A relay by server name: limits, addresses, portals that leave (U17, X7, X16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from tests.frontends.talk import BlackHole, Echo, Server, Talk, until
from tunnelkit.egress import tls_relay as usher_relay
from tunnelkit.egress.tls_relay import UsherRelay
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.socket_carrier import Carrier
from tunnelkit.net.sockets.tcp import Listener, bind_tcp
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.wire.primitives import Writer
from tunnelkit.wire.tls_peek import UNRECOGNIZED_NAME

reactor: Any = global_reactor


def hello(name: bytes) -> bytes:
    """A small ClientHello that asks for ``name``."""
    names = Writer().block16(Writer().u8(0).block16(name).done()).done()
    extensions = Writer().u16(0).block16(names).done() if name else b""
    body = Writer().u16(0x0303).put(bytes(32)).block8(b"").block16(b"\x13\x01").block8(b"\0")
    message = body.block16(extensions).done()
    record = b"\x01" + len(message).to_bytes(3, "big") + message
    return b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record


class UsherRelayTests(TestCase):
    timeout = 10

    def inside(self) -> int:
        """An echo server in the place of an inside gate; its port."""
        server = Server(Echo)
        port = reactor.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(lambda: gatherResults([made.closed for made in server.made]))
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def relay(self, **relays: tuple[str, int]) -> None:
        """A relay; connections without a name are noted in ``others`` and ended."""
        shared = Shared.of(reactor)
        policy = PolicyHolder()
        self.others: list[tuple[str, bytes]] = []

        def otherwise(carrier: Carrier, host: str, early: bytes) -> None:
            self.others.append((host, early))
            carrier.close()

        def resolver(host: str) -> Deferred[Sequence[str]]:
            # Nobody listens at the first address.
            return succeed(("127.0.0.2", "127.0.0.1"))

        self.made = UsherRelay(shared, policy, relays, otherwise, resolver)
        self.made.grace = 0.0
        sock = bind_tcp(policy.own("127.0.0.1", 0, "tcp"))
        listener = Listener(shared.poller, sock, self.made.accept)
        self.address = listener.address
        self.addCleanup(self.made.stopService)
        self.addCleanup(listener.close)

    def limit(self, name: str, value: float) -> None:
        """Let one of the module's limits be another one in this test."""
        cast(Any, self).patch(usher_relay, name, value)

    async def connect(self, source: str = "127.0.0.1") -> Talk:
        host, _, port = self.address.rpartition(":")
        endpoint = TCP4ClientEndpoint(reactor, host, int(port), bindAddress=(source, 0))
        return cast(Talk, await connectProtocol(endpoint, Talk()))

    async def test_a_hello_cut_anywhere_arrives_whole_at_the_next_address(self) -> None:
        self.relay(db=("gate.example", self.inside()))
        said = hello(b"db") + b"and what follows"
        for size in (1, 50, len(said)):
            talk = await self.connect()
            for at in range(0, len(said), size):
                talk.write(said[at : at + size])
                pause: Deferred[None] = Deferred()
                reactor.callLater(0, pause.callback, None)
                await pause
            talk.half_close()
            assert await talk.end() == said
            await talk.close()
        assert not self.others

    async def test_who_was_led_to_which_gate_is_in_the_log_when_it_begins_and_ends(self) -> None:
        inside = self.inside()
        self.relay(db=("gate.example", inside))
        said = hello(b"db")
        with capturedLogs() as events:
            talk = await self.connect()
            talk.write(said)
            talk.half_close()
            await talk.end()
            await talk.close()
            await until(lambda: any(event.get("event") == "relay-ended" for event in events))
        began, ended = (event for event in events if "event" in event)
        assert (began["event"], ended["event"]) == ("relayed", "relay-ended")
        for field, value in {"relay": 1, "name": "db", "target": f"127.0.0.1:{inside}"}.items():
            assert began[field] == ended[field] == value
        assert began["address"].startswith("127.0.0.1:")
        assert (ended["sent"], ended["received"]) == (len(said), len(said))

    async def test_no_name_leads_elsewhere_with_what_was_read(self) -> None:
        self.relay(db=("gate.example", 1))
        talk = await self.connect()
        talk.write(hello(b"") + b"more")
        await talk.end()
        await talk.close()
        assert self.others == [("127.0.0.1", hello(b"") + b"more")]

    async def test_an_unknown_name_is_answered_with_an_alert(self) -> None:
        self.relay(db=("gate.example", 1))
        talk = await self.connect()
        talk.write(hello(b"other"))
        assert await talk.end() == UNRECOGNIZED_NAME
        await talk.close()

    async def test_whoever_does_not_say_where_to_in_time_is_dropped(self) -> None:
        self.limit("LIMIT", 0.2)
        self.relay(db=("gate.example", 1))
        talk = await self.connect()
        talk.write(hello(b"db")[:-1])
        await talk.closed
        assert talk.was_reset

    async def test_a_hello_in_crumbs_is_refused_at_its_65th_record(self) -> None:
        self.relay(db=("gate.example", 1))
        talk = await self.connect()
        message = hello(b"a-name-of-some-length")[5:]
        for byte in message[:64]:
            talk.write(b"\x16\x03\x01\0\1" + bytes([byte]))
        assert not talk.was_reset
        talk.write(b"\x16\x03\x01\0\1" + message[64:65])
        await talk.closed
        assert talk.was_reset

    async def test_an_inside_gate_that_does_not_answer_in_time_is_given_up(self) -> None:
        hole = BlackHole()
        self.addCleanup(hole.close)
        self.limit("LIMIT", 0.2)
        self.relay(db=("127.0.0.1", hole.port))
        talk = await self.connect()
        talk.write(hello(b"db"))
        await talk.closed
        assert talk.was_reset

    async def test_only_so_many_are_relayed_at_once(self) -> None:
        self.limit("MAX_RELAYED", 1)
        self.relay(db=("127.0.0.1", self.inside()))
        first, second = await self.connect(), await self.connect()
        first.write(hello(b"db"))
        await first.received(1)
        second.write(hello(b"db"))
        await second.received(1)
        await first.closed
        assert first.was_reset
        await second.close()

    async def test_only_so_many_of_an_address_are_passed_on_at_once(self) -> None:
        self.limit("RELAY_RATE", 0.001)
        self.limit("RELAY_BURST", 2)
        self.relay(db=("127.0.0.1", self.inside()))
        passed = [await self.connect() for _ in range(2)]
        for talk in passed:
            talk.write(hello(b"db"))
            await talk.received(1)
        third, elsewhere = await self.connect(), await self.connect("127.0.0.9")
        third.write(hello(b"db"))
        await third.closed
        assert third.was_reset
        elsewhere.write(hello(b"db"))
        await elsewhere.received(1)
        for talk in (*passed, elsewhere):
            await talk.close()

    async def test_one_that_says_nothing_makes_room(self) -> None:
        self.limit("MAX_NAMELESS", 2)
        self.relay(db=("127.0.0.1", self.inside()))
        silent = [await self.connect() for _ in range(3)]
        await DeferredList([talk.closed for talk in silent], fireOnOneCallback=True)
        left = [talk for talk in silent if not talk.was_reset]
        assert len(left) == 2
        left[0].write(hello(b"db"))
        assert await left[0].received(1)
        for talk in left:
            await talk.close()

    async def test_stopping_ends_everything_after_the_grace_period(self) -> None:
        self.relay(db=("127.0.0.1", self.inside()))
        silent, relayed = await self.connect(), await self.connect()
        relayed.write(hello(b"db"))
        await relayed.received(1)
        stopped = self.made.stopService()
        assert stopped is not None
        await stopped
        await gatherResults([silent.closed, relayed.closed])
        assert silent.was_reset
        assert relayed.was_reset
