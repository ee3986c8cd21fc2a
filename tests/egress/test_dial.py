"""The far side's answers: what is connected to, what is not, and which code says so."""

from __future__ import annotations

import os
import re
import resource
import socket
import tempfile
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from tests.acceptance.processes import free_port
from tests.frontends.fake_tunnel import FakeRequest, FakeTunnel
from tests.frontends.talk import BlackHole, Echo, Server, refused, until
from tests.policy.test_acl import SPELLINGS, WIDE
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.names import STUB, Names, Places
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.errors import ChannelRefused, Code, DialError
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder, parse_rule
from tunnelkit.policy.destination import Destination
from tunnelkit.policy.mapping import Maps, parse_map

reactor: Any = global_reactor


class FakeResolver:
    """Answers each question with the next of ``answers``, and counts them."""

    def __init__(self, *answers: Sequence[str] | DialError) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str) -> Deferred[Sequence[str]]:
        self.asked.append(host)
        result: Deferred[Sequence[str]] = Deferred()
        answer = self.answers.pop(0)
        if isinstance(answer, DialError):
            result.errback(answer)
        else:
            result.callback(answer)
        return result


class SilentResolver:
    """Never answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, host: str) -> Deferred[Sequence[str]]:
        self.asked.append(host)
        return Deferred()


class EgressTests(TestCase):
    timeout = 10

    def setUp(self) -> None:
        self.clock = Clock()
        self.poller = Poller.of(reactor)
        self.holder = PolicyHolder()

    def allow(self, *rules: str) -> None:
        self.holder.replace(map(parse_rule, rules))

    def egress(self, resolver: Any = None, places: Places = STUB, **more: Any) -> Egress:
        names = Names(resolver or FakeResolver(), places)
        made = Egress(self.clock, self.poller, self.holder, names, **more)
        self.addCleanup(made.close)
        return made

    def server(
        self, protocol: Any = Echo, host: str = "127.0.0.1", port: int = 0
    ) -> tuple[Server, int]:
        server = Server(protocol)
        listening = reactor.listenTCP(port, server, interface=host)
        self.addCleanup(lambda: gatherResults([made.closed for made in server.made]))
        self.addCleanup(listening.stopListening)
        return server, listening.getHost().port

    async def refusal(self, egress: Egress, destination: str) -> ChannelRefused:
        request = FakeRequest(destination)
        egress(request)
        return await refused(request.answer)

    async def code(self, egress: Egress, destination: str) -> Code:
        return (await self.refusal(egress, destination)).code

    def attached(self, request: FakeRequest) -> None:
        assert request.side is not None
        request.side.close()

    async def test_a_literal_address_is_connected_without_a_resolver(self) -> None:
        _, port = self.server()
        self.allow(f"tcp:127.0.0.1:{port}")
        resolver = FakeResolver()
        request = FakeRequest(f"tcp:127.0.0.1:{port}")
        self.egress(resolver)(request)
        bound = await request.answer
        assert re.search(r"^tcp:127\.0\.0\.1:[0-9]+$", bound)
        assert bound != f"tcp:127.0.0.1:{port}"
        assert resolver.asked == []
        self.attached(request)

    async def test_a_name_is_resolved_once_and_the_checked_address_is_used(self) -> None:
        """A resolver that changes its answer gets no second question."""
        canary, canary_port = self.server()
        self.allow("tcp:rebind.example:*@127.0.0.2")
        self.server(host="127.0.0.2", port=canary_port)
        resolver = FakeResolver(["127.0.0.2"], ["127.0.0.1"])
        request = FakeRequest(f"tcp:rebind.example:{canary_port}")
        self.egress(resolver)(request)
        await request.answer
        assert resolver.asked == ["rebind.example"]
        assert canary.made == []
        self.attached(request)

    async def test_a_name_that_leads_to_loopback_is_not_allowed(self) -> None:
        canary, port = self.server()
        self.allow("tcp:*.example:*", "tcp:*:*")
        egress = self.egress(FakeResolver(["127.0.0.1"], ["::ffff:127.0.0.1", "::1"]))
        assert await self.code(egress, f"tcp:a.example:{port}") == Code.NOT_ALLOWED
        assert await self.code(egress, f"tcp:a.example:{port}") == Code.NOT_ALLOWED
        assert canary.made == []

    async def test_no_spelling_of_a_special_address_reaches_anything(self) -> None:
        canary, port = self.server()
        self.allow(*WIDE)
        egress = self.egress(FakeResolver(*([spelling] for spelling in SPELLINGS)))
        for spelling in SPELLINGS:
            host = f"[{spelling}]" if ":" in spelling else spelling
            code = await self.code(egress, f"tcp:{host}:{port}")
            assert code in (Code.NOT_ALLOWED, Code.PROTOCOL), spelling
            code = await self.code(egress, f"tcp:name.example:{port}")
            assert code == Code.NOT_ALLOWED, spelling
        assert canary.made == []

    async def test_only_the_allowed_ones_of_several_addresses_are_connected_to(self) -> None:
        canary, port = self.server()
        self.server(host="127.0.0.2", port=port)
        self.allow("tcp:127.0.0.2:*")
        request = FakeRequest(f"tcp:a.example:{port}")
        self.egress(FakeResolver(["127.0.0.1", "127.0.0.2"]))(request)
        await request.answer
        assert canary.made == []
        self.attached(request)

    async def test_the_next_address_is_tried_at_once_after_a_refusal(self) -> None:
        _, port = self.server(host="127.0.0.2")
        self.allow("tcp:127.0.0.0/8:*")
        request = FakeRequest(f"tcp:a.example:{port}")
        self.egress(FakeResolver(["127.0.0.3", "127.0.0.2"]))(request)
        await request.answer
        self.attached(request)

    async def test_the_next_address_is_tried_beside_a_silent_one(self) -> None:
        hole = BlackHole()
        self.addCleanup(hole.close)
        self.server(host="127.0.0.2", port=hole.port)
        self.allow("tcp:127.0.0.0/8:*")
        request = FakeRequest(f"tcp:a.example:{hole.port}")
        self.egress(FakeResolver(["127.0.0.1", "127.0.0.2"]))(request)
        assert not request.gone
        self.clock.advance(0.25)
        await request.answer
        self.attached(request)

    async def test_a_closed_port_is_refused(self) -> None:
        self.allow("tcp:127.0.0.0/8:*")
        egress = self.egress(FakeResolver(["127.0.0.1", "192.0.2.1"]))
        port = free_port()
        assert await self.code(egress, f"tcp:127.0.0.1:{port}") == Code.REFUSED
        assert await self.code(egress, f"tcp:some.example:{port}") == Code.REFUSED

    async def test_no_descriptors_left_is_not_called_too_many_requests(self) -> None:
        self.allow("tcp:127.0.0.1:9")
        egress = self.egress(FakeResolver())
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with capturedLogs() as events:
                refusals = [await self.refusal(egress, "tcp:127.0.0.1:9") for _ in range(3)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for refusal in refusals:
            assert refusal.code is Code.LIMIT
            assert refusal.reason == "no descriptors or memory are left there"
        (line,) = (formatEvent(event) for event in events if event["log_level"] is LogLevel.error)
        assert line.startswith("Cannot connect out: 127.0.0.1:9: Too many open files")

    async def test_a_silent_address_times_out(self) -> None:
        hole = BlackHole()
        self.addCleanup(hole.close)
        self.allow(f"tcp:127.0.0.1:{hole.port}")
        egress = Egress(reactor, self.poller, self.holder, limit=0.05)
        assert await self.code(egress, f"tcp:127.0.0.1:{hole.port}") == Code.TIMED_OUT

    async def test_a_resolver_that_does_not_answer_times_out(self) -> None:
        self.allow("tcp:*.example:80")
        egress = self.egress(SilentResolver())
        request = FakeRequest("tcp:a.example:80")
        egress(request)
        self.clock.advance(10)
        error = await refused(request.answer)
        assert error.code == Code.TIMED_OUT

    async def test_no_such_host_is_told_from_a_resolver_that_fails(self) -> None:
        self.allow("tcp:*.example:80")
        egress = self.egress(
            FakeResolver(
                DialError("a.example: none", code=Code.NO_SUCH_HOST),
                DialError("a.example: try again", code=Code.UNREACHABLE),
                [],
            )
        )
        assert await self.code(egress, "tcp:a.example:80") == Code.NO_SUCH_HOST
        assert await self.code(egress, "tcp:a.example:80") == Code.UNREACHABLE
        assert await self.code(egress, "tcp:a.example:80") == Code.NO_SUCH_HOST

    async def test_a_mapped_name_leads_to_what_it_means_and_the_rules_are_asked_about_that(
        self,
    ) -> None:
        _, port = self.server()
        resolver = FakeResolver()
        egress = self.egress(resolver)
        egress.maps = Maps([parse_map(f"db.corp.example:5432=tcp:127.0.0.1:{port}")])
        self.allow("tcp:db.corp.example:5432")
        assert await self.code(egress, "tcp:db.corp.example:5432") == Code.NOT_ALLOWED
        self.allow(f"tcp:127.0.0.1:{port}")
        request = FakeRequest("tcp:db.corp.example:5432")
        egress(request)
        await request.answer
        self.attached(request)
        assert await self.code(egress, "tcp:db.corp.example:5433") == Code.NOT_ALLOWED
        assert resolver.asked == []

    async def test_without_a_rule_for_it_no_name_is_looked_up(self) -> None:
        self.allow("tcp:127.0.0.1:9000", "tcp:*.corp.example:80", "other=tcp:*:*", "udp:*:*")
        resolver = FakeResolver()
        egress = self.egress(resolver)
        for destination in ("tcp:a.example:80", "tcp:a.corp.example:81", "tcp:localhost:22"):
            error = await self.refusal(egress, destination)
            assert (error.code, error.reason) == (Code.NOT_ALLOWED, "not allowed there")
        assert resolver.asked == []

    async def test_a_rule_for_an_address_does_not_tell_which_names_there_are(self) -> None:
        self.allow("tcp:192.0.2.7:80")
        none = DialError("a.example: none", code=Code.NO_SUCH_HOST)
        egress = self.egress(FakeResolver(["192.0.2.8"], none, []))
        errors = [await self.refusal(egress, "tcp:a.example:80") for _ in range(3)]
        assert {(error.code, error.reason) for error in errors} == {
            (Code.NOT_ALLOWED, "not allowed there")
        }

    async def test_a_resolver_that_breaks_is_an_internal_error(self) -> None:
        def broken(host: str) -> Deferred[Sequence[str]]:
            result: Deferred[Sequence[str]] = Deferred()
            result.errback(ValueError("broken"))
            return result

        self.allow("tcp:*.example:80")
        assert await self.code(self.egress(broken), "tcp:a.example:80") == Code.INTERNAL
        logged: Any = self
        assert len(logged.flushLoggedErrors(ValueError)) == 1

    async def test_a_rule_withdrawn_while_the_name_is_resolved_counts(self) -> None:
        canary, port = self.server()
        self.allow(f"tcp:127.0.0.1:{port}")
        answer: Deferred[Sequence[str]] = Deferred()
        request = FakeRequest(f"tcp:a.example:{port}")
        self.egress(lambda host: answer)(request)
        self.holder.replace([])
        answer.callback(["127.0.0.1"])
        error = await refused(request.answer)
        assert error.code == Code.NOT_ALLOWED
        assert canary.made == []

    async def test_what_the_opener_is_told_names_nothing_inside(self) -> None:
        self.allow("tcp:127.0.0.1:*")
        egress = self.egress(FakeResolver(["127.0.0.1"], ["10.7.7.7"]))
        port = free_port()
        for destination in (f"tcp:a.example:{port}", f"tcp:b.example:{port}"):
            reason = (await self.refusal(egress, destination)).reason
            assert not re.search(r"[0-9]", reason)

    async def test_a_unix_socket_is_connected_to(self) -> None:
        path = os.path.join(tempfile.mkdtemp(), "s")
        server = Server(Echo)
        port = reactor.listenUNIX(path, server)
        self.addCleanup(lambda: gatherResults([made.closed for made in server.made]))
        self.addCleanup(port.stopListening)
        self.allow(f"unix:{path}")
        request = FakeRequest(f"unix:{path}")
        egress = self.egress()
        egress(request)
        assert await request.answer == f"unix:{path}"
        self.attached(request)
        assert await self.code(egress, f"unix:{path}2") == Code.NOT_ALLOWED

    async def test_a_unix_socket_that_is_not_there_is_refused(self) -> None:
        path = os.path.join(tempfile.mkdtemp(), "s")
        self.allow(f"unix:{path}")
        assert await self.code(self.egress(), f"unix:{path}") == Code.REFUSED

    async def test_what_nobody_here_answers_is_refused(self) -> None:
        self.allow("tcp:*:*", "udp:*:*", "x11::0", "service:*", "listen:127.0.0.1:*")
        egress = self.egress()
        for destination, code in [
            ("service:git", Code.NO_SUCH_SERVICE),
            ("x11::0", Code.NOT_ALLOWED),
            ("udp:*", Code.NOT_ALLOWED),
            ("listen:tcp:127.0.0.1:0", Code.NOT_ALLOWED),
            ("", Code.PROTOCOL),
            ("tcp:a:b", Code.PROTOCOL),
            ("tcp:" + "a" * 100000, Code.PROTOCOL),
        ]:
            assert await self.code(egress, destination) == code

    def test_other_kinds_are_answered_by_their_handlers(self) -> None:
        handled: list[tuple[str, Destination]] = []

        def handler(name: str) -> Any:
            def handle(request: EgressRequest, destination: Destination) -> None:
                handled.append((name, destination))

            return handle

        egress = self.egress(handlers={"service": handler("any"), "service:@dns": handler("dns")})
        egress(FakeRequest("service:git"))
        egress(FakeRequest("service:@dns"))
        assert handled == [
            ("any", Destination("service", "git")),
            ("dns", Destination("service", "@dns")),
        ]

    async def test_more_than_64_dials_of_one_peer_wait_and_others_do_not(self) -> None:
        resolver = SilentResolver()
        self.allow("tcp:*.example:80")
        egress = self.egress(resolver, places=Places(per_peer=64))
        requests = [FakeRequest(f"tcp:a{number}.example:80") for number in range(70)]
        for request in requests:
            egress(request)
        assert len(resolver.asked) == 64
        other = FakeRequest("tcp:b.example:80", peer="other")
        egress(other)
        assert resolver.asked[64:] == ["b.example"]
        other.abandon()
        requests[0].abandon()
        assert resolver.asked[65:] == ["a64.example"]
        requests[65].abandon()
        self.clock.advance(10)
        errors = [await refused(request.answer) for request in (*requests[1:65], *requests[66:])]
        assert {error.code for error in errors[:64]} == {Code.TIMED_OUT}
        assert {error.code for error in errors[64:]} == {Code.LIMIT}

    async def test_a_peer_that_keeps_aborting_its_requests_has_to_wait(self) -> None:
        resolver = SilentResolver()
        self.allow("tcp:*.example:80")
        egress = self.egress(resolver)
        for _ in range(100):
            request = FakeRequest("tcp:a.example:80")
            egress(request)
            request.abandon()
        assert await self.code(egress, "tcp:a.example:80") == Code.LIMIT
        other = FakeRequest("tcp:a.example:80", peer="other")
        egress(other)
        other.abandon()
        assert len(resolver.asked) == 101
        self.clock.advance(1)
        for _ in range(40):
            request = FakeRequest("tcp:a.example:80")
            egress(request)
            if request.gone:
                await refused(request.answer)
            else:
                request.abandon()
        assert len(resolver.asked) == 101 + 33

    async def test_requests_that_are_answered_cost_nothing(self) -> None:
        egress = self.egress()
        for _ in range(300):
            assert await self.code(egress, "tcp:127.0.0.1:80") == Code.NOT_ALLOWED

    def test_a_dial_whose_opener_gives_up_is_ended(self) -> None:
        hole = BlackHole()
        self.addCleanup(hole.close)
        self.allow(f"tcp:127.0.0.1:{hole.port}")
        request = FakeRequest(f"tcp:127.0.0.1:{hole.port}")
        watched = len(self.poller)
        self.egress()(request)
        assert len(self.poller) == watched + 1
        request.abandon()
        assert len(self.poller) == watched

    async def test_closing_refuses_what_is_unanswered(self) -> None:
        self.allow("tcp:*.example:80")
        egress = self.egress(SilentResolver())
        requests = [FakeRequest("tcp:a.example:80") for _ in range(70)]
        for request in requests:
            egress(request)
        egress.close()
        for request in requests:
            error = await refused(request.answer)
            assert error.code == Code.SHUTDOWN

    async def test_many_requests_at_once_are_all_connected(self) -> None:
        _, port = self.server()
        self.allow(f"tcp:127.0.0.1:{port}")
        egress = self.egress()
        requests = [FakeRequest(f"tcp:127.0.0.1:{port}") for _ in range(200)]
        for request in requests:
            egress(request)
        await gatherResults([request.answer for request in requests])
        for request in requests:
            self.attached(request)

    async def test_names_are_resolved_by_the_system_by_default(self) -> None:
        server, port = self.server()
        self.allow(f"tcp:localhost:{port}@127.0.0.1,::1")
        egress = Egress(reactor, self.poller, self.holder)
        tunnel = FakeTunnel(egress)
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        far.setblocking(False)
        side = SocketSide(self.poller, far)
        assert re.search(r"^tcp:", await tunnel.open(f"tcp:localhost:{port}", side))
        await until(lambda: bool(server.made))
        near.close()
        await server.made[0].closed
