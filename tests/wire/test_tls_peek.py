"""The server name in a ClientHello: real ones, cut anywhere, damaged, too long (U17)."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from tests.fuzz import damaged
from tunnelkit.errors import ProtocolError, RemoteProtocolError
from tunnelkit.net.tls_context import USHER_ALPN, TlsContext
from tunnelkit.testing.authority import throwaway_ca
from tunnelkit.wire.primitives import Truncated, Writer
from tunnelkit.wire.tls_peek import MAX_HELLO, server_name


def real_hello(name: str) -> bytes:
    """What our own TLS sends first."""
    context = TlsContext(throwaway_ca().credentials("a"), USHER_ALPN, server_name=name)
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


def test_the_name_in_a_real_hello(hello: bytes) -> None:
    assert len(hello) > 1000
    assert server_name(hello) == "inside.example"
    assert server_name(real_hello("")) == ""


def test_every_beginning_of_a_hello_is_incomplete(hello: bytes) -> None:
    for size in range(len(hello)):
        with pytest.raises(Truncated):
            server_name(hello[:size])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100, 1000])
def test_a_hello_in_many_records(hello: bytes, size: int) -> None:
    assert server_name(records(hello[9:], size)[: MAX_HELLO * 2]) == "inside.example"


def test_names_are_told_in_lower_case() -> None:
    assert server_name(made(host_name(b"InSide.Example"))) == "inside.example"


@pytest.mark.parametrize("extensions", [None, b"", extension(16, b"x")])
def test_a_hello_without_a_name(extensions: bytes | None) -> None:
    assert server_name(made(extensions)) == ""


def test_what_follows_the_hello_is_not_looked_at(hello: bytes) -> None:
    assert server_name(hello + b"anything") == "inside.example"


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
    ],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        server_name(data)
    assert not isinstance(refused.value, Truncated)


def test_a_hello_that_never_ends_is_refused_at_the_limit() -> None:
    begun = records(b"", 1)[:-12] + b"\x16\x03\x01\x00\x01\x30\x16\x03\x01\x00\x01\x00"
    drip = begun + b"\x16\x03\x01\x00\x01\x00" * MAX_HELLO
    for size in range(len(begun), MAX_HELLO, 997):
        with pytest.raises(Truncated):
            server_name(drip[:size])
    with pytest.raises(RemoteProtocolError) as refused:
        server_name(drip[:MAX_HELLO])
    assert not isinstance(refused.value, Truncated)


def test_damaged_hellos_give_a_name_or_a_protocol_error(hello: bytes) -> None:
    for data in damaged([hello, made(host_name(b"a")), records(hello[9:], 50)]):
        try:
            name = server_name(data)
        except ProtocolError:
            continue
        assert name == name.lower()
        assert name.isascii()
