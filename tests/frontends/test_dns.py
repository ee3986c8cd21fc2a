"""The DNS front end and its far side: what a client asks here is answered there."""

from __future__ import annotations

import socket
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import Clock
from twisted.names import dns as names
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.frontends.fake_tunnel import FakeRequest, FakeTunnel
from tests.frontends.installed import configured, front_end
from tests.frontends.resolver import (
    Resolver,
    Say,
    UdpFlows,
    address,
    coded,
    cut,
    first_address,
    parsed,
    question,
)
from tests.frontends.talk import Talk, is_reset, refused
from tunnelkit.egress import dns as dns_egress
from tunnelkit.egress import dns_lookup
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.dns import DnsEgress
from tunnelkit.egress.dns_lookup import Servers
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.egress.resolver_files import ResolverFiles, parse_server
from tunnelkit.errors import ChannelRefused, Code, ConfigError
from tunnelkit.frontends.dns import link as dns_link
from tunnelkit.frontends.dns.questions import TRIES
from tunnelkit.frontends.dns.server import Dns, DnsConfig
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.net.channels.protocol_side import ChannelTransport
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder, parse_network, parse_rule

reactor: Any = global_reactor


def say_address(query: bytes, over_tcp: bool) -> list[bytes]:
    return [address(query)]


def say_nothing(query: bytes, over_tcp: bool) -> list[bytes]:
    return []


def long_over_tcp(query: bytes, over_tcp: bool) -> list[bytes]:
    whole = address(query, copies=50)
    return [whole] if over_tcp else [cut(address(query))]


class Case(TestCase):
    timeout = 10

    def setUp(self) -> None:
        self.suffixes: tuple[str, ...] = ()
        self.near_servers: tuple[tuple[str, int], ...] = ()
        self.near = PolicyHolder()
        self.far = PolicyHolder()
        self.far.replace([parse_rule("service:@dns")])
        self.egress = Egress(reactor, Poller.of(reactor), self.far)
        self.tunnel = FakeTunnel(self.egress)

    def resolver(self, say: Say = say_address) -> Resolver:
        made = Resolver(reactor, say)
        self.addCleanup(made.close)
        return made

    def front(self, *resolvers: Resolver, tunnel: Any = None) -> tuple[str, int]:
        """A DNS port whose far side asks ``resolvers``."""
        self.dns_egress = DnsEgress(self.egress, [resolver.server for resolver in resolvers])
        config = DnsConfig("127.0.0.1", 0, self.suffixes, self.near_servers)
        made = Dns(reactor, tunnel or self.tunnel, self.near, config)
        cast(Any, made).startService()
        self.addCleanup(made.stopService)
        host, _, port = made.description.removeprefix("dns ").rpartition(":")
        return host, int(port)

    def client(self) -> UdpFlows:
        made = UdpFlows(reactor)
        self.addCleanup(made.port.stopListening)
        return made


class SplitTests(Case):
    """``suffix=`` (row F4): names inside go through the tunnel, the others never do."""

    async def test_names_outside_are_answered_by_this_machines_resolver(self) -> None:
        far = self.resolver(lambda query, over_tcp: [address(query, "192.0.2.1")])
        near = self.resolver(lambda query, over_tcp: [address(query, "192.0.2.2")])
        self.suffixes = ("corp.example", "other.test")
        self.near_servers = (near.server,)
        front, client = self.front(far), self.client()
        for name, expected in {
            "corp.example": "192.0.2.1",
            "WWW.Corp.Example": "192.0.2.1",
            "a.b.other.test": "192.0.2.1",
            "acorp.example": "192.0.2.2",
            "example": "192.0.2.2",
            "corp.example.org": "192.0.2.2",
        }.items():
            assert first_address(await client.ask(question(name), front)) == expected, name
        assert (len(far.queries), len(near.queries)) == (3, 3)

    async def test_they_are_answered_while_the_far_side_does_not(self) -> None:
        near = self.resolver()
        self.far.replace([])
        self.suffixes, self.near_servers = ("corp.example",), (near.server,)
        front, client = self.front(self.resolver()), self.client()
        assert first_address(await client.ask(question("www.example"), front)) == "192.0.2.1"
        answer = parsed(await client.ask(question("www.corp.example"), front))
        assert answer.rCode == names.ESERVER

    async def test_it_does_not_ask_itself(self) -> None:
        self.suffixes = ("corp.example",)
        front = self.front(self.resolver())
        self.near_servers = (front,)
        front = self.front(self.resolver())
        answer = parsed(await self.client().ask(question("www.example"), front))
        assert answer.rCode == names.ESERVER


