"""Two ends of TLS in memory: who is let in, what is said to the others, what arrives."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import attrs
import pytest

from tunnelkit.errors import (
    AuthError,
    ConfigError,
    LocalProtocolError,
    PeerNotTrusted,
    RemoteProtocolError,
    Revoked,
    TunnelkitError,
)
from tunnelkit.net.tls import engine as tls
from tunnelkit.net.tls import openssl_calls as tls_calls
from tunnelkit.net.tls.engine import Credentials, TlsContext, TlsEngine, spki_pin
from tunnelkit.policy.keys import Authority

AUTHORITY = Authority.create()
NOW = datetime.now(timezone.utc)
NEAR = AUTHORITY.issue("near").credentials
FAR = AUTHORITY.issue("far.example").credentials


@pytest.fixture(autouse=True, params=["DirectCalls", "PublicCalls"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs with both ways to call the library."""
    monkeypatch.setattr(tls, "Calls", getattr(tls_calls, request.param))
    return str(request.param)


def engine(credentials: Credentials, client: bool, alpn: bytes = b"lstp/1") -> TlsEngine:
    return TlsEngine(TlsContext(credentials, (alpn,)), client)


def move(source: TlsEngine, target: TlsEngine) -> int:
    """Carry all ciphertext across; the number of bytes."""
    sent = output(source)
    target.feed(memoryview(sent))
    return len(sent)


def output(source: TlsEngine) -> bytes:
    sent, buffer = b"", memoryview(bytearray(100_000))
    while source.has_output:
        sent += bytes(buffer[: source.drain_into(buffer)])
    return sent


def read(target: TlsEngine, size: int = 1_000_000) -> bytes:
    """Everything that can be read now."""
    got, buffer = b"", memoryview(bytearray(size))
    while count := target.read_into(buffer):
        got += bytes(buffer[:count])
    return got


def converse(client: TlsEngine, server: TlsEngine) -> dict[TlsEngine, TunnelkitError]:
    """Let both speak until nothing more is said; what each end complained about."""
    complaints: dict[TlsEngine, TunnelkitError] = {}
    said = 1
    while said:
        said = 0
        for source, target in ((client, server), (server, client)):
            try:
                if source.handshake():
                    assert read(source) == b""
            except TunnelkitError as error:
                complaints[source] = error
            said += move(source, target)
    return complaints


def pair(near: Credentials = NEAR, far: Credentials = FAR) -> tuple[TlsEngine, TlsEngine]:
    """An established session: its client, its server."""
    client, server = engine(near, True), engine(far, False)
    assert not converse(client, server)
    return client, server


def refused(near: Credentials, far: Credentials) -> tuple[TunnelkitError, TunnelkitError]:
    """What client and server say of a session that must not come about."""
    client, server = engine(near, True), engine(far, False)
    complaints = converse(client, server)
    return complaints[client], complaints[server]


def with_crl(credentials: Credentials, *revoked: Credentials, age: float = 0) -> Credentials:
    """The credentials with a list that is one day valid and was made ``age`` days ago."""
    serials = {entry.certificate.serial_number: NOW for entry in revoked}
    crl = AUTHORITY.revocation_list(serials, days=1, now=NOW - timedelta(days=age))
    return attrs.evolve(credentials, check_revocation=True, crls=(crl,))


def pinned(credentials: Credentials, *trusted: Credentials) -> Credentials:
    pins = {spki_pin(entry.certificate): "pinned" for entry in trusted}
    return attrs.evolve(credentials, authorities=(), pins=pins)


# -- who is let in --------------------------------------------------------


def test_both_ends_know_each_other_after_the_handshake() -> None:
    client, server = pair()
    assert (client.peer_name, server.peer_name) == ("far.example", "near")
    assert client.alpn == server.alpn == b"lstp/1"
    assert client.peer_certificate == FAR.certificate
    assert client.require_peer({"far.example", "other"}) == "far.example"


def test_either_end_can_be_the_tls_client() -> None:
    client, server = pair(FAR, NEAR)
    assert (client.peer_name, server.peer_name) == ("near", "far.example")


