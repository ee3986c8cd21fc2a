"""Keys of paired ends, renewed through a tunnel that is up (row Q2): channels to
``service:@again``.

Who has a new key tells it, or asks for the other end's new key as well; see
`tunnelkit.core.pairing.renewal`. What becomes of the keys is up to `KeepsKeys`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from tunnelkit.core.pairing.renewal import Action, Input, Renewal, State, renewal
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.errors import ChannelClosed, ChannelRefused, Code, ConfigError, RemoteProtocolError
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.protocol_side import ChannelTransport, TunnelAddress
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.destination import SERVICE, Destination
from tunnelkit.wire.pairing import Refuse
from tunnelkit.wire.renewal import VERSION, Kept, Renew

DESTINATION = f"{SERVICE}:@again"


class KeepsKeys(Protocol):
    """The keys of this end and of those that it is paired with."""

    def refusal(self) -> str:
        """Why they stay as they are; empty: they can be renewed."""

    def own(self, renew: bool) -> bytes:
        """The certificate, DER, of the newest key of this end; ``renew``: of one that is not in
        force yet. Raises `ConfigError`."""

    def in_force(self, certificate: bytes) -> bool:
        """Whether this end proves itself by that one, and by no other."""

    def learn(self, connection: TunnelConnection, certificate: bytes, in_force: bool) -> None:
        """The other end's key from now on, beside the one before; ``in_force``: instead of it.

        Raises `ConfigError`.
        """

    def known(self, connection: TunnelConnection, certificate: bytes) -> None:
        """The other end, while both keys are renewed, has kept this end's key of
        ``certificate``; whether that is in force it hears on the same channel."""


class Renewals:
    """Of one end, whose requests ``egress`` answers."""

    def __init__(self, egress: Egress, keys: KeepsKeys) -> None:
        self.reactor = egress.reactor
        self.keys = keys
        self._busy: set[str] = set()
        """Peers with which both keys are being renewed."""
        egress.answer_with(DESTINATION, self.answer)

    def tell(self, connection: TunnelConnection) -> Deferred[Renew | None]:
        """Tell the other end this end's newest key; fires when it has kept it.

        Fails with `ConfigError` or `ChannelClosed`, which says why not.
        """
        return self._open(connection, asks=False)

    def ask(self, connection: TunnelConnection) -> Deferred[Renew | None]:
        """Renew both keys: fires with the other end's. Fails as `tell` does."""
        return self._open(connection, asks=True)

    def _open(self, connection: TunnelConnection, asks: bool) -> Deferred[Renew | None]:
        talking = _Talking(self, connection, renewal(True, self.reactor.seconds()))
        peer = connection.peer
        if lacking := connection.lacks(DESTINATION):
            talking.fail(ChannelRefused(Code.NO_SUCH_SERVICE, lacking))
        elif asks and peer in self._busy:
            talking.fail(ChannelRefused(Code.LIMIT, "its key and this end's are renewed just now"))
        else:
            try:
                talking.begin(asks)
            except ConfigError as error:
                talking.fail(error)
                return talking.done
            if asks:
                self._busy.add(peer)
                talking.done.addBoth(partial(self._over, peer))
            transport = _transport(talking, peer)
            opening = connection.open(DESTINATION, transport)
            opening.addErrback(talking.refused)
        return talking.done

    def _over(self, peer: str, result: Any) -> Any:
        self._busy.discard(peer)
        return result

    def answer(self, request: EgressRequest, _destination: Destination) -> None:
        """A `tunnelkit.egress.dial.Handler`: no rule is asked, since nothing is connected to."""
        connection = request.connection if isinstance(request, ChannelRequest) else None
        if refusal := self.keys.refusal():
            request.refuse(Code.NOT_ALLOWED, refusal)
        elif not isinstance(connection, TunnelConnection):
            request.refuse(Code.NOT_ALLOWED, "keys are renewed by the two ends themselves")
        else:
            talking = _Talking(self, connection, renewal(False, self.reactor.seconds()))
            talking.done.addErrback(lambda why: why.trap(ConfigError, ChannelClosed))
            request.attach(_transport(talking, request.peer), "", "renewal of keys")

    def claim(self, peer: str) -> bool:
        """Both keys are to be renewed with ``peer``; False: they are already."""
        if peer in self._busy:
            return False
        self._busy.add(peer)
        return True

    def release(self, peer: str) -> None:
        """They are, or are not."""
        self._busy.discard(peer)