class UdpTests(Case):
    async def test_a_client_that_asks_again_has_its_question_asked_again(self) -> None:
        """Finding U-2: its patience says that the first try is lost."""
        resolver = self.resolver(say_nothing)
        front, client = self.front(resolver), self.client()
        query = question(number=7)
        first = client.ask(query, front)
        while not resolver.queries:
            await _turn()
        resolver.say = say_address
        second = client.ask(query, front)
        assert [parsed(await answer).id for answer in (first, second)] == [7, 7]
        assert len(resolver.queries) == 2
        assert len(set(resolver.senders)) == 2

    async def test_a_question_is_not_asked_again_more_than_a_few_times(self) -> None:
        resolver = self.resolver(say_nothing)
        front, client = self.front(resolver), self.client()
        answers = [client.ask(question(number=7), front) for _ in range(20)]
        while len(resolver.queries) < TRIES:
            await _turn()
        resolver.say = say_address
        await self.client().ask(question("other.example"), front)
        assert len(resolver.queries) == TRIES + 1
        resolver.transport.write(address(resolver.queries[0]), resolver.senders[0])
        assert {parsed(await answer).id for answer in answers} == {7}

    async def test_a_question_is_answered_by_the_far_sides_resolver(self) -> None:
        resolver = self.resolver()
        answer = parsed(await self.client().ask(question(number=77), self.front(resolver)))
        assert answer.id == 77
        assert first_address(answer) == "192.0.2.1"
        assert self.tunnel.opened == ["service:@dns"]

    async def test_one_channel_serves_all_questions(self) -> None:
        front, client = self.front(self.resolver()), self.client()
        for number in range(5):
            answer = parsed(await client.ask(question(f"host{number}.example"), front))
            assert answer.queries[0].name.name == f"host{number}.example".encode()
        assert self.tunnel.opened == ["service:@dns"]

    async def test_an_answer_is_told_again_while_it_lives_spelled_as_asked(self) -> None:
        resolver = self.resolver()
        front, client = self.front(resolver), self.client()
        await client.ask(question(number=1), front)
        again = parsed(await client.ask(question("WWW.example", number=2), front))
        assert (again.id, again.queries[0].name.name) == (2, b"WWW.example")
        assert len(resolver.queries) == 1

    async def test_the_cache_does_not_outlive_the_peer(self) -> None:
        resolver = self.resolver()
        front, client = self.front(resolver), self.client()
        await client.ask(question(), front)
        self.tunnel.peer = "another"
        await client.ask(question(), front)
        assert len(resolver.queries) == 2

    async def test_the_same_question_under_way_is_asked_once(self) -> None:
        resolver = self.resolver(say_nothing)
        front, client = self.front(resolver), self.client()
        first = client.ask(question(number=1), front)
        second = client.ask(question(number=2), front)
        while not resolver.queries:
            await _turn()
        # This one comes behind the two: by its answer both have been read.
        resolver.say = say_address
        await self.client().ask(question("other.example"), front)
        assert len(resolver.queries) == 2
        resolver.transport.write(address(resolver.queries[0]), resolver.senders[0])
        assert {parsed(await first).id, parsed(await second).id} == {1, 2}

    async def test_records_that_nobody_knows_pass_untouched(self) -> None:
        def odd(query: bytes, over_tcp: bool) -> list[bytes]:
            head = query[:2] + b"\x81\x80" + query[4:6] + b"\0\1\0\0\0\0"
            return [head + query[12:] + b"\xc0\x0c\xff\x01\0\1\0\0\0\x63\0\x05\xff\0\xc0\xff\xff"]

        front, client = self.front(self.resolver(odd)), self.client()
        query = question(kind=65281)
        for _ in range(2):
            answer = await client.ask(query, front)
            assert answer.endswith(b"\xff\x01\0\1\0\0\0\x63\0\x05\xff\0\xc0\xff\xff")

    async def test_an_answer_that_is_too_long_for_udp_is_cut(self) -> None:
        resolver = self.resolver(long_over_tcp)
        front, client = self.front(resolver), self.client()
        answer = parsed(await client.ask(question(), front))
        assert (answer.trunc, answer.answers) == (1, [])
        large = question()[:11] + b"\1" + question()[12:] + b"\0\0\x29\x10\0" + bytes(6)
        whole = parsed(await client.ask(large, front))
        assert (whole.trunc, len(whole.answers)) == (0, 50)

    async def test_a_message_that_is_not_an_ordinary_question_passes_as_it_is(self) -> None:
        seen: list[bytes] = []

        def note(query: bytes, over_tcp: bool) -> list[bytes]:
            seen.append(query)
            return [query[:2] + bytes([query[2] | 0x80]) + query[3:]]

        notify = question()[:2] + b"\x20\0" + question()[4:]
        answer = await self.client().ask(notify, self.front(self.resolver(note)))
        assert answer[2:] == b"\xa0\0" + notify[4:]
        assert seen[0][2:] == notify[2:]

    async def test_a_whole_zone_is_not_handed_out(self) -> None:
        resolver = self.resolver()
        answer = await self.client().ask(question(kind=names.AXFR), self.front(resolver))
        assert parsed(answer).rCode == names.EREFUSED
        assert resolver.queries == []

    async def test_rubbish_and_answers_get_no_answer(self) -> None:
        resolver = self.resolver()
        front, client = self.front(resolver), self.client()
        client.transport.write(b"rubbish", front)
        client.transport.write(address(question(number=3)), front)
        assert parsed(await client.ask(question(number=4), front)).id == 4

    async def test_only_those_who_may_enter_are_answered(self) -> None:
        resolver = self.resolver()
        front, client = self.front(resolver), self.client()
        self.near.replace([], [parse_network("192.0.2.0/24")])
        client.transport.write(question(number=1), front)
        assert await is_reset(TCP4ClientEndpoint(reactor, *front))
        self.near.replace([])
        assert parsed(await client.ask(question(number=2), front)).id == 2
        assert len(resolver.queries) == 1