def test_a_peer_that_is_not_an_allowed_one_is_named() -> None:
    client, _ = pair()
    with pytest.raises(PeerNotTrusted, match=r"the other end is far\.example, expected is a or b"):
        client.require_peer({"b", "a"})


def test_the_own_key_at_the_other_end_is_noticed() -> None:
    client, server = pair(NEAR, NEAR)
    assert client.peer_has_own_key
    assert server.peer_has_own_key
    renewed = AUTHORITY.issue("near").credentials
    assert not pair(NEAR, renewed)[0].peer_has_own_key


@pytest.mark.parametrize("stranger_is_client", [True, False])
def test_a_certificate_of_another_ca_is_refused_and_told_so(stranger_is_client: bool) -> None:
    stranger = Authority.create().issue("near").credentials
    far = attrs.evolve(FAR, authorities=(AUTHORITY.certificate,))
    # The stranger itself would trust the other end.
    stranger = attrs.evolve(stranger, authorities=(AUTHORITY.certificate,))
    if stranger_is_client:
        told, refusing = refused(stranger, far)
    else:
        refusing, told = refused(far, stranger)
    assert isinstance(refusing, PeerNotTrusted)
    assert str(refusing) == "the certificate of near was not issued by this end's CA"
    assert type(told) is AuthError
    assert "does not accept this end's certificate: it says 'unknown ca'" in str(told)


def test_an_expired_certificate_is_refused_with_its_date() -> None:
    old = AUTHORITY.issue("old", days=10, now=NOW - timedelta(days=40)).credentials
    ended = NOW - timedelta(days=30)
    told, refusing = refused(old, FAR)
    assert f"the certificate of old has expired on {ended:%Y-%m-%d}" in str(refusing)
    assert "it says 'certificate expired'" in str(told)


def test_a_certificate_that_is_not_valid_yet_is_refused_with_its_date() -> None:
    early = AUTHORITY.issue("early", now=NOW + timedelta(days=3)).credentials
    begin = NOW + timedelta(days=3) - timedelta(minutes=5)
    _, refusing = refused(early, FAR)
    assert f"the certificate of early is not valid before {begin:%Y-%m-%d}" in str(refusing)


def test_the_revoked_are_refused_in_both_roles_and_others_are_not() -> None:
    far = with_crl(FAR, NEAR)
    told, refusing = refused(NEAR, far)
    assert isinstance(refusing, Revoked)
    assert str(refusing) == "the certificate of near has been revoked"
    assert "it says 'certificate revoked'" in str(told)
    refusing, _ = refused(far, NEAR)
    assert isinstance(refusing, Revoked)
    pair(AUTHORITY.issue("other").credentials, far)


@pytest.mark.parametrize("kind", ["missing", "expired", "not valid yet", "of another CA"])
def test_nobody_gets_in_without_a_usable_revocation_list(kind: str) -> None:
    far = attrs.evolve(FAR, check_revocation=True)
    if kind == "expired":
        far = with_crl(FAR, age=2)
    elif kind == "not valid yet":
        far = with_crl(FAR, age=-2)
    elif kind == "of another CA":
        far = attrs.evolve(far, crls=(Authority.create().revocation_list({}),))
    _, refusing = refused(NEAR, far)
    assert isinstance(refusing, PeerNotTrusted)
    assert "so nobody is let in" in str(refusing)


def test_pinned_keys_are_trusted_without_a_common_ca() -> None:
    far = Authority.create().issue("far").credentials
    client, server = pair(pinned(NEAR, far), pinned(far, NEAR))
    assert (client.peer_name, server.peer_name) == ("far", "near")


def test_a_key_that_is_not_pinned_is_refused_even_from_the_own_ca() -> None:
    other = AUTHORITY.issue("far.example").credentials
    refusing, _ = refused(pinned(NEAR, other), FAR)
    assert str(refusing) == "the key of far.example is not one of the pinned keys"
    assert isinstance(refusing, PeerNotTrusted)


