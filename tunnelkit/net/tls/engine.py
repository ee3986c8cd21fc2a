"""TLS between tunnel ends, driven by hand over whole batches of bytes.

`TlsEngine` knows no socket: ciphertext goes in by `feed` and comes out by
`drain_into`. Which end is TLS client is decided at run time, not by who dialled.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from typing import Any, NoReturn

from cryptography import x509
from OpenSSL import SSL

from tunnelkit.errors import (
    AuthError,
    LocalProtocolError,
    PeerNotTrusted,
    RemoteProtocolError,
    TunnelkitError,
)
from tunnelkit.net.tls.context import (
    NAME_SCHEME,
    Credentials,
    NoCommonProtocol,
    PrivateKey,
    TlsContext,
    certificate_name,
    describe_certificate,
    judge_name,
    moment,
    spki_pin,
)
from tunnelkit.net.tls.openssl_calls import Calls

__all__ = [
    "Credentials",
    "NAME_SCHEME",
    "PrivateKey",
    "TlsContext",
    "TlsEngine",
    "certificate_name",
    "describe_certificate",
    "moment",
    "spki_pin",
]

_ALERT = re.compile(r"\balert (.+)$")
_NAME_ALERT = "internal error"
"""What OpenSSL says where its own checks pass and this end's fail: name, pin, use."""
_CERTIFICATE_ALERTS = frozenset(
    {
        "access denied",
        "bad certificate",
        "certificate expired",
        "certificate required",
        "certificate revoked",
        "certificate unknown",
        _NAME_ALERT,
        "unknown ca",
        "unsupported certificate",
    }
)


