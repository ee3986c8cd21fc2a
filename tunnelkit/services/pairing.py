"""Pairing two ends by a one-time code, as a program does it (row Q2).

`pair` meets the other end by a `PairingWay` and gives what it offers, proved and agreed on;
`tunnelkit.services.paired_files` keeps it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.application.service import IService
from twisted.internet import defer
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.logger import Logger

from tunnelkit.core.pairing.code import LIFETIME, PairingCode
from tunnelkit.core.pairing.exchange import Party
from tunnelkit.errors import Code, ConfigError, PairingFailed, PeerNotTrusted, TunnelkitError
from tunnelkit.interfaces import IMeeting
from tunnelkit.net.pairing.session import PairingSession
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.context import Credentials, TlsContext, certificate_name
from tunnelkit.policy.identity import Identity, fingerprint
from tunnelkit.policy.key_requests import Request, request_for
from tunnelkit.policy.keys import self_signed
from tunnelkit.policy.printable import printable
from tunnelkit.services.pairing_door import PairingDoor
from tunnelkit.services.pairing_ways import NO_NAME, PairingWay
from tunnelkit.wire.pairing import ALPN, INSIDE, JOINER, Offer

_log = Logger()

MOST_MEETINGS = 3
"""Others than the one with the code that an inside meets under its number before it gives up.
Strangers at its own port are not among them: `PairingDoor`."""
JOINER_PATIENCE = 30.0
"""Seconds in which a joiner has to meet the inside."""


@attrs.frozen(kw_only=True)
class Own:
    """What one end brings to be paired."""

    identity: Identity
    """Self-signed (row K3), or issued by the CA that ``certify`` stands for."""
    inside: bool
    tunnel: str = ""
    """The inside's: what the tunnel is called."""
    rules: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    """Names of what the inside publishes."""
    certify: Callable[[Request], x509.Certificate] | None = None
    """The inside's CA, which issues a certificate for the other end's key; None: keys are
    pinned."""

    def party(self) -> Party:
        """The same for the exchange."""
        certificate = self.identity.credentials.certificate.public_bytes(Encoding.DER)
        offer = Offer(self.identity.name, certificate)
        if self.inside:
            offer = attrs.evolve(
                offer,
                rendezvous=self.identity.rendezvous_secret,
                tunnel=self.tunnel,
                rules=self.rules,
                services=self.services,
            )
        return Party(INSIDE if self.inside else JOINER, offer, self.identity.fingerprint)


async def pair(
    reactor: Any,
    way: PairingWay,
    code: PairingCode,
    own: Own,
    *,
    agree: Callable[[Offer], Awaitable[bool]],
    on_waiting: Callable[[], object] = lambda: None,
) -> Offer:
    """Meet who has the same ``code``; what it offers, once both have agreed.

    ``agree`` is asked about the other end's offer, whose certificate is the one that it proved to
    have. ``on_waiting`` is called once the place to meet is reached, or the port is open: from
    then on the code is of use to somebody. Raises `PairingFailed`, after which the code is used
    up, or `DialError`.
    """
    shared = Shared.of(reactor)
    throwaway = self_signed(NO_NAME, days=1)
    context = TlsContext(throwaway.credentials, (ALPN,), unproved=True)

    async def judge(offer: Offer, pin: str) -> Offer | None:
        check_offer(offer, pin)
        if not own.inside and offer.issued is not None:
            identity_issued(offer, own.identity)
        if not await agree(offer):
            raise PairingFailed("it was refused by hand", Code.REFUSED)
        return None if own.certify is None else _offer_with_certificate(own, offer, own.certify)

    rendezvous = way.rendezvous(reactor, code.nameplate, own.inside)
    part = IService(rendezvous, None)
    if part is not None:
        part.startService()
    told = False

    def waits(_where: str) -> None:
        nonlocal told
        if not told:
            told = True
            on_waiting()

    def begin(meeting: IMeeting) -> PairingSession:
        return PairingSession(shared, meeting, context, own.party(), code.secret, judge)

    until = reactor.seconds() + (LIFETIME if own.inside else JOINER_PATIENCE)
    door = PairingDoor(reactor.seconds, begin)
    others = 0
    try:
        while others < MOST_MEETINGS:
            meeting = await _in_time(reactor, until, rendezvous.meet(waits), own, door)
            if meeting is None:
                return await door.outcome
            if own.inside and meeting.host:
                door.enter(meeting)
                continue
            session = begin(meeting)
            try:
                return await session.done
            except TunnelkitError as error:
                if session.tried or not own.inside:
                    raise
                _log.warn("Somebody came who did not get as far as a try: {error}", error=error)
                others += 1
    finally:
        door.close()
        if part is not None:
            await maybeDeferred(part.stopService)
    raise PairingFailed(f"{MOST_MEETINGS} others came, none with a code: begin again", Code.CROWDED)