def test_a_pinned_key_in_an_expired_certificate_is_refused() -> None:
    old = AUTHORITY.issue("old", days=10, now=NOW - timedelta(days=40)).credentials
    refusing, _ = refused(pinned(NEAR, old), pinned(old, NEAR))
    assert "has expired" in str(refusing)


def test_ends_without_a_common_protocol_refuse_each_other() -> None:
    client, server = engine(NEAR, True, b"lstp/1"), engine(FAR, False, b"usher/1")
    complaints = converse(client, server)
    assert "it says 'no application protocol'" in str(complaints[client])
    assert str(complaints[server]) == "the other end does not speak usher/1 (ALPN)"
    assert not client.established
    with pytest.raises(RemoteProtocolError, match="ALPN"):
        server.read_into(memoryview(bytearray(10)))


def test_credentials_that_do_not_fit_together_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="TLS cannot use this identity"):
        TlsContext(attrs.evolve(NEAR, private_key=FAR.private_key), (b"lstp/1",))
    with pytest.raises(ConfigError, match="exactly one"):
        TlsContext(attrs.evolve(NEAR, authorities=()), (b"lstp/1",))
    with pytest.raises(ConfigError, match="works with a CA"):
        TlsContext(attrs.evolve(pinned(NEAR, FAR), check_revocation=True), (b"lstp/1",))


def test_a_problem_inside_the_verification_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(TlsContext, "_judge", broken)
    refusing, told = refused(NEAR, FAR)
    assert str(refusing) == "the other end's certificate cannot be read: RuntimeError"
    assert "does not accept this end's certificate" in str(told)
    assert str(told).endswith("it says 'internal error'")


def test_the_repr_of_credentials_shows_no_key() -> None:
    assert "private_key" not in repr(NEAR)


# -- data -----------------------------------------------------------------


def test_data_arrives_whole_in_both_directions() -> None:
    client, server = pair()
    data = bytes(range(256)) * 4000
    for source, target in ((client, server), (server, client)):
        source.write(memoryview(data))
        move(source, target)
        assert read(target) == data


def test_data_fed_in_single_bytes_and_read_in_small_pieces_is_the_same() -> None:
    client, server = pair()
    client.write(memoryview(b"first"))
    client.write(memoryview(b"second" * 50))
    got = b""
    for byte in output(client):
        server.feed(memoryview(bytes([byte])))
        got += read(server, 7)
    assert got == b"first" + b"second" * 50


def test_reading_fills_the_buffer_across_records_and_takes_no_more() -> None:
    client, server = pair()
    data = bytes(range(250)) * 400
    client.write(memoryview(data))
    move(client, server)
    buffer = bytearray(70_000)
    assert server.read_into(memoryview(buffer)) == 70_000
    assert bytes(buffer) == data[:70_000]
    assert server.read_into(memoryview(buffer)[:0]) == 0
    assert read(server) == data[70_000:]


def test_only_the_part_of_the_buffer_that_was_given_is_written() -> None:
    client, server = pair()
    client.write(memoryview(b"x" * 100))
    move(client, server)
    buffer = bytearray(30)
    assert server.read_into(memoryview(buffer)[10:20]) == 10
    assert bytes(buffer) == bytes(10) + b"x" * 10 + bytes(10)


def test_output_is_drained_in_pieces_of_any_size() -> None:
    client, server = pair()
    client.write(memoryview(b"y" * 50_000))
    buffer = memoryview(bytearray(333))
    got = b""
    while client.has_output:
        count = client.drain_into(buffer)
        server.feed(buffer[:count])
        got += read(server)
    assert client.drain_into(buffer) == 0
    assert got == b"y" * 50_000


def test_what_was_fed_and_not_read_comes_before_what_is_fed_next() -> None:
    client, server = pair()
    data = bytes(range(256)) * 200
    client.write(memoryview(data))
    wire = output(client)
    # Cut within the header of a record, within a record, and between two.
    for start, end in ((0, 3), (3, 20_000), (20_000, 16_406 * 2), (16_406 * 2, len(wire))):
        server.feed(memoryview(wire)[start:end])
    assert read(server) == data


