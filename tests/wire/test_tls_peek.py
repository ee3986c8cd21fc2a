"""What a ClientHello asks for: real ones, cut anywhere, damaged, too long (U17, S1, X24)."""

from __future__ import annotations

import time

import pytest
from OpenSSL import SSL

from tests.fuzz import damaged, pieces
from tunnelkit.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.testing.authority import throwaway_ca
from tunnelkit.wire.primitives import Writer
from tunnelkit.wire.tls_peek import MAX_HELLO, MAX_RECORDS, ClientHello, ClientHelloReader
from tunnelkit.wire.usher import ALPNS


def real_hello(name: str) -> bytes:
    """What our own TLS sends first."""
    context = TlsContext(throwaway_ca().credentials("a"), ALPNS, server_name=name)
    connection, _ = context.new_connection(client=True)
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(1 << 16)


@pytest.fixture(scope="module")
def hello() -> bytes:
    """A ClientHello that asks for ``inside.example``."""
    return real_hello("inside.example")


def extension(kind: int, content: bytes) -> bytes:
    return Writer().u16(kind).block16(content).done()


def host_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, Writer().block16(Writer().u8(kind).block16(name).done()).done())


def made(extensions: bytes | None, *, session: bytes = b"", suites: bytes = b"\x13\x01") -> bytes:
    """A ClientHello in one record."""
    body = Writer().u16(0x0303).put(bytes(32)).block8(session).block16(suites).block8(b"\0")
    if extensions is not None:
        body.block16(extensions)
    return records(body.done(), 1 << 14)


def records(body: bytes, size: int) -> bytes:
    """The message in records of at most ``size`` bytes."""
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def read(data: bytes) -> ClientHello | None:
    """What a reader makes of ``data``, which comes at once."""
    return ClientHelloReader().feed(data)


def asked(data: bytes) -> str:
    """The server name in a hello that must be complete."""
    hello = read(data)
    assert hello is not None
    return hello.name


def protocols(*names: bytes) -> bytes:
    """An ALPN extension."""
    listed = Writer()
    for name in names:
        listed.block8(name)
    return extension(16, Writer().block16(listed.done()).done())


def test_what_a_real_hello_asks_for(hello: bytes) -> None:
    assert len(hello) > 1000
    assert read(hello) == ClientHello("inside.example", (b"usher/1.1", b"usher/1"))
    assert asked(real_hello("")) == ""


def test_every_beginning_of_a_hello_is_incomplete(hello: bytes) -> None:
    for size in range(len(hello)):
        assert read(hello[:size]) is None


def test_a_hello_that_comes_byte_by_byte(hello: bytes) -> None:
    reader = ClientHelloReader()
    for at in range(len(hello) - 1):
        assert reader.feed(hello[at : at + 1]) is None
    assert reader.feed(hello[-1:] + b"more") == read(hello)
    assert reader.seen == hello + b"more"
    with pytest.raises(LocalProtocolError):
        reader.feed(b"more")


@pytest.mark.parametrize("size", [50, 100, 1000])
def test_a_hello_in_many_records(hello: bytes, size: int) -> None:
    assert asked(records(hello[9:], size)) == "inside.example"


def test_a_hello_of_as_many_records_as_may_be() -> None:
    body = made(host_name(b"seven.xx"))[9:]
    assert 4 + len(body) == MAX_RECORDS
    assert asked(records(body, 1)) == "seven.xx"


@pytest.mark.parametrize("size", [1, 5])
def test_the_65th_record_is_refused(hello: bytes, size: int) -> None:
    data = records(hello[9:], size)
    before = MAX_RECORDS * (5 + size)
    reader = ClientHelloReader()
    assert reader.feed(data[:before]) is None
    assert reader.feed(data[before : before + 4]) is None
    with pytest.raises(RemoteProtocolError, match="64 records"):
        reader.feed(data[before + 4 : before + 5])


