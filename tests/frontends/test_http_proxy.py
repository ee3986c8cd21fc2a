"""The HTTP proxy: what passes, what is dropped, what is refused, and that nothing is piled up."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from tests.acceptance.processes import free_port
from tests.frontends.far_side import FarSideCase
from tests.frontends.installed import configured, front_end
from tests.frontends.talk import Echo, Server, Talk, is_reset
from tunnelkit.errors import ChannelRefused, Code, ConfigError
from tunnelkit.frontends.http import exchange as http_exchange
from tunnelkit.frontends.http import proxy as http_proxy
from tunnelkit.frontends.http.proxy import HttpProxy, HttpProxyConfig
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.policy.acl import parse_network, parse_rule

reactor: Any = global_reactor

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Origin(Talk):
    """Answers once the head of a request, or as much as `wanted` says, has come."""

    answer = OK
    wanted: Callable[[bytes], bool] = staticmethod(lambda data: b"\r\n\r\n" in data)
    closes = True
    stays = False
    """Does not care that it is asked to close."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = False

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if not self.answered and self.wanted(self.data):
            self.answered = True
            self.write(self.answer)
            if self.closes:
                assert self.transport is not None
                self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if not self.stays:
            assert self.transport is not None
            self.transport.loseConnection()


def origin(answer: bytes, wanted: Any = None, closes: bool = True) -> type[Origin]:
    members: dict[str, Any] = {"answer": answer, "closes": closes}
    if wanted is not None:
        members["wanted"] = staticmethod(wanted)
    return type("OneOrigin", (Origin,), members)


class Refusing:
    """A tunnel whose far side refuses everything."""

    def __init__(self, code: Code) -> None:
        self.code = code

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        result: Deferred[str] = Deferred()
        side.reset(self.code, "no")
        result.errback(ChannelRefused(self.code, "no"))
        return result


class Case(FarSideCase):
    timeout = 10

    def server(self, protocol: Callable[[], Talk] = Origin) -> tuple[Server, str]:
        """An origin, which the rules allow, and its address."""
        server, port = self.serve(protocol)
        return server, f"127.0.0.1:{port}"

    async def client(self, tunnel: Any = None, users: dict[str, str] | None = None) -> Talk:
        proxy = HttpProxy(
            reactor, tunnel or self.tunnel, self.near, HttpProxyConfig("127.0.0.1", 0, users)
        )
        proxy.startService()
        self.addCleanup(proxy.stopService)
        host, _, port = proxy.address.rpartition(":")
        self.endpoint = TCP4ClientEndpoint(reactor, host, int(port))
        return await self.another()

    async def another(self) -> Talk:
        talk = cast(Talk, await connectProtocol(self.endpoint, Talk()))
        self.addCleanup(talk.close)
        return talk

    async def ask(self, request: str | bytes, **options: Any) -> bytes:
        """The whole response; the connection has to end behind it."""
        talk = await self.client(**options)
        talk.write(request if isinstance(request, bytes) else request.encode())
        data = await talk.end()
        assert not talk.was_reset
        return data