class TcpTests(Case):
    async def connect(self, front: tuple[str, int]) -> Talk:
        talk = cast(Talk, await connectProtocol(TCP4ClientEndpoint(reactor, *front), Talk()))
        self.addCleanup(talk.close)
        return talk

    async def test_many_questions_on_one_connection_and_an_end_behind_them(self) -> None:
        talk = await self.connect(self.front(self.resolver(long_over_tcp)))
        for number in range(100):
            query = question(f"host{number}.example", number=number)
            talk.write(struct.pack(">H", len(query)) + query)
        talk.half_close()
        data = await talk.end()
        found: Counter[int] = Counter()
        while data:
            size = struct.unpack_from(">H", data)[0]
            answer = parsed(data[2 : 2 + size])
            assert answer.queries[0].name.name == f"host{answer.id}.example".encode()
            assert len(answer.answers) == 50
            found[answer.id] += 1
            data = data[2 + size :]
        assert found == Counter(range(100))

    async def test_who_sends_rubbish_is_sent_away(self) -> None:
        talk = await self.connect(self.front(self.resolver()))
        talk.write(b"\0\1x")
        assert await talk.end() == b""

    async def test_a_client_that_has_gone_is_forgotten(self) -> None:
        resolver = self.resolver(say_nothing)
        front = self.front(resolver)
        talk = await self.connect(front)
        query = question()
        talk.write(struct.pack(">H", len(query)) + query)
        while not resolver.queries:
            await _turn()
        cast(Any, talk.transport).abortConnection()
        await talk.closed
        resolver.transport.write(address(resolver.queries[0]), resolver.senders[0])
        assert parsed(await self.client().ask(question(number=9), front)).id == 9


