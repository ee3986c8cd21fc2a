"""What a stranger's byte costs, in every parser that sees one (rule X24).

Measured is the processor's time, so that a busy machine does not matter, for whole inputs and for
single bytes. The bound is far above what is needed (0.2 to 2 us a byte) and far below what a parser
takes that begins anew at every arrival (it was 1,170 us). Muxes: tests/core/mux.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.core.mux.test_work_per_byte import corpus
from tests.core.proxies import test_http_connect, test_socks_client, test_socks_server
from tests.fuzz import CASES, damaged
from tests.wire import test_dns, test_dtls_records, test_lstp_fuzz, test_proxy_protocol
from tests.wire.secureproxy_samples import VECTORS as SECURE_PROXY
from tests.wire.test_http_body import CHUNKS
from tests.wire.test_http_head import REQUEST, RESPONSE
from tests.wire.test_tls_peek import real_hello
from tests.wire.wtls_vectors import VECTORS as WTLS
from tunnelkit.core.lstp.middle import Lobby
from tunnelkit.core.lstp.middle_connection import MiddleConnection
from tunnelkit.core.x11_gate import CookieGate, HiddenExtensions
from tunnelkit.errors import ProtocolError
from tunnelkit.wire import coap, dns, dtls_records, secureproxy
from tunnelkit.wire.buffer import FrameReader
from tunnelkit.wire.dns_addresses import read_addresses
from tunnelkit.wire.http_body import ChunkedBody
from tunnelkit.wire.http_head import (
    head_size,
    parse_request_head,
    parse_response_head,
    response_head_size,
)
from tunnelkit.wire.proxy_protocol import ProxyHeaderReader
from tunnelkit.wire.telnet import TelnetLines
from tunnelkit.wire.tls_peek import ClientHelloReader

PER_BYTE = 20e-6
"""Seconds of processor time for each byte."""
CONSTANT = 2e-3
"""And for each input, however short."""
LONGEST = 16_000
"""Bytes of an input that come one by one."""

Take = Callable[[bytes], object]


def hello() -> Take:
    return ClientHelloReader().feed


def socks_server() -> Take:
    one = test_socks_server.server(test_socks_server.CHECK)
    return lambda data: (one.receive(data, 100.0), one.data_to_send())


def socks_client() -> Take:
    one = test_socks_client.with_login()
    return lambda data: one.receive(data, 100.0)


def http_connect() -> Take:
    one = test_http_connect.client()
    return lambda data: one.receive(data, 100.0)


def head_reader(size_of: Any, parse: Any) -> Take:
    """As the proxy reads one: what was searched is not searched again."""
    buffer = bytearray()
    done: list[object] = []

    def take(data: bytes) -> None:
        seen = len(buffer)
        buffer.extend(data)
        if not done and (size := size_of(buffer, seen)) is not None:
            done.append(parse(bytes(buffer[:size])))

    return take


def telnet() -> Take:
    lines = TelnetLines()

    def take(data: bytes) -> None:
        lines.receive(data)
        while lines.next_line() is not None:
            pass
        lines.replies()

    return take


def x11_requests() -> Take:
    extensions = HiddenExtensions(False)
    return lambda data: extensions.scan(memoryview(bytearray(data)))


def frames(check: Any, decode: Any) -> Take:
    reader = FrameReader(check)

    def take(data: bytes) -> None:
        reader.feed(data)
        while (frame := reader.next_frame()) is not None:
            decode(frame)

    return take


def lobby() -> Take:
    """The middle: everything that is said before there is a pair."""
    middle, connection = Lobby("m", ""), MiddleConnection("1")
    middle.connected(connection, 0.0)
    return lambda data: middle.receive(connection, data, 0.0)


def whole(*readers: Callable[[bytes], object]) -> Callable[[], Take]:
    """For datagrams, which come whole: what has come of it so far is not one."""

    def take(data: bytes) -> None:
        for read in readers:
            try:
                read(data)
            except (ProtocolError, IndexError):
                pass

    return lambda: take


def dtls(data: bytes) -> None:
    """As the door for devices looks at a datagram."""
    if dtls_records.classify(data) is dtls_records.Kind.HELLO:
        dtls_records.ClientHello.read(data)
    for record in dtls_records.records(data):
        dtls_records.epoch(record)


STREAMS: dict[str, Callable[[], Take]] = {
    "hello": hello,
    "socks server": socks_server,
    "socks client": socks_client,
    "http answer": http_connect,
    "http request": lambda: head_reader(head_size, parse_request_head),
    "http response": lambda: head_reader(response_head_size, parse_response_head),
    "chunks": lambda: ChunkedBody().receive,
    "header": lambda: ProxyHeaderReader().feed,
    "x11": lambda: CookieGate(bytes(16)).receive,
    "x11 requests": x11_requests,
    "telnet": telnet,
    "secure proxy": lambda: frames(secureproxy.check_header, secureproxy.decode),
    "lobby": lobby,
}
"""Parsers of streams, which see single bytes too."""
DATAGRAMS: dict[str, Callable[[], Take]] = {
    "dns": whole(dns.parse_question, dns.lifetime, lambda data: read_addresses(data, 1)),
    "coap": whole(coap.decode),
    "dtls": whole(dtls),
}
SEEDS: dict[str, list[bytes]] = {
    "hello": [real_hello("inside.example")],
    "socks server": test_socks_server.DIALOGUES,
    "socks client": test_socks_client.ANSWERS,
    "http answer": test_http_connect.ANSWERS,
    "http request": [REQUEST],
    "http response": [RESPONSE],
    "chunks": [CHUNKS],
    "header": [test_proxy_protocol.V1, test_proxy_protocol.V2, test_proxy_protocol.WITH_EXTRAS],
    "x11": [b"l\0\x0b\0\0\0\x12\0\x10\0\0\0MIT-MAGIC-COOKIE-1" + bytes(18)],
    "x11 requests": [bytes.fromhex("6203040008000000") + b"MIT-SHM\0"],
    "telnet": [b"\xff\xfb\x03host 22\r\nhelp\n"],
    "secure proxy": list(SECURE_PROXY.values()),
    "lobby": test_lstp_fuzz.SETUPS,
    "dns": [test_dns.query(), test_dns.reply(test_dns.record(test_dns.SOA, 3))],
    "coap": list(WTLS.values()),
    "dtls": [test_dtls_records.hello()],
}
PARSERS = STREAMS | DATAGRAMS


def seconds(make: Callable[[], Take], pieces: Iterable[bytes]) -> float:
    """Processor time until everything was taken, or refused."""
    began = time.process_time()
    take = make()
    try:
        for piece in pieces:
            take(piece)
    except ProtocolError:
        pass
    return time.process_time() - began


def check(name: str, data: bytes, size: int) -> None:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    allowed = CONSTANT + PER_BYTE * len(data)
    # The best of a few: another thread, or a collection of garbage, is not the parser's work.
    best = min(seconds(PARSERS[name], pieces) for _ in range(3 if len(data) < 500 else 2))
    assert best < allowed, f"{best / len(data) * 1e6:.0f} us a byte by {size}: {data[:60].hex()}"


CORPUS = corpus("strangers")


@pytest.mark.parametrize("title", CORPUS)
def test_the_worst_that_is_known_costs_little(title: str) -> None:
    name = title.partition(":")[0]
    data = CORPUS[title]
    check(name, data, len(data))
    if name in STREAMS:
        check(name, data[:LONGEST], 1)


@pytest.mark.parametrize("name", PARSERS)
def test_whatever_a_fuzzer_makes_of_it_costs_little(name: str) -> None:
    for number, data in enumerate(damaged(SEEDS[name], seed=24, cases=CASES // 40)):
        if data:
            check(name, data, len(data) if name in DATAGRAMS or number % 2 else 1)


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_longer_costs_no_more_per_byte(name: str) -> None:
    """The seeds over and over, up to 64 KiB."""
    for seed in SEEDS[name][:3]:
        data = (seed * (65_536 // len(seed) + 1))[:65_536]
        check(name, data, len(data))
        check(name, data, 100)
        if name in STREAMS:
            check(name, data[:LONGEST], 1)


def test_every_parser_has_something_in_the_corpus() -> None:
    named = {title.partition(":")[0] for title in CORPUS}
    assert named == set(PARSERS) - {"lobby"}
