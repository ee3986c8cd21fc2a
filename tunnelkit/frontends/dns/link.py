"""The channel to the far side's resolver (service ``@dns``), kept open and shared by all questions.

Each message goes behind its 2-byte length (RFC 7766). Answers come in any
order and are told apart by an id that is drawn anew for every question.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.errors import ChannelClosed, RemoteProtocolError
from tunnelkit.policy.destination import DNS_SERVICE
from tunnelkit.policy.printable import printable
from tunnelkit.wire.dns import Messages, answers, framed, id_of, with_id

_log = Logger()

LIMIT = 5.0
"""Seconds that a question may take."""
MAX_QUESTIONS = 1024
"""Questions without an answer at once; more fail."""
MAX_BYTES = 1 << 20
"""The same in bytes."""

Answered = Callable[[bytes | None], object]
"""Called once: with the answer, or None if there is none."""


class OffersChannels(Protocol):
    """What is needed of a tunnel."""

    @property
    def peer(self) -> str:
        """Verified name of the other end."""

    def channel_to(self, destination: str) -> IStreamClientEndpoint:
        """See `tunnelkit.interfaces.ITunnel`."""


class DnsLink:
    """Asks the far side. The channel is opened with the first question, and again when lost."""

    def __init__(self, reactor: Any, tunnel: OffersChannels) -> None:
        self._reactor = reactor
        self._tunnel = tunnel
        self._questions: dict[int, _Question] = {}
        self._bytes = 0
        self._stream: _Stream | None = None
        self._opening: Deferred[Any] | None = None

    def ask(self, message: bytes, answered: Answered) -> None:
        """Have ``message`` answered; its id does not matter, and nor does the answer's."""
        if len(self._questions) >= MAX_QUESTIONS or self._bytes + len(message) > MAX_BYTES:
            answered(None)
            return
        number = secrets.randbelow(1 << 16)
        while number in self._questions:
            number = secrets.randbelow(1 << 16)
        timer = self._reactor.callLater(LIMIT, self._settle, number, None)
        question = _Question(with_id(message, number), answered, timer)
        self._questions[number] = question
        self._bytes += len(message)
        if self._stream is not None:
            self._send(question)
        else:
            self._open()

    def close(self) -> None:
        """Give up every question, and the channel."""
        if self._opening is not None:
            self._opening.cancel()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.transport.abortConnection()
        self._fail_all()

    # -- the channel ------------------------------------------------------

    def _open(self) -> None:
        if self._opening is None:
            factory = Factory.forProtocol(lambda: _Stream(self))
            self._opening = self._tunnel.channel_to(DNS_SERVICE).connect(factory)
            self._opening.addCallbacks(self._opened, self._refused)

    def _opened(self, stream: _Stream) -> None:
        self._opening = None
        self._stream = stream
        for question in list(self._questions.values()):
            self._send(question)

    def _refused(self, failure: Failure) -> None:
        self._opening = None
        if failure.check(ChannelClosed):
            why = printable(str(failure.value))
            _log.warn("DNS: the far side does not answer questions: {why}", why=why)
        elif not failure.check(CancelledError):
            _log.failure("DNS: opening the channel failed", failure)
        self._fail_all()

    def _send(self, question: _Question) -> None:
        question.sent += 1
        assert self._stream is not None
        self._stream.transport.write(framed(question.message))

    def answer(self, message: bytes) -> None:
        """The far side has sent ``message``."""
        question = self._questions.get(id_of(message))
        if question is not None and answers(message, question.message):
            self._settle(id_of(message), message)

    def lost(self, stream: _Stream) -> None:
        """The channel is over: what was not answered is asked once more."""
        if stream is not self._stream:
            return
        self._stream = None
        for number, question in list(self._questions.items()):
            if question.sent > 1:
                self._settle(number, None)
        if self._questions:
            self._open()

    # -- questions --------------------------------------------------------

    def _settle(self, number: int, answer: bytes | None) -> None:
        question = self._questions.pop(number, None)
        if question is not None:
            self._bytes -= len(question.message)
            if question.timer.active():
                question.timer.cancel()
            question.answered(answer)

    def _fail_all(self) -> None:
        for number in list(self._questions):
            self._settle(number, None)


class _Question:
    """One question that waits for its answer."""

    __slots__ = ("answered", "message", "sent", "timer")

    def __init__(self, message: bytes, answered: Answered, timer: IDelayedCall) -> None:
        self.message = message
        self.answered = answered
        self.timer = timer
        self.sent = 0
        """How many channels it has been sent on."""


class _Stream(TwistedProtocol):
    """The near end of the channel."""

    transport: Any

    def __init__(self, link: DnsLink) -> None:
        self._link = link
        self._messages = Messages()

    def dataReceived(self, data: bytes) -> None:
        try:
            messages = self._messages.receive(data)
        except RemoteProtocolError:
            self.transport.abortConnection()
            return
        for message in messages:
            self._link.answer(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._link.lost(self)
