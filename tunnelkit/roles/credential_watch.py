"""Keys and revocation lists that change while an end runs (rows K2, K5; X17)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import attrs
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from tunnelkit.errors import Code, ConfigError
from tunnelkit.net.channels.connection import TunnelConnection
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.context import (
    Credentials,
    Listing,
    TlsContext,
    describe_certificate,
    listings,
    spki_pin,
)
from tunnelkit.policy.followed_list import FollowedList
from tunnelkit.policy.identity import STRICT, Terms, renewal
from tunnelkit.policy.key_directory import write_over
from tunnelkit.policy.newer_list import as_pem, newer_list
from tunnelkit.policy.passphrases import (
    lock_identity,
    open_identity,
    unlock_identity,
    where_of,
)
from tunnelkit.policy.printable import printable
from tunnelkit.policy.revocation import Revocations, entries_in_force
from tunnelkit.policy.stamp import stamp
from tunnelkit.policy.validity import KeyStatus, key_status
from tunnelkit.roles.expiry import ExpiryWarnings, Term

_log = Logger()

INTERVAL = 1.0
"""Seconds between two looks at the files."""
LIST_MODE = 0o644
"""Of a list that was not there: it is no secret."""


class CredentialWatch:
    """Reads an end's identity and revocation list again whenever one of the files changes.

    ``context`` is always the newest that could be made. An identity that
    cannot be read leaves the old one in force; a revocation list that cannot
    be read means that nobody gets in. Tunnels of the revoked are cut.
    """

    def __init__(
        self,
        shared: Shared,
        identity_file: str,
        crl_file: str | None,
        make_context: Callable[[Credentials], TlsContext],
        pins: Mapping[bytes, str] | None = None,
        terms: Terms = STRICT,
        state_dir: str | None = None,
        *,
        may_wait: bool = False,
    ) -> None:
        """With ``pins`` only these keys are trusted, and no CA (K3). ``state_dir``: where the
        numbers of lists are remembered, by default beside the identity. ``may_wait``: the identity
        may be locked until `unlock` (K6)."""
        self._list = FollowedList(identity_file, state_dir)
        self._warnings = ExpiryWarnings()
        self._ends: WeakKeyDictionary[TunnelConnection, datetime] = WeakKeyDictionary()
        self._succeeded: WeakKeyDictionary[TunnelConnection, bytes] = WeakKeyDictionary()
        self._load = partial(open_identity, identity_file, terms=terms, may_wait=may_wait)
        self._terms = terms
        self._shared = shared
        self._make_context = make_context
        self.identity_file = identity_file
        self._pins = dict(pins or {})
        self._crl_file = crl_file
        self._seen = self._stamps()
        self.identity = self._load()
        self.locked = where_of(identity_file) if self.identity.locked else ""
        """What waits for its passphrase; empty: nothing. An older key may still be in force."""
        self._revocations: Revocations | None = None
        self._started = False
        self._cleared: WeakSet[TunnelConnection] = WeakSet()
        self.context = self._read()
        self.on_change: Callable[[], None] = lambda: None
        """Called when ``context`` is a new one, and perhaps ``identity`` too."""
        self._loop = LoopingCall(self.look)
        self._loop.clock = shared.reactor

    def start(self) -> None:
        """Look at the files from now on, and say which list is in force and what is over soon."""
        self._started = True
        if not self._pins:
            _log.info("Revocation list: {words}", words=self.list_words)
        self._warnings.look(self._validity(), datetime.now(timezone.utc))
        self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def use_list(self, crl_file: str | None) -> bool:
        """Go by another revocation list, or by none; whether that is a change."""
        changed = crl_file != self._crl_file
        if changed:
            self._crl_file = crl_file
            self._revocations = None
            self._seen = ()
            self.look()
        return changed

    def check_pins(self, pins: Mapping[bytes, str]) -> None:
        """Raises `ConfigError` if these cannot take the place of those before."""
        if bool(pins) is not bool(self._pins):
            raise ConfigError("--peer-pin: from a CA to pinned keys, or back, needs a restart")

    def use_pins(self, pins: Mapping[bytes, str]) -> bool:
        """Trust these keys from now on, and cut whose key is not among them; whether that is a
        change. See `check_pins`."""
        if pins == self._pins:
            return False
        self._pins = dict(pins)
        self.context = self._read()
        self.on_change()
        for connection in self._tunnels():
            if self.key_of(connection) not in pins:
                _log.warn(
                    "The key of {peer} is not pinned any more: cut", peer=printable(connection.peer)
                )
                connection.end(Code.NOT_ALLOWED, "the key is not pinned any more")
        return True

    @property
    def pins(self) -> dict[bytes, str]:
        """The keys that are trusted, and what they are called; of several that are called the
        same the last is the newest."""
        return dict(self._pins)

    def key_of(self, connection: TunnelConnection) -> bytes:
        """The key of the other end of ``connection``: the one that it has proved to have, or has
        put in the place of that one since."""
        shown = connection.stream.engine.peer_certificate
        return self._succeeded.get(connection) or (b"" if shown is None else spki_pin(shown))

    def succeed(self, connection: TunnelConnection, pin: bytes) -> None:
        """The other end has ``pin`` now in place of the key that it has proved to have there."""
        self._succeeded[connection] = pin

    def unlock(self, passphrase: bytes) -> None:
        """Put the identity in force as it is now; raises `WrongPassphrase` or `ConfigError`."""
        unlock_identity(self.identity_file, passphrase, terms=self._terms)
        if (found := self._load()).name != self.identity.name:
            raise ConfigError(
                f"{where_of(self.identity_file)}: it is {found.name}'s now, and this end is "
                f"{self.identity.name}: expected a restart"
            )
        self._seen = ()
        self.look()

    def lock(self) -> bool:
        """Forget the key, if a passphrase protects it; whether it does."""
        if not lock_identity(self.identity_file):
            return False
        self._seen = ()
        self.identity = self.identity.without_key()
        self.look()
        return True

    def is_revoked(self, chain: tuple[Listing, ...]) -> bool:
        """Whether one of these certificates is on the list, where it can be read."""
        return self._revocations is not None and self._revocations.names(chain)

    @property
    def list_to_give(self) -> bytes:
        """The list in force, for other ends; empty where there is none, or nobody is on it."""
        found = self._revocations
        if found is None or found.problem or not any(map(len, found.crls)):
            return b""
        return as_pem(found)

    def take_list(self, data: bytes, peer: str) -> None:
        """``peer`` hands over a list: put it in the place of the one here if it is newer.

        Raises `ConfigError` if it cannot be used, or not be written.
        """
        if self._pins or self._crl_file is None:
            return
        shown = f"the revocation list of {printable(peer)}"
        found = newer_list(data, shown, self.identity.credentials, self._revocations)
        if found is None or self._list.is_older(found):
            return
        path = Path(os.path.realpath(self._crl_file))
        mode = path.stat().st_mode & 0o777 if path.exists() else LIST_MODE
        write_over(path, as_pem(found), mode)
        _log.info(
            "{peer} has a newer revocation list: it is in {file} now",
            peer=printable(peer),
            file=printable(str(path)),
        )
        self.look()

    @property
    def list_words(self) -> str:
        """Which revocation list is in force, and how long it is; ``none``."""
        return self._revocations.words if self._revocations is not None else "none"

    @property
    def ready_words(self) -> str:
        """The same for a ready line; empty where keys are pinned, and there can be none."""
        return "" if self._pins else f"revocation list: {entries_in_force(self._revocations)}"

    def status(self) -> KeyStatus:
        """How long the keys and the list are good."""
        return key_status(self.identity.credentials, self._revocations)

    def look(self, now: datetime | None = None) -> None:
        """Look once: take in what has changed, then cut whoever is revoked, or out of date at
        ``now``."""
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
            self._take_identity()
            try:
                self.context = self._read()
            except ConfigError as error:
                _log.error(
                    "The keys have changed and cannot be used: {why}",
                    why=str(error),
                    log_always=True,
                )
            else:
                self.on_change()
        self._cut_revoked()
        now = now or datetime.now(timezone.utc)
        self._cut_expired(now)
        self._warnings.look(self._validity(), now)

    def _take_identity(self) -> None:
        try:
            found = self._load()
        except ConfigError as error:
            _log.error("{why}; going on with the keys from before", why=str(error), log_always=True)
            return
        old = self.identity
        self.locked = where_of(self.identity_file) if found.locked else ""
        if found.locked and not old.locked:
            _log.error(
                "{where}: it has changed, and its key waits for its passphrase; going on with the "
                "keys from before",
                where=self.locked,
            )
            return
        if old.name != found.name:
            _log.error(
                "The identity is now that of {name}, which needs a restart; going on as {old}",
                name=found.name,
                old=old.name,
                log_always=True,
            )
            return
        self.identity = found
        if old.credentials.certificate != found.credentials.certificate:
            _log.info("New certificate for {name} in force", name=found.name)

    def _read(self) -> TlsContext:
        """The context for the identity and the list of now."""
        credentials = self.identity.credentials
        if self._pins:
            credentials = attrs.evolve(credentials, authorities=(), pins=self._pins)
        revocations = self._list.read(self._crl_file, credentials, self._revocations)
        if revocations is not None:
            if revocations.problem:
                _log.error("{why}: nobody gets in", why=revocations.problem, log_always=True)
            elif self._started:
                # A list that is there only now is told as well.
                _log.info(
                    "{where}: read again, {entries}",
                    where=revocations.where,
                    entries=revocations.entries,
                )
            self._revocations = revocations
            self._cleared = WeakSet()
            credentials = revocations.apply_to(credentials)
        return self._make_context(credentials)

    def _tunnels(self) -> list[TunnelConnection]:
        """All connections that are up; they may be ended meanwhile."""
        return [one for one in self._shared.holders if isinstance(one, TunnelConnection)]

    def _cut_revoked(self) -> None:
        revocations = self._revocations
        if revocations is None or not revocations.crls:
            return
        for connection in self._tunnels():
            if connection in self._cleared:
                continue
            if revocations.names(listings(connection.stream.engine.peer_chain)):
                _log.warn("{peer} has been revoked: cut", peer=printable(connection.peer))
                connection.end(Code.NOT_ALLOWED, "the certificate has been revoked")
            else:
                self._cleared.add(connection)

    def _cut_expired(self, now: datetime) -> None:
        """A tunnel ends when a certificate of it does (X30); the peer looks at ours."""
        for connection in self._tunnels():
            end = self._ends.get(connection)
            if end is None:
                engine = connection.stream.engine
                chain = engine.peer_chain or (engine.peer_certificate,)
                end = min(one.not_valid_after_utc for one in chain if one is not None)
                self._ends[connection] = end
            if now > end:
                _log.warn(
                    "The certificate of {peer} has expired: cut", peer=printable(connection.peer)
                )
                connection.end(Code.NOT_ALLOWED, "the certificate has expired")

    def _validity(self) -> Iterator[Term]:
        """What is valid for a time only."""
        identity = self.identity
        chain = (identity.credentials.certificate, *identity.credentials.chain)
        for certificate in chain:
            yield Term(
                f"certificate of {describe_certificate(certificate)}",
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
                renewal(identity) if certificate is chain[0] else "its CA needs a new one",
            )
        for crl in self._revocations.crls if self._revocations is not None else ():
            if crl.next_update_utc is not None:
                remedy = "put a new one there ('tunnelkit keys revoke --dir KEYS' makes one)"
                where = self._revocations.where if self._revocations is not None else ""
                yield Term(where, crl.last_update_utc, crl.next_update_utc, remedy)

    def _stamps(self) -> tuple[Any, ...]:
        return tuple(stamp(path) for path in (self.identity_file, self._crl_file) if path)
