"""The keys of two paired ends, and how new ones take their place while both run (row Q2).

A new key of this end waits in ``NAME.pem.next`` until every end that is pinned here knows it; then
the file takes the place of ``NAME.pem``. A new key of another end stands behind the old one among
the pins until the other end says that it is in force, or comes with it. So whenever one of the two
stops, each of them knows the key that the other one begins with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.egress.dial import Egress
from tunnelkit.egress.renewals import Renewals
from tunnelkit.errors import ChannelClosed, ChannelRefused, ConfigError, PeerNotTrusted
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.channels.contracts import Connection
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.tls.context import certificate_name, spki_pin
from tunnelkit.policy.files import make_durable, reason
from tunnelkit.policy.identity import (
    PIN_PREFIX,
    Identity,
    fingerprint,
    has_encrypted_key,
    identity_pem,
    load_identity,
    renewal,
)
from tunnelkit.policy.key_directory import write_over
from tunnelkit.policy.keys import self_signed
from tunnelkit.policy.passphrases import where_of
from tunnelkit.policy.pinned_file import replace_pins
from tunnelkit.policy.printable import printable
from tunnelkit.roles.credential_watch import CredentialWatch
from tunnelkit.wire.renewal import Renew

_log = Logger()

NEXT = ".next"
"""Behind the name of an identity's file: that of the key which comes next."""


@attrs.frozen
class Asked:
    """What has come of renewing the keys with one peer."""

    peer: str
    key: str = ""
    """Its new one, as people compare it; empty if there is none."""
    in_force: bool = False
    """It has put it in the place of the old one."""
    problem: str = ""
    """Why there is none."""


