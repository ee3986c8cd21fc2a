"""From a meeting to a connection: TLS between the two ends, their prologue inside it, then the mux.

This is the same for every rendezvous: what differs is in the meeting
(``tls_client``, and the prologue that is spoken inside TLS before anything else).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from tunnelkit.core.mux.contract import TunnelMux
from tunnelkit.core.prologue import Prologue, Refused, Verified
from tunnelkit.errors import (
    AuthError,
    Code,
    PeerNotTrusted,
    RemoteProtocolError,
    TunnelkitError,
)
from tunnelkit.interfaces import IMeeting
from tunnelkit.net.channels.connection import ConnectionOwner, TunnelConnection
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.net.tls.engine import TlsEngine
from tunnelkit.net.tls.stream import TlsStream

MakeMux = Callable[[bool, bytes, float], TunnelMux]
"""``(master, alpn, now)`` -> mux; ``alpn`` is what TLS agreed on, empty if nothing."""


def secure(
    shared: Shared,
    meeting: IMeeting,
    context: TlsContext,
    peers: Iterable[str],
    make_mux: MakeMux,
    owner: ConnectionOwner,
) -> Deferred[TunnelConnection]:
    """Authenticate the other end of ``meeting``, which must be one of ``peers``.

    No ``peers``, where ``context`` trusts pinned keys: whoever has one of the
    keys. Then the name that the configuration gives to the key counts, and not
    the one in the certificate (K3, X28).

    The connection is started when the Deferred fires; ``owner.connection_up`` is
    told once channels can be opened. Fails with `AuthError`, `ProtocolError`
    or `DialError`; the connection is closed then.
    """
    return _Securing(shared, meeting, context, frozenset(peers), make_mux, owner).done


class _Securing:
    """The sink of the stream until the prologue is over."""

    def __init__(
        self,
        shared: Shared,
        meeting: IMeeting,
        context: TlsContext,
        peers: frozenset[str],
        make_mux: MakeMux,
        owner: ConnectionOwner,
    ) -> None:
        self._shared = shared
        self._meeting = meeting
        self._peers = peers
        self._by_key = bool(context.credentials.pins)
        self._make_mux = make_mux
        self._owner = owner
        self._prologue: Prologue | None = None
        self._timer = Timer(shared.reactor, self._deadline)
        self.done: Deferred[TunnelConnection] = Deferred(self._cancel)
        engine = TlsEngine(context, meeting.tls_client)
        if not meeting.announced:
            # No prologue will tell the other end why it is refused.
            engine.expect(self._peers)
        self._stream = TlsStream(shared, meeting.carrier, engine, self)
        self._stream.start(meeting.leftover)

    def tls_ready(self) -> None:
        engine = self._stream.engine
        now = self._shared.reactor.seconds()
        name = engine.identity
        if self._by_key and self._peers:
            engine.require_peer(self._peers)
        # What was announced in clear is compared with the certificate, whatever its key is called.
        peers = frozenset({engine.peer_name}) if self._by_key else self._peers
        self._prologue = self._meeting.prologue(
            engine.peer_name, peers, engine.peer_has_own_key, engine.export, now
        )
        if self._prologue is None:
            if not self._by_key:
                engine.require_peer(self._peers)
            if engine.peer_has_own_key:
                raise PeerNotTrusted("the other end has this end's own key")
            self._begin(name, b"")
            return
        self._stream.send(memoryview(self._prologue.data_to_send()))
        due = self._prologue.next_deadline()
        if due is not None and not self.done.called:
            self._timer.start_at(due)

    def tls_received(self, view: memoryview) -> None:
        assert self._prologue is not None
        if self.done.called:
            return
        try:
            self._handle(self._prologue.receive(view, self._shared.reactor.seconds()))
        except RemoteProtocolError as error:
            answer = self._prologue.data_to_send()
            if answer and self._stream.writable:
                self._stream.send(memoryview(answer))
            self._fail(error)

    def tls_writable(self) -> None:
        """The prologue is one short message each way: nothing waits."""

    def tls_lost(self, reason: TunnelkitError | str, clean: bool) -> None:
        if isinstance(reason, TunnelkitError):
            self._fail(reason)
        else:
            self._fail(AuthError(f"the other end closed the connection unproved: {reason}"))

    def _deadline(self) -> None:
        if self._prologue is not None:
            self._handle(self._prologue.deadline_passed(self._shared.reactor.seconds()))

    def _handle(self, events: Iterable[object]) -> None:
        for event in events:
            if isinstance(event, Refused):
                self._fail(_refusal(event.code, event.reason))
            elif isinstance(event, Verified):
                named = self._stream.engine.identity if self._by_key else event.peer
                self._begin(named, event.leftover)

    def _begin(self, peer: str, leftover: bytes) -> None:
        """The other end is ``peer``, beyond doubt."""
        self._timer.stop()
        now = self._shared.reactor.seconds()
        mux = self._make_mux(self._meeting.tls_client, self._stream.engine.alpn, now)
        connection = TunnelConnection(self._shared, self._stream, mux, peer, self._owner)
        self.done.callback(connection)
        connection.start(leftover)

    def _cancel(self, _done: Any) -> None:
        self._timer.stop()
        self._stream.abort()

    def _fail(self, error: TunnelkitError) -> None:
        self._timer.stop()
        self._stream.close()
        if not self.done.called:
            self.done.errback(error)


def _refusal(code: Code, reason: str) -> TunnelkitError:
    text = f"the other end says {code}: {reason}"
    if code is Code.TIMED_OUT:
        return AuthError(reason)
    return RemoteProtocolError(text, code=code)