def _patch(case: TestCase, module: Any, name: str, value: object) -> None:
    cast(Any, case).patch(module, name, value)


def _turn() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    reactor.callLater(0.01, done.callback, None)
    return done


class FarSideTests(Case):
    """What the far side does when resolvers misbehave."""

    async def answer(self, *resolvers: Resolver) -> names.Message:
        return parsed(await self.client().ask(question(), self.front(*resolvers)))

    async def test_ids_and_ports_cannot_be_foreseen(self) -> None:
        resolver = self.resolver()
        front, client = self.front(resolver), self.client()
        for number in range(8):
            await client.ask(question(f"host{number}.example"), front)
        assert len({query[:2] for query in resolver.queries}) > 6
        assert len({port for _, port in resolver.senders}) > 1

    async def test_an_answer_to_another_question_is_not_taken(self) -> None:
        def forged(query: bytes, over_tcp: bool) -> list[bytes]:
            wrong_id = bytes([query[0] ^ 1]) + query[1:]
            wrong_name = query.replace(b"example", b"exemple")
            return [
                address(wrong_id, "203.0.113.6"),
                address(wrong_name, "203.0.113.6"),
                b"",
                address(query),
            ]

        answer = await self.answer(self.resolver(forged))
        assert first_address(answer) == "192.0.2.1"

    async def test_an_answer_from_somebody_else_is_not_taken(self) -> None:
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(stranger.close)
        resolver = self.resolver(say_nothing)

        def overtaken(query: bytes, over_tcp: bool) -> list[bytes]:
            stranger.sendto(address(query, "203.0.113.6"), resolver.senders[-1])
            return [address(query)]

        resolver.say = overtaken
        answer = await self.answer(resolver)
        assert first_address(answer) == "192.0.2.1"

    async def test_the_next_resolver_is_asked_when_one_fails(self) -> None:
        failing = self.resolver(lambda query, over_tcp: [coded(query, names.ESERVER)])
        answer = await self.answer(failing, self.resolver())
        assert answer.rCode == names.OK

    async def test_the_next_resolver_is_asked_when_nobody_is_there(self) -> None:
        gone = Resolver(reactor, say_address)
        await gone.close()
        answer = await self.answer(gone, self.resolver())
        assert answer.rCode == names.OK

    async def test_the_next_resolver_is_asked_when_one_is_silent(self) -> None:
        _patch(self, dns_lookup, "PATIENCE", 0.05)
        answer = await self.answer(self.resolver(say_nothing), self.resolver())
        assert answer.rCode == names.OK

    async def test_a_silent_resolver_ends_in_servfail(self) -> None:
        _patch(self, dns_lookup, "LIMIT", 0.1)
        answer = await self.answer(self.resolver(say_nothing))
        assert answer.rCode == names.ESERVER
        assert not self.dns_egress.lookups

    async def test_what_the_only_resolver_says_is_passed_on_even_a_failure(self) -> None:
        answer = await self.answer(
            self.resolver(lambda query, over_tcp: [coded(query, names.EREFUSED)])
        )
        assert answer.rCode == names.EREFUSED

    async def test_a_cut_answer_without_tcp_is_better_than_none(self) -> None:
        def only_cut(query: bytes, over_tcp: bool) -> list[bytes]:
            return [b"\0" * 12] if over_tcp else [cut(address(query))]

        _patch(self, dns_lookup, "LIMIT", 0.3)
        answer = await self.answer(self.resolver(only_cut))
        assert answer.trunc

    async def test_this_process_is_never_asked_itself(self) -> None:
        front = self.front(self.resolver())
        self.far.listeners.add("udp", *front)
        self.dns_egress = DnsEgress(self.egress, [front])
        answer = parsed(await self.client().ask(question(), front))
        assert answer.rCode == names.ESERVER

    async def test_without_a_rule_the_channel_is_refused(self) -> None:
        self.far.replace([parse_rule("service:other")])
        answer = await self.answer(self.resolver())
        assert answer.rCode == names.ESERVER
        request = FakeRequest("service:@dns")
        self.egress(request)
        assert (await refused(request.answer)).code is Code.NOT_ALLOWED

    async def test_a_rule_that_is_withdrawn_ends_answers_on_an_open_channel(self) -> None:
        front, client = self.front(self.resolver()), self.client()
        assert parsed(await client.ask(question("a.example"), front)).rCode == names.OK
        self.far.replace([])
        assert parsed(await client.ask(question("b.example"), front)).rCode == names.EREFUSED

    async def test_channels_of_one_peer_are_counted(self) -> None:
        DnsEgress(self.egress, [self.resolver().server])
        sides: list[ChannelTransport] = []
        for _ in range(dns_egress.CHANNELS_PER_PEER):
            request = FakeRequest("service:@dns")
            self.egress(request)
            await request.answer
            sides.append(cast(ChannelTransport, request.side))
        request = FakeRequest("service:@dns")
        self.egress(request)
        assert (await refused(request.answer)).code is Code.LIMIT
        sides[0].close()
        request = FakeRequest("service:@dns")
        self.egress(request)
        await request.answer


