"""Identities for tests, made in memory within milliseconds."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509

from tunnelkit.net.tls.engine import Credentials
from tunnelkit.policy.identity import Identity, identity_pem
from tunnelkit.policy.keys import Authority


class ThrowawayCA:
    """A private CA that forgets its keys when it goes out of use.

    A name is issued once: asking again gives the same identity.
    """

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self._issued: dict[str, Identity] = {}
        self._revoked: dict[int, datetime] = {}
        self._lists = 0

    @property
    def certificate(self) -> x509.Certificate:
        """The CA's own certificate."""
        return self.authority.certificate

    def identity(self, name: str) -> Identity:
        """The identity called ``name``, rendezvous secret included."""
        if name not in self._issued:
            self._issued[name] = self.authority.issue(name)
        return self._issued[name]

    def credentials(self, name: str) -> Credentials:
        """What TLS needs of the identity called ``name``."""
        return self.identity(name).credentials

    def identity_file(self, name: str, directory: str | os.PathLike[str]) -> Path:
        """The identity as ``NAME.pem`` in ``directory``, mode 0600; the file must be new."""
        path = Path(directory) / f"{name}.pem"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(identity_pem(self.identity(name)))
        return path

    def revoke(self, *names: str) -> x509.CertificateRevocationList:
        """The list of all that were revoked so far and ``names``; without any, an empty list."""
        now = datetime.now(timezone.utc)
        for name in names:
            self._revoked[self.credentials(name).certificate.serial_number] = now
        self._lists += 1
        return self.authority.revocation_list(self._revoked, number=self._lists)


def throwaway_ca(name: str = "throw-away CA") -> ThrowawayCA:
    """A new CA with a new rendezvous secret."""
    return ThrowawayCA(Authority.create(name))