def test_data_in_the_same_segment_as_the_end_of_the_handshake_is_not_lost() -> None:
    client, server = engine(NEAR, True), engine(FAR, False)
    client.handshake()
    move(client, server)
    server.handshake()
    move(server, client)
    assert client.handshake()
    client.write(memoryview(b"at once"))
    move(client, server)
    assert server.handshake()
    assert read(server) == b"at once"


def test_nothing_can_be_read_or_written_before_the_handshake_is_complete() -> None:
    client = engine(NEAR, True)
    with pytest.raises(LocalProtocolError):
        client.write(memoryview(b"x"))
    with pytest.raises(LocalProtocolError):
        client.read_into(memoryview(bytearray(1)))
    with pytest.raises(LocalProtocolError):
        _ = client.peer_name
    assert not client.has_output


def test_giving_memory_back_changes_nothing_at_any_moment() -> None:
    client, server = engine(NEAR, True), engine(FAR, False)
    for _ in range(3):
        for source, target in ((client, server), (server, client)):
            source.handshake()
            source.trim()
            move(source, target)
            target.trim()
    data = bytes(range(256)) * 2000
    for _ in range(3):
        client.write(memoryview(data))
        client.trim()
        wire = output(client)
        client.trim()
        server.feed(memoryview(wire)[:100_001])
        server.trim()
        got = read(server, 30_000)
        server.trim()
        server.feed(memoryview(wire)[100_001:])
        assert got + read(server) == data


# -- endings --------------------------------------------------------------


def test_close_notify_ends_one_direction_and_leaves_the_other() -> None:
    client, server = pair()
    client.write(memoryview(b"last"))
    client.shutdown()
    move(client, server)
    assert read(server) == b"last"
    assert server.closed_cleanly
    assert server.describe_loss() == ""
    server.write(memoryview(b"answer"))
    move(server, client)
    assert read(client) == b"answer"
    assert not client.closed_cleanly
    with pytest.raises(LocalProtocolError):
        client.write(memoryview(b"more"))


def test_an_end_without_close_notify_is_told_apart() -> None:
    client, server = pair()
    client.write(memoryview(b"some"))
    move(client, server)
    assert read(server) == b"some"
    assert not server.closed_cleanly
    assert (
        server.describe_loss() == "the connection ended without close_notify: data may be missing"
    )
    assert engine(NEAR, True).describe_loss() == "the connection ended during the TLS handshake"


def test_tampered_data_ends_the_session_after_what_came_before_it() -> None:
    client, server = pair()
    client.write(memoryview(b"good"))
    move(client, server)
    client.write(memoryview(b"evil"))
    wire = bytearray(output(client))
    wire[-1] ^= 1
    server.feed(memoryview(wire))
    buffer = memoryview(bytearray(100))
    assert server.read_into(buffer) == 4
    assert bytes(buffer[:4]) == b"good"
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="TLS failed"):
            server.read_into(buffer)
    assert not server.closed_cleanly
    assert "TLS failed" in server.describe_loss()
    with pytest.raises(RemoteProtocolError, match="TLS failed"):
        server.write(memoryview(b"x"))
    move(server, client)
    with pytest.raises(RemoteProtocolError, match="it says 'bad record mac'"):
        client.read_into(buffer)


def test_a_dropped_record_is_noticed() -> None:
    client, server = pair()
    client.write(memoryview(b"one"))
    output(client)
    client.write(memoryview(b"two"))
    move(client, server)
    with pytest.raises(RemoteProtocolError):
        read(server)


def test_what_is_not_tls_is_refused() -> None:
    server = engine(FAR, False)
    server.feed(memoryview(b"GET / HTTP/1.1\r\nHost: far.example\r\n\r\n"))
    with pytest.raises(RemoteProtocolError, match="the other end does not speak TLS"):
        server.handshake()
    with pytest.raises(RemoteProtocolError, match="the other end does not speak TLS"):
        server.handshake()


def test_bytes_behind_the_end_are_not_kept() -> None:
    client, server = pair()
    client.shutdown()
    move(client, server)
    assert read(server) == b""
    server.feed(memoryview(b"z" * 1000))
    assert read(server) == b""
    assert server.closed_cleanly