class Scripted:
    """A tunnel whose far side refuses, or loses, channels as told."""

    peer = "gate"

    def __init__(self, real: FakeTunnel) -> None:
        self._real = real
        self.refuse = False
        self.opened = 0
        self.last: Any = None

    def channel_to(self, destination: str) -> Any:
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        self.opened += 1
        if self.refuse:
            failed: Deferred[Any] = Deferred()
            failed.errback(ChannelRefused(Code.UNREACHABLE, "the tunnel is down"))
            return failed
        opening = self._real.channel_to("service:@dns").connect(factory)
        opening.addCallback(self._keep)
        return cast(Deferred[Any], opening)

    def _keep(self, protocol: Any) -> Any:
        self.last = protocol
        return protocol


class LinkTests(Case):
    """The channel to the far side comes and goes."""

    def setUp(self) -> None:
        super().setUp()
        self.scripted = Scripted(self.tunnel)

    async def test_a_refused_channel_is_servfail_and_is_tried_again(self) -> None:
        front, client = self.front(self.resolver(), tunnel=self.scripted), self.client()
        self.scripted.refuse = True
        assert parsed(await client.ask(question(), front)).rCode == names.ESERVER
        self.scripted.refuse = False
        assert parsed(await client.ask(question(), front)).rCode == names.OK

    async def test_what_was_asked_when_the_channel_was_lost_is_asked_again(self) -> None:
        resolver = self.resolver(say_nothing)
        front, client = self.front(resolver, tunnel=self.scripted), self.client()
        asked = client.ask(question(), front)
        while not resolver.queries:
            await _turn()
        resolver.say = say_address
        self.scripted.last.transport.abortConnection()
        assert parsed(await asked).rCode == names.OK
        assert self.scripted.opened == 2

    async def test_a_channel_that_is_lost_again_and_again_is_servfail(self) -> None:
        resolver = self.resolver(say_nothing)
        front, client = self.front(resolver, tunnel=self.scripted), self.client()
        asked = client.ask(question(), front)
        for number in (1, 2):
            while len(resolver.queries) < number:
                await _turn()
            self.scripted.last.transport.abortConnection()
        assert parsed(await asked).rCode == names.ESERVER
        assert self.scripted.opened == 2

    async def test_a_far_side_that_sends_rubbish_loses_the_channel(self) -> None:
        def rubbish(request: EgressRequest) -> None:
            sides.append(request)
            side = _Rubbish()
            request.attach(side, "")

        sides: list[EgressRequest] = []
        tunnel = FakeTunnel(rubbish)
        front = self.front(self.resolver(), tunnel=tunnel)
        answer = parsed(await self.client().ask(question(), front))
        assert answer.rCode == names.ESERVER
        assert len(sides) == 2

    async def test_a_question_that_takes_too_long_is_servfail(self) -> None:
        _patch(self, dns_link, "LIMIT", 0.05)
        front = self.front(self.resolver(say_nothing), tunnel=self.scripted)
        assert parsed(await self.client().ask(question(), front)).rCode == names.ESERVER

    def test_too_many_questions_at_once_fail(self) -> None:
        link = dns_link.DnsLink(Clock(), cast(Any, _Never()))
        failed: list[bytes | None] = []
        for _ in range(dns_link.MAX_QUESTIONS):
            link.ask(question(), failed.append)
        assert failed == []
        link.ask(question(), failed.append)
        assert failed == [None]
        link.close()
        assert len(failed) == dns_link.MAX_QUESTIONS + 1


