"""The CoAP endpoint against aiocoap, over plain UDP (row W2)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import DatagramProtocol, ProcessProtocol
from twisted.trial.unittest import TestCase

from tunnelkit.core.wtls.coap_blocks import Response
from tunnelkit.core.wtls.coap_server import CoapServer
from tunnelkit.core.wtls.http_mapping import url_of
from tunnelkit.wire.coap import Code

reactor: Any = global_reactor
ROOT = Path(__file__).resolve().parents[2]


class Backwards(DatagramProtocol):
    """Answers with the body, backwards; ``thinking`` seconds later."""

    def __init__(self, thinking: float) -> None:
        self.server = CoapServer(1)
        self.thinking = thinking
        self.asked: list[str] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        for request in self.server.receive(datagram, reactor.seconds()):
            self.asked.append(str(url_of(request.message)))
            response = Response(Code.CHANGED, (), request.body[::-1])
            reactor.callLater(self.thinking, self.respond, request, response, addr)
        self.flush(addr)
        due = self.server.next_deadline()
        if due is not None and not self.asked:
            reactor.callLater(due - reactor.seconds(), self.due, addr)

    def respond(self, request: Any, response: Response, addr: Any) -> None:
        self.server.deadline_passed(reactor.seconds())
        self.flush(addr)
        self.server.respond(request, response, reactor.seconds())
        self.flush(addr)

    def due(self, addr: Any) -> None:
        self.server.deadline_passed(reactor.seconds())
        self.flush(addr)

    def flush(self, addr: Any) -> None:
        assert self.transport is not None
        for data in self.server.data_to_send():
            self.transport.write(data, addr)


class Run(ProcessProtocol):
    """One program, fed and listened to."""

    transport: Any

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.out = b""
        self.err = b""
        self.done: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.body)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self.out += data

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Any) -> None:
        if reason.check(ProcessDone):
            self.done.callback(None)
        else:
            self.done.errback(AssertionError(self.err.decode()))


class AiocoapTests(TestCase):
    timeout = 60

    async def post(self, body: bytes, thinking: float = 0.0) -> bytes:
        server = Backwards(thinking)
        port = reactor.listenUDP(0, server, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        run = Run(body)
        place = f"127.0.0.1:{port.getHost().port}"
        words = ["-m", "tests.peers.aiocoap_client", place, "http://web.example/x?y"]
        reactor.spawnProcess(run, sys.executable, [sys.executable, *words], path=str(ROOT))
        await run.done
        assert server.asked == ["http://web.example/x?y"]
        assert run.err == b"2.04 Changed\n"
        return run.out

    async def test_a_small_body_there_and_back(self) -> None:
        assert await self.post(b"forwards") == b"sdrawrof"

    async def test_64_kib_there_and_back_in_blocks(self) -> None:
        body = bytes(range(256)) * 256
        assert await self.post(body) == body[::-1]

    async def test_an_answer_that_takes_longer_than_an_acknowledgement(self) -> None:
        assert await self.post(b"slowly", 2.0) == b"ylwols"