async def _in_time(
    reactor: Any, until: float, meeting: Any, own: Own, door: PairingDoor
) -> IMeeting | None:
    """The next meeting; None: somebody at the door has had his try, so there is none."""
    waiting: Deferred[IMeeting] = ensureDeferred(meeting)
    waiting.addTimeout(max(0.0, until - reactor.seconds()), reactor)
    door.on_closed = waiting.cancel
    try:
        return await waiting
    except defer.CancelledError:
        if not door.closed:
            raise
        return None
    except defer.TimeoutError:
        if own.inside:
            reason = "nobody came with the code within 10 minutes; it is not good any more"
        else:
            reason = (
                "nobody waits with this code: is it still shown on the other machine, and "
                "does it meet at the same place?"
            )
        raise PairingFailed(reason, Code.TIMED_OUT) from None


def check_offer(offer: Offer, pin: str) -> None:
    """The certificate of an offer has the key that was proved and the name that was said.

    Raises `PairingFailed`.
    """
    try:
        name = certificate_name(x509.load_der_x509_certificate(offer.certificate))
        known = offered_pin(offer)
    except (ValueError, PeerNotTrusted) as error:
        raise PairingFailed(f"its certificate cannot be used: {error}", Code.PROTOCOL) from None
    if name != offer.name or known != pin:
        raise PairingFailed("its certificate is not the one that it spoke of", Code.PROTOCOL)


def _offer_with_certificate(
    own: Own, joiner: Offer, certify: Callable[[Request], x509.Certificate]
) -> Offer:
    """What an inside with a CA offers: also what it has issued for the joiner's key."""
    key = x509.load_der_x509_certificate(joiner.certificate).public_key()
    try:
        issued = certify(request_for(joiner.name, key, printable(joiner.name)))
    except ConfigError as error:
        raise PairingFailed(f"the inside issues nothing: {error}", Code.REFUSED) from None
    (authority,) = own.identity.credentials.authorities
    return attrs.evolve(
        own.party().offer,
        issued=issued.public_bytes(Encoding.DER),
        authority=authority.public_bytes(Encoding.DER),
    )


def identity_issued(offer: Offer, own: Identity) -> Identity:
    """Who a joiner is from now on: its own key with what the inside's CA has issued for it.

    Raises `PairingFailed` if that is not for this key and name, or of another CA than the inside's
    own certificate.
    """
    assert offer.issued is not None
    assert offer.authority is not None
    try:
        issued, authority, inside = map(
            x509.load_der_x509_certificate, (offer.issued, offer.authority, offer.certificate)
        )
        for certificate in (issued, inside):
            certificate.verify_directly_issued_by(authority)
        fits = certificate_name(issued) == own.name and fingerprint(issued) == own.fingerprint
    except (ValueError, TypeError, InvalidSignature, PeerNotTrusted) as error:
        reason = f"what it has issued cannot be used: {error or 'a signature is wrong'}"
        raise PairingFailed(reason, Code.PROTOCOL) from None
    if not fits:
        raise PairingFailed("what it has issued is for another name or key", Code.PROTOCOL)
    credentials = Credentials(own.credentials.private_key, issued, (authority,))
    return Identity(own.name, credentials, own.rendezvous_secret)


def offered_pin(offer: Offer) -> str:
    """The key of an offer's certificate, as people compare it."""
    return fingerprint(x509.load_der_x509_certificate(offer.certificate))
