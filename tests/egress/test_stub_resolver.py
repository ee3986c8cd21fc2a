"""Names looked up with real sockets: a DNS server on loopback that logs what it is asked."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.names import dns as records
from twisted.trial.unittest import TestCase

from tests.frontends.fake_tunnel import FakeRequest
from tests.frontends.resolver import Resolver, coded, cut, parsed
from tests.frontends.talk import Echo, Server, refused
from tunnelkit.core import resolver_files as parsing
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.names import Names
from tunnelkit.egress.resolver_files import ResolverFiles
from tunnelkit.egress.stub_resolver import StubResolver, in_order
from tunnelkit.errors import Code, DialError
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder, parse_rule

reactor: Any = global_reactor
LOCAL = "127.0.0.1"


def asked(resolver: Resolver) -> list[str]:
    """The names that it has been asked for, each once."""
    queries = (parsed(query).queries[0] for query in resolver.queries)
    return list(dict.fromkeys(query.name.name.decode() for query in queries))


def sockets() -> int:
    """How many this process has open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of the directory
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


def say(query: bytes, over_tcp: bool) -> list[bytes]:
    """``*.example`` is this machine; ``slow.*`` is not answered; nothing else exists."""
    message = parsed(query)
    question = message.queries[0]
    name = question.name.name
    if name.startswith(b"slow"):
        return []
    if not name.endswith(b".example"):
        return [coded(query, records.ENAME)]
    message.answer = 1
    if question.type == records.A:
        payload = records.Record_A(LOCAL, ttl=9)
        message.answers = [records.RRHeader(name, records.A, ttl=9, payload=payload)]
    data: bytes = message.toStr()
    return [data]


