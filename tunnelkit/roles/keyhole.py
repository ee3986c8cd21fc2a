"""Where the passphrase of an identity is brought to an end that runs (row K6)."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from tunnelkit.core.token_buckets import TokenBuckets
from tunnelkit.errors import ConfigError
from tunnelkit.policy.identity import WrongPassphrase
from tunnelkit.roles.credential_watch import CredentialWatch

_log = Logger()

AT_ONCE = 3
"""Wrong ones that may be tried in a row."""
PAUSE = 10
"""Seconds for each after these."""
_WHO = "anybody"


class Keyhole:
    """Of one identity: however the passphrase comes, guesses are few."""

    def __init__(self, reactor: Any, watch: CredentialWatch) -> None:
        self._reactor = reactor
        self._watch = watch
        self._guesses = TokenBuckets(1 / PAUSE, AT_ONCE)

    def turn(self, passphrase: bytes) -> None:
        """Unlock; raises `ConfigError` in one line, which never has the passphrase in it."""
        where = self._watch.locked
        if not where:
            return
        if not self._guesses.take(_WHO, self._reactor.seconds()):
            raise ConfigError(f"{where}: too many wrong passphrases: try again in {PAUSE} s")
        try:
            self._watch.unlock(passphrase)
        except WrongPassphrase as error:
            _log.warn("A wrong passphrase was given for {where}", where=where)
            raise ConfigError(str(error)) from None
        self._guesses.give_back(_WHO, self._reactor.seconds())
        _log.info("Unlocked: {where}", where=where)
