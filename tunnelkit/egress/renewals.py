"""Keys of paired ends, renewed through a tunnel that is up (row Q2): channels to
``service:@again``.

Who has a new key tells it, or asks for the other end's new key as well; see
`tunnelkit.core.pairing.renewal`. What becomes of the keys is up to `KeepsKeys`.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from tunnelkit.core.pairing.renewal import Action, Input, Renewal, State, renewal
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.egress.talk_channel import TalkChannel
from tunnelkit.errors import ChannelClosed, Code, ConfigError
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.policy.destination import SERVICE, Destination
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
        side = _Side(self, connection, opens=True)
        try:
            side.begin(asks)
        except ConfigError as error:
            return fail(error)
        side.channel.open(connection, DESTINATION)
        return side.done

    def answer(self, request: EgressRequest, _destination: Destination) -> None:
        """A `tunnelkit.egress.dial.Handler`: no rule is asked, since nothing is connected to."""
        connection = request.connection if isinstance(request, ChannelRequest) else None
        if refusal := self.keys.refusal():
            request.refuse(Code.NOT_ALLOWED, refusal)
        elif not isinstance(connection, TunnelConnection):
            request.refuse(Code.NOT_ALLOWED, "keys are renewed by the two ends themselves")
        else:
            side = _Side(self, connection, opens=False)
            side.done.addErrback(lambda why: why.trap(ConfigError, ChannelClosed))
            side.channel.answer(request, "renewal of keys")

    def claim(self, peer: str) -> None:
        """Both keys are to be renewed with ``peer``; raises `ConfigError` if they are already."""
        if peer in self._busy:
            raise ConfigError("both keys are renewed just now")
        self._busy.add(peer)

    def release(self, peer: str) -> None:
        """They are, or are not."""
        self._busy.discard(peer)


class _Side:
    """One side of one renewal (a `Talker`); ``done`` fires with what the other end has said of its
    key."""

    def __init__(self, renewals: Renewals, connection: TunnelConnection, opens: bool) -> None:
        self._renewals = renewals
        self._keys = renewals.keys
        self._connection = connection
        self._talk: Renewal = renewal(opens, renewals.reactor.seconds())
        self._named = b""
        """The certificate that this end has told."""
        self._theirs: Renew | None = None
        self._claimed = False
        self.channel = TalkChannel(renewals.reactor, self._talk, self)
        self.done: Deferred[Renew | None] = self.channel.done.addBoth(self._over)

    def begin(self, asks: bool) -> None:
        """This end opens the channel; raises `ConfigError`."""
        if asks:
            self._claim()
        try:
            self._say_own(Input.ASK if asks else Input.TELL, asks)
        except ConfigError:
            self._over(None)
            raise

    def heard(self, action: Action, message: Renew | Kept) -> None:
        """See `Talker`."""
        if isinstance(message, Renew):
            self._take_key(message)
        else:
            self._note(message)

    def decline(self, why: str) -> bool:
        """See `Talker`."""
        if self._talk.state not in (State.JUDGING, State.ANSWERING):
            return False
        self._talk.decline(Input.DECLINE, Code.NOT_ALLOWED, why)
        return True

    def _take_key(self, theirs: Renew) -> None:
        if theirs.version != VERSION:
            raise ConfigError(f"version {theirs.version} of renewing is not known here")
        answers = self._talk.state is State.ANSWERING
        if answers and theirs.asks:
            self._claim()
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
        self._talk.say(step, own, self._renewals.reactor.seconds())

    def _keep(self) -> None:
        in_force = bool(self._named) and self._keys.in_force(self._named)
        self._talk.say(Input.KEEP, Kept(in_force), self._renewals.reactor.seconds())

    def _claim(self) -> None:
        self._renewals.claim(self._connection.peer)
        self._claimed = True

    def _over(self, result: Any) -> Any:
        if self._claimed:
            self._claimed = False
            self._renewals.release(self._connection.peer)
        return result if isinstance(result, Failure) else self._theirs
