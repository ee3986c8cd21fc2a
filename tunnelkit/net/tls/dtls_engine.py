"""One DTLS association, without sockets and clocks: datagrams in, datagrams out (row W1).

OpenSSL's memory buffers have no borders between datagrams, so one is fed at a
time, and what comes out is cut at the records and packed again.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

from tunnelkit.errors import LocalProtocolError, RemoteProtocolError, TunnelkitError
from tunnelkit.net.tls.context import Listing, certificate_name, listings
from tunnelkit.net.tls.dtls_context import MTU, DtlsContext
from tunnelkit.net.tls.engine import explain
from tunnelkit.wire.dtls_records import epoch, records

MAX_DATAGRAM = 16_384
"""Bytes of application data in one record."""
_LARGEST_FEED = 17_000


class DtlsEngine:
    """One association in either role.

    After every call there may be datagrams to send, and the timer may have changed. Once the
    association has failed or was closed, ``over`` is true and nothing more happens.
    """

    __slots__ = ("_ahead", "_connection", "_verdict", "client", "established", "failure", "over")

    def __init__(
        self, context: DtlsContext, client: bool, session: SSL.Session | None = None
    ) -> None:
        """``session``: what a client's earlier association has got, to resume it (row W8)."""
        connection, self._verdict = context.new_connection(client, session)
        self._connection: Any = connection
        self._ahead = 0
        """What has to be added to the sequence numbers of records in clear."""
        self.client = client
        self.established = False
        self.over = False
        self.failure: TunnelkitError | None = None
        """Why it is over, if it did not end in order."""
        if client:
            self._shake_hands()

    def accept(self, hello: bytes) -> None:
        """Begin as server, with a hello whose cookie has been checked."""
        # The first record has to have the number of the hello's (RFC 6347, 4.2.1); OpenSSL begins
        # with 1. A device whose first hello was lost would take it for the cookie, repeated.
        self._ahead = max(0, int.from_bytes(hello[5:11], "big") - 1)
        self._connection.bio_write(hello)
        try:
            self._connection.DTLSv1_listen()
        except SSL.Error as error:
            self._fail(RemoteProtocolError("the hello cannot be used") if not error.args else error)
            return
        self._shake_hands()

    def receive(self, datagram: bytes | memoryview) -> list[bytes]:
        """Take one datagram; the application's datagrams in it."""
        if self.over or not datagram or len(datagram) > _LARGEST_FEED:
            return []
        self._connection.bio_write(bytes(datagram))
        if not self.established:
            self._shake_hands()
            if not self.established:
                return []
        received = []
        try:
            while True:
                received.append(self._connection.recv(MAX_DATAGRAM))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            # Its close_notify; ours goes back.
            self.close()
        except SSL.Error as error:
            self._fail(error)
        return received

    def send(self, data: bytes) -> None:
        """Send one datagram of the application; `LocalProtocolError` if it cannot be."""
        if not self.established or len(data) > MAX_DATAGRAM:
            raise LocalProtocolError(
                f"{len(data)} bytes cannot be sent"
                + ("" if self.established else " before the handshake is complete")
            )
        if self.over or not data:
            return
        try:
            self._connection.send(data)
        except SSL.Error as error:
            self._fail(error)

    def close(self) -> None:
        """Say close_notify; nothing is read any more."""
        if self.over:
            return
        self.over = True
        if self.established:
            try:
                self._connection.shutdown()
            except SSL.Error:
                pass  # the other end has said something that cannot be read: it is over anyway

    def datagrams_to_send(self) -> list[bytes]:
        """What has to go out now, each at most `MTU` bytes where its records allow it."""
        ready: list[bytes] = []
        packed = b""
        while True:
            try:
                out = self._connection.bio_read(65_536)
            except SSL.Error:
                break
            for record in records(out):
                if self._ahead and not epoch(record):
                    record = self._moved(record)
                if packed and len(packed) + len(record) > MTU:
                    ready.append(packed)
                    packed = b""
                packed += record
        if packed:
            ready.append(packed)
        return ready

    def _moved(self, record: memoryview) -> memoryview:
        number = int.from_bytes(record[5:11], "big") + self._ahead
        return memoryview(bytes(record[:5]) + number.to_bytes(6, "big") + bytes(record[11:]))

    def timeout(self) -> float | None:
        """Seconds until `timed_out` has to be called; None: never."""
        if self.over or self.established:
            return None
        left: float | None = self._connection.DTLSv1_get_timeout()
        return left

    def timed_out(self) -> None:
        """Repeat what was not answered."""
        if self.over:
            return
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._fail(error)

    @property
    def peer_listings(self) -> tuple[Listing, ...]:
        """How revocation lists name the other end's certificates; empty: it showed none."""
        return listings(self._connection.get_verified_chain(as_cryptography=True) or ())

    @property
    def peer_name(self) -> str:
        """The name in the other end's certificate; empty: it showed none."""
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        return "" if certificate is None else certificate_name(certificate)

    @property
    def cipher(self) -> str:
        """What protects it, in OpenSSL's words."""
        return self._connection.get_cipher_name() or ""

    @property
    def session(self) -> SSL.Session | None:
        """What a client can resume it with."""
        session: SSL.Session | None = self._connection.get_session()
        return session

    def _shake_hands(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._fail(error)
        else:
            self.established = True

    def _fail(self, error: SSL.Error | TunnelkitError) -> None:
        self.over = True
        problem = explain(error) if isinstance(error, SSL.Error) else error
        self.failure = self._verdict.refusal or problem