class UrlTests(Case):
    async def test_a_url_is_fetched_with_what_is_for_the_origin_only(self) -> None:
        server, where = self.server()
        answer = await self.ask(
            f"GET http://{where}/path?query HTTP/1.1\r\nHost: wrong.example\r\n"
            "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic secret\r\nX-Kept: yes\r\n"
            "Connection: close, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nUpgrade: h2c\r\n"
            "Keep-Alive: 5\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nhello")
        assert b"Connection: close\r\n" in answer
        assert server.made[0].data.decode() == (
            f"GET /path?query HTTP/1.1\r\nHost: {where}\r\nX-Kept: yes\r\n"
            "Via: 1.1 tunnelkit\r\nConnection: close\r\n\r\n"
        )
        assert self.tunnel.opened == [f"tcp:{where}"]

    async def test_many_requests_follow_each_other_on_one_connection(self) -> None:
        server, where = self.server()
        talk = await self.client()
        request = f"GET http://{where}/ HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()
        for number in range(1, 4):
            talk.write(request)
            await talk.received(number * len(OK + b"Via: 1.1 tunnelkit\r\n"))
        assert talk.data.count(b"hello") == 3
        assert not talk.ended
        assert len(server.made) == 3

    async def test_requests_that_are_sent_all_at_once_are_answered_in_order(self) -> None:
        class Echoing(Origin):
            def dataReceived(self, data: bytes) -> None:
                path = data.split(b" ")[1]
                self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path) + path
                super().dataReceived(data)

        _, where = self.server(Echoing)
        request = "".join(
            f"GET http://{where}/{n} HTTP/1.1\r\nHost: {where}\r\n\r\n" for n in range(50)
        )
        talk = await self.client()
        talk.write(request.encode())
        talk.half_close()
        data = await talk.end()
        paths = [part.split(b"\r\n\r\n")[1] for part in data.split(b"HTTP/1.1 200 OK")[1:]]
        assert paths == [b"/%d" % number for number in range(50)]

    async def test_a_body_with_a_length_goes_both_ways_whole(self) -> None:
        sent = os.urandom(3 << 20)
        digest = hashlib.sha256(sent).digest()

        class Mirror(Origin):
            wanted = staticmethod(lambda data: False)

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                head, _, body = self.data.partition(b"\r\n\r\n")
                if len(body) == len(sent):
                    assert b"Content-Length: %d" % len(sent) in head
                    self.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        _, where = self.server(Mirror)
        head = (
            f"PUT http://{where}/ HTTP/1.1\r\nHost: {where}\r\nConnection: close\r\n"
            f"Content-Length: {len(sent)}\r\n\r\n"
        )
        answer = await self.ask(head.encode() + sent)
        assert hashlib.sha256(answer.partition(b"\r\n\r\n")[2]).digest() == digest

    async def test_chunks_go_through_as_chunks_without_extensions_and_trailers(self) -> None:
        server, where = self.server(
            origin(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n",
                lambda data: data.endswith(b"0\r\n\r\n"),
            )
        )
        answer = await self.ask(
            f"POST http://{where}/ HTTP/1.1\r\nHost: {where}\r\nConnection: close\r\n"
            "Transfer-Encoding: chunked\r\n\r\n4;a\r\nwxyz\r\n0\r\nTrailer: no\r\n\r\n"
        )
        assert server.made[0].data.partition(b"\r\n\r\n")[2] == b"4\r\nwxyz\r\n0\r\n\r\n"
        assert answer.partition(b"\r\n\r\n")[2].startswith(b"5\r\nabcde\r\n0\r\n\r\n")
        assert b"Transfer-Encoding: chunked\r\n" in answer

    async def test_a_client_of_http_1_0_gets_no_chunks_and_an_end(self) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        _, where = self.server(origin(chunked))
        answer = await self.ask(f"GET http://{where}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert answer.endswith(b"\r\nConnection: close\r\n\r\nabc")
        assert b"chunked" not in answer

    async def test_a_client_of_http_1_0_may_stay_if_it_says_so(self) -> None:
        _, where = self.server()
        talk = await self.client()
        talk.write(f"GET http://{where}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
        await talk.received(len(OK) + 40)
        assert b"Connection: keep-alive\r\n" in talk.data
        assert not talk.ended

    async def test_a_response_that_lasts_until_its_end_becomes_chunks(self) -> None:
        _, where = self.server(origin(b"HTTP/1.0 200 OK\r\n\r\nabc"))
        talk = await self.client()
        talk.write(f"GET http://{where}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while not talk.data.endswith(b"0\r\n\r\n"):
            await talk.received(len(talk.data) + 1)
        assert talk.data.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert not talk.ended

    async def test_interim_responses_pass_before_the_body_is_sent(self) -> None:
        class Careful(Origin):
            def dataReceived(self, data: bytes) -> None:
                if not self.data:
                    self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                super().dataReceived(data)

        made = type("Made", (Careful,), {"wanted": staticmethod(lambda d: d.endswith(b"body"))})
        server, where = self.server(made)
        talk = await self.client()
        talk.write(
            f"POST http://{where}/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            "Content-Length: 4\r\nConnection: close\r\n\r\n".encode()
        )
        await talk.received(len(b"HTTP/1.1 100 Continue\r\n\r\n"))
        assert talk.data.startswith(b"HTTP/1.1 100 Continue\r\n")
        talk.write(b"body")
        assert (await talk.end()).endswith(b"hello")
        assert b"Expect: 100-continue\r\n" in server.made[0].data

    async def test_a_flood_of_interim_responses_is_an_error(self) -> None:
        flood = b"HTTP/1.1 100 C\r\n\r\n" * 500_000
        _, where = self.server(origin(flood + OK))
        answer = await self.ask(
            f"GET http://{where}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert b"HTTP/1.1 502 " in answer
        assert b"interim answers are longer than 65536 bytes" in answer
        assert len(answer) < 200_000

    async def test_the_length_of_an_answer_to_head_is_not_waited_for(self) -> None:
        _, where = self.server(origin(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))
        answer = await self.ask(
            f"HEAD http://{where}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert b"Content-Length: 5\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")

    async def test_an_answer_before_the_body_is_complete_ends_the_connection(self) -> None:
        _, where = self.server(origin(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"))
        answer = await self.ask(
            f"POST http://{where}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nstart"
        )
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"Connection: close\r\n" in answer

    async def test_an_origin_that_does_not_close_is_left(self) -> None:
        cast(Any, self).patch(http_exchange, "LINGER", 0.05)
        staying = origin(OK, closes=False)
        staying.stays = True
        server, where = self.server(staying)
        await self.ask(f"GET http://{where}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while not server.made[0].closed.called:
            # Having seen an end it no longer reads: only by writing it learns of the reset.
            server.made[0].write(b"still here")
            await _moment()
        assert server.made[0].was_reset

    async def test_odd_spellings_of_urls(self) -> None:
        server, where = self.server()
        for url, sent in (
            (f"HTTP://{where}", b"/"),
            (f"http://{where}?a=b", b"/?a=b"),
            (f"http://{where}/%20;x", b"/%20;x"),
            (f"http://{where}/a#fragment?b", b"/a"),
            (f"http://{where}#fragment", b"/"),
        ):
            await self.ask(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert server.made[-1].data.split(b" ")[1] == sent
        await self.ask(f"OPTIONS http://{where} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert server.made[-1].data.startswith(b"OPTIONS * HTTP/1.1\r\n")

    async def test_user_and_password_in_a_url_are_dropped(self) -> None:
        server, where = self.server()
        lines: list[str] = []
        with cast(Any, capturedLogs()) as logged:
            answer = await self.ask(
                f"GET http://me:hunter2@{where}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            assert answer.startswith(b"HTTP/1.1 200 ")
            for wrong in (
                "http://me:hunter2@/",
                "http://me:hunter2/x@a/",
                "http://a@me:hunter2@b/",
            ):
                answer = await self.ask(f"GET {wrong} HTTP/1.1\r\nHost: x\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 400 ")
                assert b"hunter2" not in answer
            lines += [str(formatEvent(event)) for event in logged]
        assert lines
        assert "hunter2" not in "".join(lines)
        assert len(server.made) == 1
        assert b"hunter2" not in server.made[0].data

    async def test_what_careless_clients_send_is_taken(self) -> None:
        server, where = self.server()
        many = "".join(f"X-{number}: {'y' * 100}\r\n" for number in range(400))
        request = f"GET http://{where}/gr\xc3\xbc\xdf HTTP/1.1\r\nHost: x\r\n{many}"
        answer = await self.ask(
            f"\r\n\r\n{request}\r\n\r\n\r\n{request}Connection: close\r\n\r\n".encode("latin-1")
        )
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        for made in server.made:
            assert made.data.startswith(b"GET /gr\xc3\xbc\xdf HTTP/1.1\r\n")
            assert many.encode() in made.data

    async def test_a_head_that_comes_byte_by_byte_is_read(self) -> None:
        _, where = self.server()
        talk = await self.client()
        cast(Any, talk.transport).setTcpNoDelay(True)
        request = f"\r\nGET http://{where}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for byte in request.encode():
            talk.write(bytes([byte]))
            await _turn()
        assert (await talk.end()).endswith(b"hello")

    async def test_what_careless_servers_answer_is_passed_on_well_written(self) -> None:
        fields = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 100) for number in range(400))
        for answer, body in (
            (b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 5\r\n\r\nhello", b"hello"),
            (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello"),
            (b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", b"hello"),
            (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 5\r\n\r\nhello", b"hello"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"000000000000000000005\r\nhello\r\n0\r\n\r\n",
                b"5\r\nhello\r\n0\r\n\r\n",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
                b"5\r\nhello\r\n0\r\n\r\n",
            ),
        ):
            _, where = self.server(origin(answer))
            told = await self.ask(
                f"GET http://{where}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            head, _, rest = told.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n"), answer
            assert rest == body
            framing = b"Transfer-Encoding: chunked" if b"\r\n" in body else b"Content-Length: 5"
            assert head.count(b"Content-Length") + head.count(b"Transfer-Encoding") == 1
            assert framing in head

    async def test_nothing_is_piled_up_for_a_client_that_does_not_read(self) -> None:
        size = 64 << 20
        sent = 0

        class Endless(Origin):
            def dataReceived(self, data: bytes) -> None:
                if not self.answered:
                    self.answered = True
                    self.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                    assert self.transport is not None
                    cast(Any, self.transport).registerProducer(self, True)
                    self.paused = False
                    self.resumeProducing()

            def resumeProducing(self) -> None:
                nonlocal sent
                self.paused = False
                while not self.paused and sent < size:
                    self.write(bytes(1 << 16))
                    sent += 1 << 16

            def pauseProducing(self) -> None:
                self.paused = True

            def stopProducing(self) -> None:
                self.paused = True

        _, where = self.server(Endless)
        talk = await self.client()
        cast(Any, talk.transport).pauseProducing()
        talk.write(f"GET http://{where}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        last = -1
        while sent != last or not sent:
            last = sent
            await _moment()
        assert sent < size // 2
        cast(Any, talk.transport).abortConnection()


def _turn() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done


def _moment() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    reactor.callLater(0.05, done.callback, None)
    return done


SMUGGLING = [
    "GET {url} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET {url} HTTP/1.1\r\n\r\n",
    "GET {url} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "GET {url} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET {url} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    "GET {url} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET {url} HTTP/1.1\r\nHost: a\r\n folded: yes\r\n\r\n",
    "GET {url} HTTP/1.1\r\nHost: a\r\nName : x\r\n\r\n",
    "GET {url} HTTP/1.1\nHost: a\n\n",
    "GET {url} HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
    "GET {url} HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET  {url} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http:///path HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://user:pw@b@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT user:pw@a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "\n\nGET {url} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://0x7f.1/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    "X" * 70_000,
    "GET {url} HTTP/1.1\r\nHost: a\r\n" + "A: b\r\n" * 512 + "\r\n",
]


class RefusalTests(Case):
    async def test_requests_that_two_programs_could_read_differently_are_refused(self) -> None:
        server, where = self.server()
        for request in SMUGGLING:
            talk = await self.client()
            behind = f"GET http://{where}/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
            talk.write((request.format(url=f"http://{where}/") + behind).encode())
            answer = await talk.end()
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), request
            assert answer.count(b"HTTP/1.1") == 1
            assert not talk.was_reset
        assert server.made == []
        assert self.tunnel.opened == []

    async def test_malformed_chunks_break_the_request_off(self) -> None:
        server, where = self.server(origin(b"", lambda data: False))
        answer = await self.ask(
            f"POST http://{where}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            "3\r\nabcdef\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 400 ")
        for made in server.made:
            await made.closed
            assert made.was_reset

    async def test_trace_is_not_passed_on(self) -> None:
        answer = await self.ask("TRACE http://a/ HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405 ")

    async def test_every_refusal_of_the_tunnel_has_its_status(self) -> None:
        for code, status in (
            (Code.NOT_ALLOWED, 403),
            (Code.REFUSED, 502),
            (Code.NO_SUCH_HOST, 502),
            (Code.UNREACHABLE, 502),
            (Code.INTERNAL, 502),
            (Code.LIMIT, 503),
            (Code.SHUTDOWN, 503),
            (Code.TIMED_OUT, 504),
        ):
            for request in (
                "GET http://a.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
                "CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            ):
                answer = await self.ask(request, tunnel=Refusing(code))
                assert answer.startswith(b"HTTP/1.1 %d " % status)
                assert b"Content-Type: text/plain" in answer

    async def test_an_error_as_answer_to_head_has_no_body(self) -> None:
        answer = await self.ask(
            "HEAD http://a.example/ HTTP/1.1\r\nHost: a\r\n\r\n", tunnel=Refusing(Code.REFUSED)
        )
        assert answer.endswith(b"\r\n\r\n")

    async def test_answers_that_are_not_proper_http_are_told_as_such(self) -> None:
        for answer in (
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n fold\r\n\r\n",
            b"X" * 70_000,
            b"HTTP/1.1 200 OK\r\n",
            b"",
        ):
            _, where = self.server(origin(answer))
            told = await self.ask(f"GET http://{where}/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert told.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")

    async def test_an_answer_that_breaks_off_is_never_a_clean_end(self) -> None:
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nrubbish\r\n",
        ):
            _, where = self.server(origin(answer))
            talk = await self.client()
            talk.write(f"GET http://{where}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await talk.closed
            assert talk.was_reset

    async def test_a_client_that_leaves_takes_its_request_along(self) -> None:
        server, where = self.server(origin(b"", lambda data: False))
        talk = await self.client()
        talk.write(f"GET http://{where}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while not server.made:
            await _moment()
        cast(Any, talk.transport).abortConnection()
        await server.made[0].closed
        assert server.made[0].was_reset

    async def test_a_client_that_says_nothing_is_sent_away(self) -> None:
        cast(Any, self).patch(http_proxy, "HEAD_LIMIT", 0.05)
        assert await self.ask("") == b""
        assert (await self.ask("GET http://")).startswith(b"HTTP/1.1 408 ")

    async def test_who_has_said_nothing_makes_room_for_others(self) -> None:
        cast(Any, self).patch(http_proxy, "CLIENTS", 1)
        first = await self.client()
        await self.another()
        assert await first.end() == b""

    async def test_only_those_who_may_enter_are_served(self) -> None:
        self.near.replace([], [parse_network("192.0.2.0/24")])
        talk = HttpProxy(reactor, self.tunnel, self.near, HttpProxyConfig("127.0.0.1", 0))
        talk.startService()
        self.addCleanup(talk.stopService)
        host, _, port = talk.address.rpartition(":")
        assert await is_reset(TCP4ClientEndpoint(reactor, host, int(port)))


class LoginTests(Case):
    async def login(self, *lines: str) -> bytes:
        head = "".join(f"{line}\r\n" for line in lines)
        return await self.ask(
            f"GET http://{self.where}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n",
            users={"me": "pass:word"},
        )

    async def test_who_logs_in_is_served_and_nobody_else(self) -> None:
        server, self.where = self.server()
        good = base64.b64encode(b"me:pass:word").decode()
        answer = await self.login(f"Proxy-Authorization: basic {good}")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Proxy-Authorization" not in server.made[0].data
        for line in (
            "X-Nothing: 1",
            "Proxy-Authorization: Basic " + base64.b64encode(b"me:other").decode(),
            "Proxy-Authorization: Basic " + base64.b64encode(b"me").decode(),
            "Proxy-Authorization: Basic !",
            f"Proxy-Authorization: Bearer {good}",
            f"Authorization: Basic {good}",
        ):
            answer = await self.login(line)
            assert answer.startswith(b"HTTP/1.1 407 ")
            assert b'Proxy-Authenticate: Basic realm="tunnelkit"' in answer
        assert len(server.made) == 1


class ConnectTests(Case):
    async def test_connect_may_say_that_it_has_no_body(self) -> None:
        _, where = self.server(Echo)
        talk = await self.client()
        talk.write(f"CONNECT {where} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nx".encode())
        talk.half_close()
        assert await talk.end() == b"HTTP/1.1 200 Connection established\r\n\r\nx"

    async def test_connect_becomes_a_plain_connection(self) -> None:
        _, where = self.server(Echo)
        talk = await self.client()
        talk.write(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode() + b"early ")
        head = b"HTTP/1.1 200 Connection established\r\n\r\n"
        assert await talk.received(len(head) + 6) == head + b"early "
        sent = os.urandom(1 << 20)
        talk.write(sent)
        talk.half_close()
        data = await talk.end()
        assert data == head + b"early " + sent

    async def test_connect_may_follow_a_request(self) -> None:
        server, where = self.server()
        talk = await self.client()
        talk.write(
            f"GET http://{where}/ HTTP/1.1\r\nHost: x\r\n\r\n"
            f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\nGET / HTTP/1.1\r\n\r\n".encode()
        )
        data = await talk.end()
        assert data.endswith(b"hello" + b"HTTP/1.1 200 Connection established\r\n\r\n" + OK)
        assert server.made[1].data == b"GET / HTTP/1.1\r\n\r\n"

    async def test_what_is_refused_there_is_told_here(self) -> None:
        port = free_port()
        self.far.replace([parse_rule(f"tcp:127.0.0.1:{port}")])
        answer = await self.ask(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 502 ")
        answer = await self.ask("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 ")


def test_the_option() -> None:
    assert verifyObject(IFrontEnd, front_end("http-proxy"))
    assert configured("http-proxy", "[::1]:3128") == HttpProxyConfig("::1", 3128)
    with pytest.raises(ConfigError):
        configured("http-proxy", "name:3128")