def test_a_hello_in_the_smallest_pieces_costs_next_to_nothing(hello: bytes) -> None:
    """D-1: 16,200 bytes of one-byte records in 2,700 segments took 19 seconds."""
    body = hello[9:] + bytes(2696 - len(hello) + 9)
    data = records(body, 1)
    segments = [data[at : at + 6] for at in range(0, len(data), 6)]
    assert (len(data), len(segments)) == (16_200, 2_700)
    reader = ClientHelloReader()
    started = time.process_time()
    for segment in segments[:MAX_RECORDS]:
        assert reader.feed(segment) is None
    with pytest.raises(RemoteProtocolError, match="64 records"):
        reader.feed(segments[MAX_RECORDS])
    assert time.process_time() - started < 0.01


def test_the_largest_hello_byte_by_byte_costs_a_time_that_grows_with_its_size() -> None:
    padding = MAX_HELLO - len(made(extension(21, b""))) + 5
    data = made(extension(21, bytes(padding)))
    assert len(data) == 5 + MAX_HELLO
    reader = ClientHelloReader()
    started = time.process_time()
    found = [reader.feed(data[at : at + 1]) for at in range(len(data))]
    assert time.process_time() - started < 0.2
    assert found[-1] == ClientHello("")
    with pytest.raises(RemoteProtocolError, match="too many"):
        read(made(extension(21, bytes(padding + 1)))[:9])


def test_names_are_told_in_lower_case() -> None:
    assert asked(made(host_name(b"InSide.Example"))) == "inside.example"


def test_the_protocols_offered_are_told_in_their_order() -> None:
    data = made(host_name(b"a") + protocols(b"secure-proxy/1", b"http/1.1"))
    assert read(data) == ClientHello("a", (b"secure-proxy/1", b"http/1.1"))


def test_an_encrypted_hello_inside_changes_nothing() -> None:
    assert asked(made(extension(0xFE0D, b"\xff" * 200) + host_name(b"outer"))) == "outer"


@pytest.mark.parametrize("extensions", [None, b"", extension(10, b"x")])
def test_a_hello_without_a_name(extensions: bytes | None) -> None:
    assert read(made(extensions)) == ClientHello("")


def test_what_follows_the_hello_is_not_looked_at(hello: bytes) -> None:
    assert asked(hello + b"anything") == "inside.example"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x02\x00\x00\x05",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x00\x10\x02",
        b"\x16\x03\x01\x00\x10\x01\xff\xff\xff",
        made(host_name(b"")),
        made(host_name(b"x" * 256)),
        made(host_name(b"two words")),
        made(host_name(b"\xff")),
        made(host_name(b"a", kind=1)),
        made(host_name(b"a") + host_name(b"b")),
        made(extension(0, b"")),
        made(extension(0, Writer().block16(b"\0\0\1a\0\0\1b").done())),
        made(host_name(b"a") + b"\0"),
        made(b"", session=bytes(33)),
        made(b"", suites=b""),
        made(b"", suites=b"\x13"),
        made(protocols()),
        made(protocols(b"")),
        made(extension(16, b"x")),
        made(extension(16, b"\0\2\1ax")),
    ],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)


def test_a_hello_ends_its_record() -> None:
    data = bytearray(made(b""))
    data[4] += 1
    for said in (data, data + b"x"):
        with pytest.raises(RemoteProtocolError, match="more follows"):
            read(bytes(said))


def test_damaged_hellos_are_read_or_refused_the_same_way_however_they_come(hello: bytes) -> None:
    def outcome(parts: list[bytes]) -> object:
        reader = ClientHelloReader()
        found = None
        try:
            for part in parts:
                found = reader.feed(part)
                if found is not None:
                    break
        except ProtocolError as error:
            return str(error)
        return found

    seeds = [hello, made(host_name(b"a") + protocols(b"h2")), records(hello[9:], 50)]
    for number, data in enumerate(damaged(seeds)):
        found = outcome([data])
        assert found == outcome(pieces(data, [number, number * 7, number * 31]))
        if isinstance(found, ClientHello):
            assert found.name == found.name.lower()
            assert found.name.isascii()
