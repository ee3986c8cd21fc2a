"""The revocation list of an identity, read again whenever it may have changed (K5, X30)."""

from __future__ import annotations

import os

from twisted.logger import Logger

from tunnelkit.net.tls.context import Credentials
from tunnelkit.policy.list_numbers import ListNumbers
from tunnelkit.policy.revocation import (
    Revocations,
    known_authorities,
    list_in_force,
    load_revocations,
)

_log = Logger()


class FollowedList:
    """For the identity in ``identity_file``; ``state_dir`` is where numbers of lists are
    remembered, by default beside it."""

    def __init__(self, identity_file: str, state_dir: str | None) -> None:
        self._identity_file = identity_file
        self._numbers = ListNumbers(state_dir or os.path.dirname(os.path.abspath(identity_file)))
        self._told = ""

    def is_older(self, revocations: Revocations) -> bool:
        """Whether a newer one than this has been seen before (X30)."""
        return self._numbers.older(revocations.crls, note=False) is not None

    def read(
        self, crl_file: str | None, credentials: Credentials, before: Revocations | None
    ) -> Revocations | None:
        """What is in ``crl_file`` now, by the CAs of ``credentials``; None: there is no list to go
        by, see `list_in_force`. Says once that numbers cannot be remembered."""
        if crl_file is None or not list_in_force(crl_file, self._identity_file, before):
            return None
        found = load_revocations(crl_file, known_authorities(credentials), seen=self._numbers)
        problem = self._numbers.problem
        if problem not in ("", self._told):
            _log.warn("{why}", why=problem)
        self._told = problem
        return found
