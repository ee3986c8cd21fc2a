"""The server's side of SOCKS 4, 4a and 5, sans-IO (F1; RFC 1928, RFC 1929)::

    client                      server                         front end
    greeting, methods      ->
                           <-   method
    user and password      ->                                  check(user, password)
                           <-   verdict
    request                ->                                  SocksRequest event
                           <-   reply                          granted() or refused()
                           <-   second reply (BIND only)       granted() or refused()

SOCKS 4 and 4a begin with the request.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import attrs

from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire import socks

HANDSHAKE_LIMIT = 10.0
"""Seconds from the connection to the complete request (X7)."""

Check = Callable[[bytes, bytes], bool]
"""Says whether a user name and password are right."""


@attrs.frozen
class SocksRequest:
    """A client asks for something; answer with ``granted`` or ``refused``.

    What it sent behind the request is in ``leftover``; what it sends from now
    on is the application's and is not for `SocksServer.receive`.
    """

    command: socks.Command
    host: str
    """IP address or name; BIND: the expected peer; UDP_ASSOCIATE: the client's own address."""
    port: int
    user: str = ""
    """Who logged in (SOCKS 5), or the unverified user id (SOCKS 4), with any characters in it."""


@attrs.frozen
class Ended:
    """It comes to nothing: send what ``data_to_send`` has, then close the connection."""

    code: Code
    reason: str


Event = SocksRequest | Ended
NO_EVENTS: Sequence[Event] = ()


def check_against(users: Mapping[str, str]) -> Check:
    """A check of user name and password that takes as long for any wrong answer."""
    known = [(user.encode(), password.encode()) for user, password in users.items()]

    def check(user: bytes, password: bytes) -> bool:
        right = False
        for known_user, known_password in known:
            right |= hmac.compare_digest(user, known_user) & hmac.compare_digest(
                password, known_password
            )
        return right

    return check


class _State(Enum):
    START = "waiting for the first message"
    CREDENTIALS = "waiting for user name and password"
    REQUEST4 = "waiting for the SOCKS 4 request"
    REQUEST5 = "waiting for the SOCKS 5 request"
    ASKED = "request received"
    LISTENING = "listening for BIND"
    OVER = "over"