class PairedKeys:
    """Of one end; a `tunnelkit.egress.renewals.KeepsKeys`.

    ``pins_file`` is the settings file that the pinned keys stand in; ``stays()`` says why the keys
    of this end stay as they are, empty if they need not.
    """

    def __init__(
        self,
        egress: Egress,
        tunnel: Tunnel,
        watch: CredentialWatch,
        pins_file: str,
        stays: Callable[[], str],
    ) -> None:
        self._tunnel = tunnel
        self._watch = watch
        self._pins_file = pins_file
        self._stays = stays
        self._next_file = Path(os.path.realpath(watch.identity_file) + NEXT)
        self._next: Identity | None = None
        self._know: set[str] = set()
        """Peers that know the key which comes next."""
        self._renewals = Renewals(egress, self)

    def start(self) -> None:
        """Go on with what has been begun before."""
        if not self.refusal() and self._next_file.exists():
            try:
                self._next = load_identity(self._next_file)
            except ConfigError as error:
                _log.warn("{why}: the key stays as it is", why=str(error))
        self._tunnel.watch(self._came)

    # -- a person's wish ----------------------------------------------------------

    def renew(self) -> Deferred[Mapping[str, object]]:
        """Renew this end's key, and those of all who are connected; what has come of it.

        Raises `ConfigError` if there is nothing to be done.
        """
        if refusal := self.refusal():
            raise ConfigError(refusal)
        newest = {one.peer: one for one in self._tunnel.connections}
        if not newest:
            why = f": {self._tunnel.last_error}" if self._tunnel.last_error else ""
            raise ConfigError(f"the tunnel is down{why}: keys are renewed through it")
        asked: list[Deferred[Asked]] = [self._ask(one) for one in newest.values()]
        done: Deferred[Any] = DeferredList(asked)
        return done.addCallback(lambda found: self._outcome([one for _, one in found]))

    def _ask(self, connection: TunnelConnection) -> Deferred[Asked]:
        peer = connection.peer

        def renewed(theirs: Renew | None) -> Asked:
            assert theirs is not None
            certificate = x509.load_der_x509_certificate(theirs.certificate)
            return Asked(peer, fingerprint(certificate), theirs.in_force)

        def not_renewed(why: Failure) -> Asked:
            return Asked(peer, problem=_words(why))

        return self._renewals.ask(connection).addCallbacks(renewed, not_renewed)

    def _outcome(self, asked: list[Asked]) -> Mapping[str, object]:
        own = self._next or self._watch.identity
        waits_for = sorted(self._missing()) if self._next is not None else []
        if self._next is not None and not self._know:
            # Nobody has kept it: there is nothing to go on with.
            self._next = None
            self._next_file.unlink(missing_ok=True)
            own, waits_for = self._watch.identity, []
        return {
            "name": own.name,
            "key": own.fingerprint,
            "waits_for": waits_for,
            "peers": [attrs.asdict(one) for one in asked],
        }

    # -- KeepsKeys ----------------------------------------------------------------

    def refusal(self) -> str:
        """See `KeepsKeys`."""
        identity = self._watch.identity
        if identity.credentials.authorities:
            return (
                f"the certificate of {identity.name} is a CA's, which renews it while both ends "
                f"run: {renewal(identity)}"
            )
        if not self._pins_file:
            return (
                f"the key of {identity.name} stays as it is: expected paired = true and its "
                "peer-pin in its settings file"
            )
        try:
            content = Path(self._watch.identity_file).read_bytes()
        except OSError as error:
            return f"{where_of(self._watch.identity_file)}: cannot be read: {reason(error)}"
        if has_encrypted_key(content):
            return (
                f"the key of {identity.name} has a passphrase, which a running end does not keep: "
                "pair the two again by a code"
            )
        return self._stays()

    def own(self, renew: bool) -> bytes:
        """See `KeepsKeys`."""
        if renew and self._next is None:
            old = self._watch.identity
            found = self_signed(old.name, rendezvous_secret=old.rendezvous_secret)
            write_over(self._next_file, identity_pem(found))
            self._next, self._know = found, set()
        certificate = (self._next or self._watch.identity).credentials.certificate
        return certificate.public_bytes(Encoding.DER)

    def in_force(self, certificate: bytes) -> bool:
        """See `KeepsKeys`."""
        found = self._watch.identity.credentials.certificate
        return found.public_bytes(Encoding.DER) == certificate

    def learn(self, connection: TunnelConnection, certificate: bytes, in_force: bool) -> None:
        """See `KeepsKeys`."""
        peer, known = connection.peer, self._watch.pins
        pin = self._check(connection, certificate)
        before = self._watch.key_of(connection)
        if known.get(before) != peer or known.get(pin, peer) != peer:
            raise ConfigError(f"the key of {printable(peer)} is another one's, or not pinned")
        if pin == spki_pin(self._watch.identity.credentials.certificate):
            raise ConfigError("that is this end's own key")
        pins = [pin] if in_force or pin == before else [before, pin]
        if pin == before and not in_force:
            return
        self._replace(peer, pins)
        if in_force:
            self._watch.succeed(connection, pin)
        self._use(peer, pins)
        if in_force and pin != before:
            _log.info(
                "The key of {peer} has been renewed: it is {pin} now, and no other",
                peer=printable(peer),
                pin=PIN_PREFIX + pin.hex(),
            )

    def known(self, connection: TunnelConnection, certificate: bytes) -> None:
        """See `KeepsKeys`."""
        if self._note(connection, certificate):
            self.settle(told=connection)

    def _note(self, connection: TunnelConnection, certificate: bytes) -> bool:
        """The other end knows ``certificate``; whether that is the one which comes next."""
        own = self._next
        if own is None or own.credentials.certificate.public_bytes(Encoding.DER) != certificate:
            return False
        self._know.add(connection.peer)
        return True

    # -- one key after the other --------------------------------------------------

    def settle(self, told: TunnelConnection | None = None) -> None:
        """Put the next key in force if everybody knows it; the other end of ``told`` hears of it
        by itself."""
        own = self._next
        if own is None or self._missing():
            return
        place = self._next_file.with_name(self._next_file.name[: -len(NEXT)])
        try:
            os.replace(self._next_file, place)
            make_durable(place)
        except OSError as error:
            _log.error(
                "{file}: cannot be replaced ({why}): going on with the key from before",
                file=printable(str(place)),
                why=reason(error),
            )
            return
        self._next = None
        self._watch.look()
        _log.info("The key of {name} has been renewed: {pin}", name=own.name, pin=own.fingerprint)
        for connection in self._tunnel.connections:
            if connection is not told:
                self._tell(connection)

    def _missing(self) -> set[str]:
        """Who does not know the next key yet."""
        return set(self._watch.pins.values()) - self._know

    def _came(self, connection: Connection) -> None:
        """A connection is up: who has come with his new key has no other any more."""
        if self.refusal() or not isinstance(connection, TunnelConnection):
            return
        key, pins = self._watch.key_of(connection), self._watch.pins
        theirs = [pin for pin, name in pins.items() if name == connection.peer]
        if len(theirs) > 1 and theirs[-1] == key:
            try:
                self._replace(connection.peer, [key])
                self._use(connection.peer, [key])
            except ConfigError as error:
                _log.warn("{why}: its old key stays", why=str(error))
        if self._next is not None and connection.peer not in self._know:
            self._tell(connection)

    def _tell(self, connection: TunnelConnection) -> None:
        named = self.own(renew=False)

        def told(_theirs: Renew | None) -> None:
            if self._note(connection, named):
                self.settle()

        telling = self._renewals.tell(connection)
        telling.addCallbacks(told, partial(self._not_told, connection.peer))

    def _not_told(self, peer: str, why: Failure) -> None:
        _log.warn(
            "{peer} does not take this end's new key: {why}", peer=printable(peer), why=_words(why)
        )

    def _check(self, connection: TunnelConnection, der: bytes) -> bytes:
        """The key of a certificate that may take the place of the other end's."""
        peer = printable(connection.peer)
        try:
            found = x509.load_der_x509_certificate(der)
            found.verify_directly_issued_by(found)
            same = certificate_name(found) == connection.stream.engine.peer_name
        except (ValueError, TypeError, InvalidSignature, PeerNotTrusted) as error:
            raise ConfigError(f"the new certificate of {peer} cannot be used: {error}") from None
        now = datetime.now(timezone.utc)
        if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
            raise ConfigError(
                f"the new certificate of {peer} is not valid now: are the clocks right?"
            )
        if not same:
            raise ConfigError(f"the new certificate of {peer} has another name than the old one")
        return spki_pin(found)

    def _replace(self, peer: str, pins: list[bytes]) -> None:
        replace_pins(self._pins_file, peer, pins)

    def _use(self, peer: str, pins: list[bytes]) -> None:
        """As the file has them: in the place of the first of them."""
        found: dict[bytes, str] = {}
        for pin, name in self._watch.pins.items():
            if name != peer:
                found[pin] = name
            elif not set(pins) & found.keys():
                found |= dict.fromkeys(pins, peer)
        self._watch.use_pins(found)


def _words(why: Failure) -> str:
    why.trap(ConfigError, ChannelClosed)
    error = why.value
    if isinstance(error, ChannelRefused) and error.reason:
        return printable(error.reason)
    return printable(str(error))
