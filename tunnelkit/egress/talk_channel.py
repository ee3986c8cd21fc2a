"""A channel of a tunnel that carries one `tunnelkit.core.pairing.talk.Talk` and nothing else."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from tunnelkit.core.pairing.talk import Talk
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.errors import ChannelClosed, ChannelRefused, Code, ConfigError, RemoteProtocolError
from tunnelkit.net.channels.contracts import Connection
from tunnelkit.net.channels.protocol_side import ChannelTransport, TunnelAddress
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.wire.pairing import Refuse


class Talker(Protocol):
    """What one side has to say."""

    def heard(self, action: Any, message: Any) -> None:
        """Do that about a message; raises `ConfigError` if it cannot be done."""

    def decline(self, why: str) -> bool:
        """Say no, which is possible if it is this side's turn; whether it was."""


class TalkChannel(TwistedProtocol):
    """Lets ``talk`` be held by ``talker``; ``done`` fires once all has been said.

    It fails with `ConfigError`, if that has made this side decline, or with `ChannelClosed`, which
    says what the other end has said.
    """

    transport: ChannelTransport

    def __init__(self, reactor: Any, talk: Talk[Any, Any, Any, Any], talker: Talker) -> None:
        self._reactor = reactor
        self._talk = talk
        self._talker = talker
        self._problem: ConfigError | ChannelClosed | None = None
        self._timer = Timer(reactor, self._deadline)
        self.done: Deferred[None] = Deferred()

    def open(self, connection: Connection, destination: str) -> None:
        """Say it to the service ``destination`` of the other end."""
        if lacking := connection.lacks(destination):
            self.done.errback(ChannelRefused(Code.NO_SUCH_SERVICE, lacking))
            return
        transport = self._begun(connection.peer, destination)
        # Who is refused hears of it as of any other end of the channel.
        opening = connection.open(destination, transport)
        opening.addErrback(lambda why: why.trap(ChannelClosed))

    def answer(self, request: EgressRequest, rule: str) -> None:
        """Say it to who has opened a channel for it."""
        request.attach(self._begun(request.peer, request.destination), "", rule)

    def _begun(self, peer: str, destination: str) -> ChannelTransport:
        transport = ChannelTransport(
            self, TunnelAddress("", destination), TunnelAddress(peer, destination)
        )
        transport.begin()
        return transport

    # -- the channel --------------------------------------------------------------

    def connectionMade(self) -> None:
        self._go_on()

    def dataReceived(self, data: bytes) -> None:
        try:
            for action, message in self._talk.receive(data, self._reactor.seconds()):
                if isinstance(message, Refuse):
                    reason = message.reason or str(message.code)
                    self._problem = ChannelRefused(message.code, reason)
                else:
                    self._talker.heard(action, message)
        except RemoteProtocolError as error:
            self._problem = ChannelRefused(error.code, str(error))
        except ConfigError as error:
            self._problem = error
            if not self._talker.decline(str(error)):
                self.transport.abortConnection()
                return
        self._go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._timer.stop()
        if self.done.called:
            return
        if self._talk.succeeded:
            self.done.callback(None)
            return
        if self._problem is None and isinstance(reason.value, ChannelClosed):
            # A reset's own words are those of a lost connection.
            self._problem = ChannelRefused(reason.value.code, reason.value.reason)
        ended = f"the channel ended while {self._talk.state.value}"
        self.done.errback(self._problem or ChannelRefused(Code.RESET, ended))

    def _go_on(self) -> None:
        self._timer.stop()
        self.transport.write(self._talk.data_to_send())
        due = self._talk.next_deadline()
        if due is None:
            # Both close: whoever says the last word sends the end behind it.
            self.transport.loseConnection()
        else:
            self._timer.start_at(due)

    def _deadline(self) -> None:
        why = self._talk.deadline_passed(self._reactor.seconds())
        self._problem = ChannelRefused(Code.TIMED_OUT, why)
        self._go_on()