class SocksServer:
    """One client's handshake.

    With ``check`` a SOCKS 5 client has to log in, and SOCKS 4 is refused, since
    its user id proves nothing. Remote input raises nothing: it ends with `Ended`.
    """

    __slots__ = (
        "_check",
        "_command",
        "_deadline",
        "_inbound",
        "_limit",
        "_outbound",
        "_state",
        "_user",
        "_version",
        "leftover",
    )

    def __init__(
        self, now: float, check: Check | None = None, *, limit: float = HANDSHAKE_LIMIT
    ) -> None:
        self.leftover = b""
        """After `SocksRequest`: bytes that came behind it. They belong to the application."""
        self._check = check
        self._limit = limit
        self._deadline: float | None = now + limit
        self._inbound = b""
        self._outbound = b""
        self._state = _State.START
        self._version = 0
        self._user = ""
        self._command = socks.Command.CONNECT

    def receive(self, data: bytes, now: float) -> Sequence[Event]:
        """Take bytes from the client, cut anywhere, until `SocksRequest` or `Ended`."""
        if self._state not in _STEPS:
            raise LocalProtocolError(f"no bytes are expected here: {self._state.value}")
        self._inbound += data
        while True:
            state = self._state
            try:
                events = _STEPS[state](self)
            except RemoteProtocolError as error:
                return self._end(Code.PROTOCOL, f"{error} ({state.value})")
            if events or self._state is state:
                return events

    def granted(self, host: str = "0.0.0.0", port: int = 0) -> None:
        """Answer the request: done, and this is the address of our socket for it.

        CONNECT: of the socket that is connected; UDP ASSOCIATE: where to send datagrams. BIND is
        answered twice: with the listener's address, then with that of who connected to it.
        """
        self._expect_answer()
        # A zone (%eth0) means nothing to the client; an unknown address is sent as zeros.
        host = host.partition("%")[0] or "0.0.0.0"
        self._reply(socks.Reply5.SUCCEEDED, socks.GRANTED4, host, port)
        first_of_two = self._command is socks.Command.BIND and self._state is _State.ASKED
        self._state = _State.LISTENING if first_of_two else _State.OVER

    def refused(self, code: Code) -> None:
        """Answer the request: no. Send ``data_to_send``, then close."""
        self._expect_answer()
        self._reply(socks.reply5_for(code), socks.REJECTED4)
        self._state = _State.OVER

    def unsupported(self) -> None:
        """Answer the request: this server does not do such requests. Send, then close."""
        self._expect_answer()
        self._reply(socks.Reply5.COMMAND_NOT_SUPPORTED, socks.REJECTED4)
        self._state = _State.OVER

    def data_to_send(self) -> bytes:
        """What is to be sent to the client now; empties the queue."""
        data, self._outbound = self._outbound, b""
        return data

    def next_deadline(self) -> float | None:
        """When the client's time to complete its request is over; None once it has."""
        return self._deadline

    def deadline_passed(self, now: float) -> Sequence[Event]:
        """End it if the client's time is over."""
        if self._deadline is None or now < self._deadline:
            return NO_EVENTS
        return self._end(
            Code.TIMED_OUT, f"no complete request within {self._limit:g} s ({self._state.value})"
        )

    def _expect_answer(self) -> None:
        if self._state not in (_State.ASKED, _State.LISTENING):
            raise LocalProtocolError(f"there is no request to answer: {self._state.value}")

    def _reply(self, five: int, four: int, host: str = "0.0.0.0", port: int = 0) -> None:
        if self._version == 5:
            self._outbound += socks.encode_reply5(five, host, port)
        else:
            self._outbound += socks.encode_reply4(four, host, port)

    def _end(self, code: Code, reason: str) -> Sequence[Event]:
        self._state = _State.OVER
        self._deadline = None
        self._inbound = b""
        return (Ended(code, reason),)

    def _start(self) -> Sequence[Event]:
        if not self._inbound:
            return NO_EVENTS
        self._version = self._inbound[0]
        if self._version == 4:
            if self._check is not None:
                self._reply(0, socks.REJECTED4)
                return self._end(Code.NOT_ALLOWED, "SOCKS 4 cannot log in")
            self._state = _State.REQUEST4
            return NO_EVENTS
        if self._version != 5:
            hint = "; HTTP?" if chr(self._version) in "CDGHOPT" else ""
            raise RemoteProtocolError(f"byte {self._version} is neither SOCKS 4 nor 5{hint}")
        parsed = socks.parse_greeting(self._inbound)
        if parsed is None:
            return NO_EVENTS
        methods, size = parsed
        self._inbound = self._inbound[size:]
        wanted = socks.NO_AUTHENTICATION if self._check is None else socks.USER_PASSWORD
        if wanted not in methods:
            self._outbound += socks.encode_method(socks.NO_ACCEPTABLE_METHOD)
            return self._end(
                Code.NOT_ALLOWED,
                "the client insists on logging in, which is not set up here"
                if self._check is None
                else "the client does not log in",
            )
        self._outbound += socks.encode_method(wanted)
        self._state = _State.REQUEST5 if self._check is None else _State.CREDENTIALS
        return NO_EVENTS

    def _credentials(self) -> Sequence[Event]:
        parsed = socks.parse_credentials(self._inbound)
        if parsed is None:
            return NO_EVENTS
        credentials, size = parsed
        self._inbound = self._inbound[size:]
        accepted = self._check is not None and self._check(credentials.user, credentials.password)
        self._outbound += socks.encode_verdict(accepted)
        user = credentials.user.decode("utf-8", "backslashreplace")
        if not accepted:
            return self._end(Code.NOT_ALLOWED, "wrong user name or password")
        self._user = user
        self._state = _State.REQUEST5
        return NO_EVENTS

    def _request4(self) -> Sequence[Event]:
        try:
            return self._requested(socks.parse_request4(self._inbound))
        except RemoteProtocolError:
            self._reply(0, socks.REJECTED4)
            raise

    def _request5(self) -> Sequence[Event]:
        try:
            return self._requested(socks.parse_request5(self._inbound))
        except RemoteProtocolError:
            known_type = self._inbound[3:4] in (b"", b"\x01", b"\x03", b"\x04")
            self._reply(
                socks.Reply5.GENERAL_FAILURE
                if known_type
                else socks.Reply5.ADDRESS_TYPE_NOT_SUPPORTED,
                socks.REJECTED4,
            )
            raise

    def _requested(self, parsed: tuple[socks.Request, int] | None) -> Sequence[Event]:
        if parsed is None:
            return NO_EVENTS
        request, size = parsed
        if request.command not in _COMMANDS[self._version]:
            self._reply(socks.Reply5.COMMAND_NOT_SUPPORTED, socks.REJECTED4)
            return self._end(Code.PROTOCOL, f"there is no command {request.command}")
        self.leftover, self._inbound = self._inbound[size:], b""
        self._deadline = None
        self._state = _State.ASKED
        self._command = socks.Command(request.command)
        user = self._user or request.user.decode("utf-8", "backslashreplace")
        return (SocksRequest(self._command, request.host, request.port, user),)


_COMMANDS = {4: (socks.Command.CONNECT, socks.Command.BIND), 5: tuple(socks.Command)}

_STEPS = {
    _State.START: SocksServer._start,
    _State.CREDENTIALS: SocksServer._credentials,
    _State.REQUEST4: SocksServer._request4,
    _State.REQUEST5: SocksServer._request5,
}