class TlsEngine:
    """One TLS session; bytes in, bytes out.

    After every call, including one that raised, there may be output for the
    peer (`has_output`): alerts and key updates are answered by themselves.

    Every failure is final and raised again by later calls: `PeerNotTrusted`
    or `Revoked` (this end refuses), `AuthError` (the other end refuses; in TLS
    1.3 the client learns it only after its handshake, from `read_into`),
    `RemoteProtocolError` (anything else).
    """

    __slots__ = (
        "_connection",
        "_context",
        "_failure",
        "_sending",
        "_verdict",
        "alpn",
        "calls",
        "client",
        "closed_cleanly",
        "drain_into",
        "established",
        "peer_certificate",
    )

    def __init__(self, context: TlsContext, client: bool) -> None:
        """``client``: this end is the TLS client and speaks first."""
        self._context = context
        self._connection, self._verdict = context.new_connection(client)
        self.calls = Calls(self._connection)
        """For ``Calls.decrypt`` and ``Calls.encrypt``, one step for a message each, while it is
        ``established`` and `shutdown` has not been called. What stopped them is told by
        `read_into` and `write_failed`."""
        self.drain_into = self.calls.drain_into
        """Move ciphertext for the peer into a buffer; bytes moved, 0 if there is none. Drain
        everything before the next `write`: what stays is moved in memory by it."""
        self._failure: TunnelkitError | None = None
        self._sending = False
        self.client = client
        self.established = False
        """The handshake is complete and the peer is trusted."""
        self.closed_cleanly = False
        """The peer's close_notify has been read: its data is complete (X11)."""
        self.peer_certificate: x509.Certificate | None = None
        """Set once ``established``; None where the context lets a TLS client come without."""
        self.alpn = b""
        """The protocol agreed on; set once ``established``."""

    # -- handshake --------------------------------------------------------

    def expect(self, names: Collection[str]) -> None:
        """Let the handshake itself fail if the peer's `identity` is none of ``names``: the peer is
        told by an alert, which nothing can do later."""
        self._verdict.expected = frozenset(names)

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is complete and the peer is trusted."""
        if self.established:
            return True
        self._raise_failure()
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except NoCommonProtocol:
            self._fail(RemoteProtocolError(self._no_common_protocol()))
        except SSL.Error as error:
            self._fail(self._verdict.refusal or explain(error))
        widened: Any = self._connection
        certificate = widened.get_peer_certificate(as_cryptography=True)
        # The library guarantees both; checked again because everything rests on it.
        anonymous = certificate is None and self._context.peer_optional and not self.client
        if not anonymous and (certificate is None or not self._verdict.approved):
            self._refuse(self._verdict.refusal or PeerNotTrusted("the other end is not verified"))
        alpn = self._connection.get_alpn_proto_negotiated()
        if alpn not in self._context.alpn and (alpn or not self._context.alpn_optional):
            self._refuse(RemoteProtocolError(self._no_common_protocol()))
        self.peer_certificate = certificate
        self.alpn = alpn
        self.established = self._sending = True
        return True

    def _no_common_protocol(self) -> str:
        wanted = " or ".join(name.decode("ascii", "replace") for name in self._context.alpn)
        return f"the other end does not speak {wanted} (ALPN)"

    @property
    def peer_chain(self) -> tuple[x509.Certificate, ...]:
        """The peer's certificate and those above it, as far as they were verified.

        Made anew at each call: sessions that live for days do not keep it.
        """
        if self.peer_certificate is None:
            return ()
        widened: Any = self._connection
        return tuple(widened.get_verified_chain(as_cryptography=True) or ())

    @property
    def peer_name(self) -> str:
        """The name in the verified peer's certificate (K4); raises `PeerNotTrusted` if it has none.

        Who holds a pinned key may have written any name into it: see `identity`.
        """
        return certificate_name(self._peer())

    @property
    def identity(self) -> str:
        """Who the verified peer is here: the name given to its pin, else its `peer_name` (X28)."""
        pins = self._context.credentials.pins
        return pins[spki_pin(self._peer())] if pins else self.peer_name

    @property
    def peer_has_own_key(self) -> bool:
        """The other end holds this end's own key: a loop, or a copied identity (X5)."""
        return spki_pin(self._peer()) == self._context.own_pin

    def require_peer(self, allowed: Collection[str]) -> str:
        """The peer's `identity` if it is one of ``allowed``; otherwise raises `PeerNotTrusted`."""
        name = self.identity
        refusal = judge_name(name, allowed)
        if refusal is not None:
            raise refusal
        return name

    def export(self, label: bytes, context: bytes) -> bytes:
        """32 bytes that only the two ends of this TLS have, see `Export` (RFC 8446 7.5)."""
        return self._connection.export_keying_material(label, 32, context)

    def _peer(self) -> x509.Certificate:
        if self.peer_certificate is None:
            raise LocalProtocolError("the TLS handshake is not complete")
        return self.peer_certificate

    # -- ciphertext -------------------------------------------------------

    def feed(self, data: memoryview) -> None:
        """Take ciphertext from the peer, any amount. It may be read where it is: ``data`` must not
        change before `handshake` has wanted more, or `read_into` has not filled its buffer."""
        # A session that has failed or ended reads no more: nothing may pile up for it.
        if len(data) and self._failure is None and self.calls.stopped is None:
            self.calls.feed(data)

    @property
    def has_output(self) -> bool:
        """There is ciphertext for the peer."""
        return self.calls.has_output()

    def trim(self) -> None:
        """Give back the memory that the largest batch so far has left behind.

        For the moment when a session falls idle: about 1.3 times the largest
        undrained `write`. Does nothing while bytes wait.
        """
        self.calls.trim()

    # -- plaintext --------------------------------------------------------

    def read_into(self, buffer: memoryview) -> int:
        """Decrypt what has been fed into ``buffer``, as much as fits; bytes placed.

        0: nothing now, or, if ``closed_cleanly``, never again. Nothing is
        decrypted beyond what fits, except the rest of one record (16 KiB).
        """
        if not self.established:
            self._raise_failure()
            raise LocalProtocolError("read before the TLS handshake is complete")
        calls = self.calls
        filled = calls.read_into(buffer) if calls.stopped is None else 0
        if calls.stopped is not None:
            self._stopped(calls.stopped)
            if not filled:
                self._raise_failure()
        return filled

    @property
    def stopped(self) -> bool:
        """Nothing more can be read, ever: the next `read_into` tells why."""
        return self.calls.stopped is not None

    def write(self, data: memoryview) -> None:
        """Encrypt all of ``data``, any amount, in records of 16 KiB; the result is to be drained.

        One call with everything that is ready is much cheaper than several.
        """
        if not self._sending:
            self._raise_failure()
            raise LocalProtocolError("write outside of an established TLS session")
        if len(data) and not self.calls.write(data):
            self.write_failed()

    def write_failed(self) -> None:
        """``Calls.encrypt`` or ``Calls.write`` failed: raises why."""
        stopped = self.calls.stopped
        assert stopped is not None
        self._stopped(stopped)
        self._raise_failure()

    def shutdown(self) -> None:
        """Queue close_notify: this end has written everything. Reading goes on."""
        if self._sending:
            self._sending = False
            try:
                self._connection.shutdown()
            except SSL.Error:
                # Only possible after a failure, which has an alert of its own on the way.
                pass

    # -- endings ----------------------------------------------------------

    def describe_loss(self) -> str:
        """What it means that the carrier ends now; empty if the peer had closed cleanly."""
        if self.closed_cleanly:
            return ""
        if self._failure is not None:
            return str(self._failure)
        if not self.established:
            return "the connection ended during the TLS handshake"
        return "the connection ended without close_notify: data may be missing"

    def _stopped(self, error: SSL.Error) -> None:
        if isinstance(error, SSL.ZeroReturnError):
            self.closed_cleanly = True
        else:
            self._failure = explain(error)
            self._sending = False

    def _refuse(self, reason: TunnelkitError) -> NoReturn:
        try:
            self._connection.shutdown()
        except SSL.Error:
            pass
        self._fail(reason)

    def _fail(self, reason: TunnelkitError) -> NoReturn:
        self._failure = reason
        # A copy, here and below: the traceback of the kept one would keep the session in memory.
        raise copy.copy(reason) from None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise copy.copy(self._failure) from None


def explain(error: SSL.Error) -> TunnelkitError:
    """The library's error as one of ours."""
    reasons = [str(entry[-1]) for entry in (error.args[0] if error.args else ())] or ["no reason"]
    for reason in reasons:
        if alert := _ALERT.search(reason):
            says = alert[1]
            if says in _CERTIFICATE_ALERTS:
                perhaps = (
                    ", perhaps because of the name or key in it" if says == _NAME_ALERT else ""
                )
                return AuthError(
                    f"the other end does not accept this end's certificate{perhaps}: "
                    f"it says '{says}'"
                )
            return RemoteProtocolError(f"the other end ended TLS: it says '{says}'")
        if reason == "peer did not return a certificate":
            return PeerNotTrusted("the other end sent no certificate")
        if reason == "unsupported protocol":
            return RemoteProtocolError("the other end does not offer TLS 1.3")
        if reason in ("wrong version number", "http request", "packet length too long"):
            return RemoteProtocolError("the other end does not speak TLS")
    return RemoteProtocolError(f"TLS failed: {reasons[0]}")