def _transport(talking: _Talking, peer: str) -> ChannelTransport:
    transport = ChannelTransport(
        talking, TunnelAddress("", DESTINATION), TunnelAddress(peer, DESTINATION)
    )
    transport.begin()
    return transport


class _Talking(TwistedProtocol):
    """One side of one renewal; ``done`` fires with what the other end has said of its key."""

    transport: ChannelTransport

    def __init__(self, renewals: Renewals, connection: TunnelConnection, talk: Renewal) -> None:
        self._renewals = renewals
        self._keys = renewals.keys
        self._connection = connection
        self._talk = talk
        self._named = b""
        """The certificate that this end has told."""
        self._theirs: Renew | None = None
        self._claimed = False
        self._refusal = ""
        self._timer = Timer(renewals.reactor, self._deadline)
        self.done: Deferred[Renew | None] = Deferred()

    def begin(self, asks: bool) -> None:
        """This end has opened the channel; raises `ConfigError`."""
        self._say_own(Input.ASK if asks else Input.TELL, asks)

    def refused(self, failure: Failure) -> None:
        """There is no channel."""
        failure.trap(ChannelClosed)
        self.fail(failure)

    def fail(self, why: Exception | Failure) -> None:
        """Nothing comes of it."""
        self._timer.stop()
        self._let_go()
        if not self.done.called:
            self.done.errback(why)

    # -- the channel --------------------------------------------------------------

    def connectionMade(self) -> None:
        self._go_on()

    def dataReceived(self, data: bytes) -> None:
        try:
            for action, message in self._talk.receive(data, self._now()):
                self._do(action, message)
        except RemoteProtocolError as error:
            self._refusal = str(error)
        except ConfigError as error:
            self._decline(str(error))
        self._go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._timer.stop()
        self._let_go()
        if self.done.called:
            return
        if self._talk.state is State.DONE:
            self.done.callback(self._theirs)
            return
        code, why = Code.REFUSED, f"the channel ended while {self._talk.state.value}"
        if isinstance(reason.value, ChannelClosed):
            code, why = reason.value.code, reason.value.reason or why
        self.done.errback(ChannelRefused(code, self._refusal or why))

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
        self._refusal = self._talk.deadline_passed(self._now())
        self._go_on()

    def _now(self) -> float:
        return float(self._renewals.reactor.seconds())

    # -- what is said -------------------------------------------------------------

    def _do(self, action: Action, message: object) -> None:
        if action is Action.TAKE_KEY:
            assert isinstance(message, Renew)
            self._take_key(message)
        elif action is Action.NOTE:
            assert isinstance(message, Kept)
            self._note(message)
        else:
            assert isinstance(message, Refuse)
            self._refusal = message.reason or str(message.code)

    def _take_key(self, theirs: Renew) -> None:
        if theirs.version != VERSION:
            raise ConfigError(f"version {theirs.version} of renewing is not known here")
        answers = self._talk.state is State.ANSWERING
        if answers and theirs.asks:
            self._claimed = self._renewals.claim(self._connection.peer)
            if not self._claimed:
                raise ConfigError("both keys are renewed just now")
        self._keys.learn(self._connection, theirs.certificate, theirs.in_force)
        self._theirs = theirs
        if not answers:
            self._keys.known(self._connection, self._named)
            self._keep()
        elif theirs.asks:
            self._say_own(Input.RENEW_TOO, False)
        else:
            self._keep()

    def _note(self, kept: Kept) -> None:
        theirs = self._theirs
        if theirs is None:
            return
        if kept.in_force:
            self._keys.learn(self._connection, theirs.certificate, True)
            self._theirs = attrs.evolve(theirs, in_force=True)
        self._keys.known(self._connection, self._named)
        if self._talk.state is State.CONCLUDING:
            self._keep()

    def _say_own(self, step: Input, asks: bool) -> None:
        self._named = self._keys.own(renew=step is not Input.TELL)
        own = Renew(self._named, self._keys.in_force(self._named), asks)
        self._talk.say(step, own, self._now())

    def _keep(self) -> None:
        in_force = bool(self._named) and self._keys.in_force(self._named)
        self._talk.say(Input.KEEP, Kept(in_force), self._now())

    def _decline(self, why: str) -> None:
        self._refusal = why
        if self._talk.state in (State.JUDGING, State.ANSWERING):
            self._talk.decline(Input.DECLINE, Code.NOT_ALLOWED, why)
        else:
            self.transport.abortConnection()

    def _let_go(self) -> None:
        if self._claimed:
            self._claimed = False
            self._renewals.release(self._connection.peer)