class _Never:
    """A tunnel that does not come up."""

    def channel_to(self, destination: str) -> Any:
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred()


class _Rubbish:
    """The far side's application: answers at once with less than a message."""

    def attach(self, channel: Any) -> None:
        self._sent = False
        channel.ready()

    def pull_into(self, view: memoryview) -> int:
        if self._sent:
            return 0
        self._sent = True
        view[:3] = b"\0\1x"
        return 3

    def push(self, view: memoryview) -> int:
        return len(view)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass

    def reset(self, code: Code, reason: str) -> None:
        pass


def test_the_resolvers_of_this_machine_are_read_again_when_they_change() -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "resolv.conf")
        servers = Servers(PolicyHolder(), (), ResolverFiles(str(file)))
        assert list(servers()) == [("127.0.0.1", 53)]
        file.write_text("# nameserver 1.1.1.1\nsearch a\nnameserver 192.0.2.1\nnameserver x\n")
        assert list(servers()) == [("192.0.2.1", 53)]
        other = Path(directory, "new")
        other.write_text("".join(f"nameserver 2001:db8::{number}\n" for number in range(1, 6)))
        other.rename(file)
        assert list(servers()) == [(f"2001:db8::{number}", 53) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_resolvers_on_the_command_line(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize("text", ["", "ns.example", "ns.example:53", "192.0.2.1:0", "[::1]"])
def test_what_is_no_resolver(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_server(text)


def test_the_option() -> None:
    assert verifyObject(IFrontEnd, front_end("dns"))
    assert configured("dns", "5353") == DnsConfig("127.0.0.1", 5353)
    assert configured("dns", "5353,suffix=Corp.Example.,suffix=.b.test") == DnsConfig(
        "127.0.0.1", 5353, ("corp.example", "b.test")
    )
    for wrong in ("name:53", "53,suffix", "53,prefix=a", "53,suffix=", "53,suffix=10.0.0.1"):
        with pytest.raises(ConfigError, match="expected"):
            configured("dns", wrong)


def test_a_port_that_is_taken_for_udp_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        # A number that nobody has over TCP: only UDP is to be what is wrong.
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
            taken.bind(("127.0.0.1", port))
        with pytest.raises(ConfigError, match=f"UDP 127.0.0.1:{port}"):
            Dns(reactor, FakeTunnel(lambda _: None), PolicyHolder(), DnsConfig("127.0.0.1", port))
