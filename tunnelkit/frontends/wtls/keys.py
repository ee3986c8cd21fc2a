"""What a proxy shows devices and whom it trusts, read again when the files change (K2, K5)."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from tunnelkit.errors import ConfigError
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.net.tls.dtls_server import DtlsServer
from tunnelkit.policy.followed_list import FollowedList
from tunnelkit.policy.identity import Terms, load_identity
from tunnelkit.policy.printable import printable
from tunnelkit.policy.revocation import Revocations, entries_in_force
from tunnelkit.policy.stamp import stamp
from tunnelkit.policy.validity import KeyStatus, key_status

_log = Logger()

INTERVAL = 1.0
"""Seconds between two looks at the files."""


class ProxyKeys:
    """The context for devices, from an identity file and a revocation list.

    A changed identity that cannot be read leaves the old one in force; a list that cannot be read
    lets in nobody who shows a certificate. Raises `ConfigError` at the beginning.
    """

    def __init__(
        self,
        reactor: Any,
        identity_file: str,
        crl_file: str | None = None,
        terms: Terms | None = None,
        state_dir: str | None = None,
    ) -> None:
        self._identity_file = identity_file
        self._crl_file = crl_file
        self._terms = terms
        self._list = FollowedList(identity_file, state_dir)
        self._seen = self._stamps()
        self._revocations: Revocations | None = None
        self.context = self._read()
        self._server: DtlsServer | None = None
        self._timer = Timer(reactor, self.look)

    def status(self) -> KeyStatus:
        """How long the keys and the list are good."""
        return key_status(self._credentials, self._revocations)

    @property
    def ready_words(self) -> str:
        """The list in force, for a ready line."""
        return f"revocation list: {entries_in_force(self._revocations)}"

    def serve(self, server: DtlsServer) -> None:
        """Keep ``server`` in step from now on."""
        self._server = server
        self._timer.start(INTERVAL)

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()

    def look(self) -> None:
        """Look once: take in what has changed, then cut whoever is revoked."""
        self._timer.start(INTERVAL)
        stamps = self._stamps()
        if stamps == self._seen or self._server is None:
            return
        self._seen = stamps
        try:
            self.context = self._read()
        except ConfigError as error:
            _log.error("{why}; going on with the keys from before", why=str(error), log_always=True)
            return
        _log.info("{file}: read again", file=self._identity_file)
        self._server.context = self.context
        self._cut_revoked(self._server)

    def _read(self) -> DtlsContext:
        credentials = self._credentials = load_identity(
            self._identity_file, terms=self._terms
        ).credentials
        revocations = self._list.read(self._crl_file, credentials, self._revocations)
        if revocations is not None:
            if revocations.problem:
                _log.error(
                    "{why}: nobody with a certificate gets in",
                    why=revocations.problem,
                    log_always=True,
                )
            self._revocations = revocations
            credentials = revocations.apply_to(credentials)
        return DtlsContext(credentials)

    def _cut_revoked(self, server: DtlsServer) -> None:
        revocations = self._revocations
        if revocations is None:
            return
        for association in server.associations:
            found = association.engine.peer_listings
            if found and revocations.is_revoked(found):
                _log.warn("{peer} has been revoked: cut", peer=printable(association.peer_name))
                association.loseConnection()

    def _stamps(self) -> tuple[Any, ...]:
        return tuple(stamp(path) for path in (self._identity_file, self._crl_file) if path)
