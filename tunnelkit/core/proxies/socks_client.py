"""The client's side of a SOCKS 4, 4a or 5 handshake, sans-IO (N1; RFC 1928, RFC 1929)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from tunnelkit.core.proxies.proxy_client import (
    HANDSHAKE_LIMIT,
    NO_EVENTS,
    Established,
    ProxyEvent,
    Refused,
    TimedOut,
)
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire import socks


class _State(Enum):
    METHOD = "waiting for the choice of method"
    VERDICT = "waiting for the answer to the password"
    REPLY = "waiting for the reply"
    OVER = "over"


class SocksClient:
    """Asks one SOCKS server to connect to one destination.

    ``version`` is 4 (host must be an IPv4 address), ``"4a"`` or 5. ``user`` is
    the user id of SOCKS 4; with SOCKS 5 it needs ``password``, and then both
    are offered together with `anonymous` if that is True.
    Raises `LocalProtocolError` for what the version cannot carry.
    """

    __slots__ = (
        "_credentials",
        "_deadline",
        "_inbound",
        "_limit",
        "_methods",
        "_outbound",
        "_request",
        "_state",
        "_version",
        "leftover",
    )

    def __init__(
        self,
        version: int | str,
        host: str,
        port: int,
        now: float,
        *,
        user: bytes = b"",
        password: bytes | None = None,
        anonymous: bool = True,
        limit: float = HANDSHAKE_LIMIT,
    ) -> None:
        self.leftover = b""
        self._inbound = b""
        self._limit = limit
        self._deadline: float | None = now + limit
        self._version = version
        self._credentials: socks.Credentials | None = None
        self._methods: tuple[int, ...] = ()
        if version == 5:
            self._request = socks.encode_request5(socks.Command.CONNECT, host, port)
            if anonymous:
                self._methods += (socks.NO_AUTHENTICATION,)
            if password is not None:
                self._credentials = socks.Credentials(user, password)
                socks.encode_credentials(self._credentials)  # too long: say so before dialling
                self._methods += (socks.USER_PASSWORD,)
            self._outbound = socks.encode_greeting(self._methods)
            self._state = _State.METHOD
        elif version in (4, "4a"):
            self._request = socks.encode_request4(
                socks.Command.CONNECT, host, port, user, names=version == "4a"
            )
            self._outbound = self._request
            self._state = _State.REPLY
        else:
            raise LocalProtocolError(f"there is no SOCKS {version}")

    def receive(self, data: bytes, now: float) -> Sequence[ProxyEvent]:
        """Take bytes from the server; raises `RemoteProtocolError` if it does not speak SOCKS."""
        if self._state is _State.OVER:
            raise LocalProtocolError("the handshake is over: these bytes are the inner protocol's")
        self._inbound += data
        while True:
            state = self._state
            try:
                events = _STEPS[state](self)
            except RemoteProtocolError as error:
                self._finish()
                error.state = state.value
                raise
            if events or self._state is state:
                return events

    def data_to_send(self) -> bytes:
        """What is to be sent to the server now; empties the queue."""
        data, self._outbound = self._outbound, b""
        return data

    def next_deadline(self) -> float | None:
        """When the server's time is over."""
        return self._deadline

    def deadline_passed(self, now: float) -> Sequence[ProxyEvent]:
        """Give up if the server's time is over."""
        if self._deadline is None or now < self._deadline:
            return NO_EVENTS
        mute = self._state is _State.METHOD
        self._finish()
        return (TimedOut(self._limit, mute),)

    def _finish(self) -> None:
        self._state = _State.OVER
        self._deadline = None

    def _take(self, size: int) -> None:
        self._inbound = self._inbound[size:]

    def _refused(self, code: Code, said: str, login: bool = False) -> Sequence[ProxyEvent]:
        self._finish()
        return (Refused(code, said, login),)

    def _method(self) -> Sequence[ProxyEvent]:
        parsed = socks.parse_method(self._inbound)
        if parsed is None:
            return NO_EVENTS
        method, size = parsed
        self._take(size)
        if method == socks.NO_ACCEPTABLE_METHOD:
            return self._refused(
                Code.NOT_ALLOWED,
                "it does not take a user name and password"
                if self._methods == (socks.USER_PASSWORD,)
                else "it wants a user name and password"
                if self._credentials is None
                else "it wants another way to log in than user name and password",
                login=True,
            )
        if method not in self._methods:
            raise RemoteProtocolError(f"it chose method {method}, which was not offered")
        if method == socks.USER_PASSWORD and self._credentials is not None:
            self._outbound += socks.encode_credentials(self._credentials)
            self._state = _State.VERDICT
        else:
            self._outbound += self._request
            self._state = _State.REPLY
        return NO_EVENTS

    def _verdict(self) -> Sequence[ProxyEvent]:
        parsed = socks.parse_verdict(self._inbound)
        if parsed is None:
            return NO_EVENTS
        accepted, size = parsed
        self._take(size)
        if not accepted:
            return self._refused(
                Code.NOT_ALLOWED, "it does not accept the user name and password", login=True
            )
        self._outbound += self._request
        self._state = _State.REPLY
        return NO_EVENTS

    def _reply(self) -> Sequence[ProxyEvent]:
        five = self._version == 5
        parsed = (socks.parse_reply5 if five else socks.parse_reply4)(self._inbound)
        if parsed is None:
            return NO_EVENTS
        reply, size = parsed
        if reply.code != (socks.Reply5.SUCCEEDED if five else socks.GRANTED4):
            meaning = socks.meaning_of_reply5 if five else socks.meaning_of_reply4
            said, code = meaning(reply.code)
            return self._refused(code, said)
        self.leftover = self._inbound[size:]
        self._inbound = b""
        self._finish()
        return (Established(reply.host, reply.port),)


_STEPS = {
    _State.METHOD: SocksClient._method,
    _State.VERDICT: SocksClient._verdict,
    _State.REPLY: SocksClient._reply,
}