class Case(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.policy = PolicyHolder()
        self.server = Resolver(reactor, say)
        self.addCleanup(self.server.close)
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.write("hosts", f"{LOCAL} known\n")
        self.write("resolv.conf", f"nameserver {LOCAL}\nsearch corp.example\n")
        patch: Any = self.patch
        patch(parsing, "PORT", self.server.port)
        self.resolver = StubResolver(
            reactor,
            Poller.of(reactor),
            self.policy,
            ResolverFiles(str(self.directory / "resolv.conf"), str(self.directory / "hosts")),
        )

    def write(self, name: str, text: str) -> None:
        new = self.directory / "new"
        new.write_text(text, encoding="utf-8")
        os.replace(new, self.directory / name)

    async def error(self, host: str) -> DialError:
        with pytest.raises(DialError) as caught:
            await self.resolver(host)
        return caught.value


class StubResolverTests(Case):
    async def test_names_are_looked_up_in_hosts_and_in_dns(self) -> None:
        assert await self.resolver("known") == [LOCAL]
        assert self.server.queries == []
        assert await self.resolver("a.example") == [LOCAL]
        assert await self.resolver("web") == [LOCAL]
        assert asked(self.server) == ["a.example", "web.corp.example"]
        assert (await self.error("a.test.")).code is Code.NO_SUCH_HOST

    async def test_each_question_has_a_port_and_an_id_of_its_own(self) -> None:
        await gatherResults([self.resolver(f"a{number}.example") for number in range(20)])
        assert len(self.server.queries) == 40
        assert len({port for _, port in self.server.senders}) == 40
        assert len({query[:2] for query in self.server.queries}) > 30

    async def test_a_lost_datagram_is_sent_again(self) -> None:
        self.write("resolv.conf", f"nameserver {LOCAL}\noptions timeout:1\n")
        seen: set[bytes] = set()

        def lossy(query: bytes, over_tcp: bool) -> list[bytes]:
            if query[2:] in seen:
                return say(query, over_tcp)
            seen.add(query[2:])
            return []

        self.server.say = lossy
        assert await self.resolver("a.example") == [LOCAL]
        assert len(set(self.server.senders)) == 4

    async def test_a_truncated_answer_comes_over_tcp(self) -> None:
        ways: list[bool] = []

        def too_long(query: bytes, over_tcp: bool) -> list[bytes]:
            ways.append(over_tcp)
            return [answer if over_tcp else cut(answer) for answer in say(query, over_tcp)]

        self.server.say = too_long
        assert await self.resolver("a.example") == [LOCAL]
        assert sorted(ways) == [False, False, True, True]

    async def test_the_files_are_read_again_when_they_change(self) -> None:
        assert (await self.error("later.")).code is Code.NO_SUCH_HOST
        self.write("hosts", "192.0.2.7 later\n")
        assert await self.resolver("later.") == ["192.0.2.7"]
        self.write("resolv.conf", f"nameserver {LOCAL}\nsearch other.example\n")
        assert await self.resolver("web") == [LOCAL]
        assert asked(self.server)[-1] == "web.other.example"
        (self.directory / "hosts").unlink()
        assert (await self.error("later.test.")).code is Code.NO_SUCH_HOST

    async def test_a_resolver_that_is_this_process_is_not_asked(self) -> None:
        self.policy.listeners.add("udp", LOCAL, self.server.port)
        assert (await self.error("a.example")).code is Code.UNREACHABLE
        assert self.server.queries == []

    async def test_rotate_begins_with_another_each_time(self) -> None:
        second = Resolver(reactor, say, host="127.0.0.2", port=self.server.port)
        self.addCleanup(second.close)
        self.write("resolv.conf", f"nameserver {LOCAL}\nnameserver 127.0.0.2\noptions rotate\n")
        for number in range(4):
            await self.resolver(f"a{number}.example")
        assert asked(self.server) == ["a0.example", "a2.example"]
        assert asked(second) == ["a1.example", "a3.example"]

    async def test_what_is_given_up_leaves_no_socket(self) -> None:
        before = sockets()
        looking_up = self.resolver("slow.example")
        assert sockets() == before + 2
        looking_up.addErrback(lambda failure: None)
        looking_up.cancel()
        assert sockets() == before


class SlowNamesTests(Case):
    """Finding D-4."""

    async def test_64_slow_names_of_one_peer_leave_anothers_dials_alone(self) -> None:
        server = Server(Echo)
        listening = reactor.listenTCP(0, server, interface=LOCAL)
        self.addCleanup(lambda: gatherResults([made.closed for made in server.made]))
        self.addCleanup(listening.stopListening)
        port = listening.getHost().port
        self.policy.replace(
            [parse_rule("tcp:*.slow.example:80"), parse_rule(f"tcp:*.example:*@{LOCAL}")]
        )
        egress = Egress(reactor, Poller.of(reactor), self.policy, Names(self.resolver))
        slow = [FakeRequest(f"tcp:slow{number}.example:80", peer="hostile") for number in range(64)]
        for request in slow:
            egress(request)
        began = reactor.seconds()
        honest = [
            FakeRequest(f"tcp:a{number}.example:{port}", peer="honest") for number in range(9)
        ]
        for request in honest:
            egress(request)
        await gatherResults([request.answer for request in honest])
        assert reactor.seconds() - began < 1.0
        for request in honest:
            assert request.side is not None
            request.side.close()
        assert len([name for name in asked(self.server) if name.startswith("slow")]) == 8
        egress.close()
        for request in slow:
            assert (await refused(request.answer)).code is Code.SHUTDOWN

    async def test_nothing_is_asked_for_a_peer_without_a_rule(self) -> None:
        self.policy.replace([parse_rule("tcp:127.0.0.1:9000"), parse_rule("udp:10.0.0.0/8:53")])
        egress = Egress(reactor, Poller.of(reactor), self.policy, Names(self.resolver))
        for destination in ("tcp:secret.example:80", "tcp:is-not-there:80", "tcp:known:22"):
            request = FakeRequest(destination)
            egress(request)
            assert (await refused(request.answer)).code is Code.NOT_ALLOWED
        await deferLater(reactor, 0, lambda: None)
        assert self.server.queries == []


def test_addresses_without_a_way_come_last_and_private_ipv6_after_ipv4() -> None:
    addresses = ["fd00::1", "192.0.2.1", "2001:db8::1", "2001:db8::2"]
    assert in_order(addresses, lambda address: address != "2001:db8::1") == [
        "2001:db8::2",
        "192.0.2.1",
        "fd00::1",
        "2001:db8::1",
    ]
