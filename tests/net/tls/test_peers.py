"""The engine against Python's own ssl module, a TLS implementation that is not ours."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tunnelkit.errors import PeerNotTrusted, RemoteProtocolError, TunnelkitError
from tunnelkit.net.tls.engine import TlsContext, TlsEngine
from tunnelkit.policy.identity import identity_pem
from tunnelkit.policy.keys import Authority

AUTHORITY = Authority.create()
OURS = AUTHORITY.issue("ours.example")
CONTEXT = TlsContext(OURS.credentials, (b"lstp/1",))


class Stranger:
    """Python's ssl on memory BIOs."""

    def __init__(
        self, context: ssl.SSLContext, client: bool, session: ssl.SSLSession | None = None
    ) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=not client,
            server_hostname="ours.example" if client else None,
            session=session,
        )

    def handshake(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


def stranger_context(tmp_path: Path, client: bool, certificate: bool = True) -> ssl.SSLContext:
    """A context that loads the identity file as it is."""
    path = tmp_path / "stranger.pem"
    path.write_bytes(identity_pem(AUTHORITY.issue("stranger")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if client else ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(path)
    if certificate:
        context.load_cert_chain(path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["lstp/1"])
    return context


def converse(ours: TlsEngine, stranger: Stranger) -> TunnelkitError | ssl.SSLError | None:
    """Handshake in both directions; what went wrong."""
    buffer = memoryview(bytearray(20_000))
    wrong: TunnelkitError | ssl.SSLError | None = None
    for _ in range(4):
        for step in (ours.handshake, stranger.handshake):
            try:
                step()
            except (TunnelkitError, ssl.SSLError) as error:
                wrong = wrong or error
            stranger.incoming.write(buffer[: ours.drain_into(buffer)])
            ours.feed(memoryview(stranger.outgoing.read()))
    return wrong


@pytest.mark.parametrize("stranger_is_client", [True, False])
def test_data_and_close_notify_pass_both_ways(tmp_path: Path, stranger_is_client: bool) -> None:
    ours = TlsEngine(CONTEXT, client=not stranger_is_client)
    stranger = Stranger(stranger_context(tmp_path, stranger_is_client), stranger_is_client)
    assert converse(ours, stranger) is None
    assert ours.peer_name == "stranger"
    assert stranger.tls.version() == "TLSv1.3"
    assert stranger.tls.selected_alpn_protocol() == "lstp/1"
    buffer = memoryview(bytearray(20_000))
    stranger.tls.write(b"question")
    ours.feed(memoryview(stranger.outgoing.read()))
    assert bytes(buffer[: ours.read_into(buffer)]) == b"question"
    ours.write(memoryview(b"answer"))
    ours.shutdown()
    stranger.incoming.write(buffer[: ours.drain_into(buffer)])
    assert stranger.tls.read(100) == b"answer"
    assert stranger.tls.read(100) == b""
    stranger.tls.unwrap()
    ours.feed(memoryview(stranger.outgoing.read()))
    assert ours.read_into(buffer) == 0
    assert ours.closed_cleanly


def test_a_client_without_a_certificate_is_refused(tmp_path: Path) -> None:
    stranger = Stranger(stranger_context(tmp_path, True, certificate=False), True)
    wrong = converse(TlsEngine(CONTEXT, client=False), stranger)
    assert isinstance(wrong, PeerNotTrusted)
    assert str(wrong) == "the other end sent no certificate"


def test_a_client_below_tls_1_3_is_refused(tmp_path: Path) -> None:
    context = stranger_context(tmp_path, True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    wrong = converse(TlsEngine(CONTEXT, client=False), Stranger(context, True))
    assert isinstance(wrong, RemoteProtocolError)
    assert str(wrong) == "the other end does not offer TLS 1.3"


def test_a_server_below_tls_1_3_is_refused(tmp_path: Path) -> None:
    context = stranger_context(tmp_path, False)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    ours = TlsEngine(CONTEXT, client=True)
    wrong = converse(ours, Stranger(context, False))
    assert wrong is not None
    assert not ours.established
    with pytest.raises(RemoteProtocolError, match="it says 'protocol version'"):
        ours.handshake()


def test_no_session_is_ever_resumed(tmp_path: Path) -> None:
    context = stranger_context(tmp_path, True)
    session: ssl.SSLSession | None = None
    for _ in range(3):
        stranger = Stranger(context, True, session)
        ours = TlsEngine(CONTEXT, client=False)
        assert converse(ours, stranger) is None
        assert not stranger.tls.session_reused
        # Reading lets the client take any ticket that was sent.
        with pytest.raises(ssl.SSLWantReadError):
            stranger.tls.read(1)
        session = stranger.tls.session
    assert ours.peer_name == "stranger"
