"""Who may make a server remember anything: whoever shows that he gets what is sent to his address.

The cookies of DTLS (RFC 6347, 4.2.1; rule X19) need no memory: each is a hash
over who asks and what for, under a secret that nobody else has.
"""

from __future__ import annotations

import hashlib
import hmac

from tunnelkit.wire.dtls_records import ClientHello

COOKIE_BYTES = 16
SECRET_BYTES = 32
LIFE = 60.0
"""Seconds after which there is a new secret; the one before is good for as long again."""


class Cookies:
    """The cookies of one server."""

    __slots__ = ("_current", "_previous", "_since")

    def __init__(self, secret: bytes, now: float) -> None:
        """``secret``: 32 random bytes."""
        self._current = self._previous = secret
        self._since = now

    def renew(self, secret: bytes, now: float) -> None:
        """Make new cookies with ``secret`` from now on."""
        self._previous, self._current, self._since = self._current, secret, now

    def is_old(self, now: float) -> bool:
        """Whether it is time for `renew`."""
        return now - self._since >= LIFE

    def make(self, address: tuple[str, int], hello: ClientHello) -> bytes:
        """The cookie for a hello from ``address``."""
        return _cookie(self._current, address, hello)

    def check(self, address: tuple[str, int], hello: ClientHello) -> bool:
        """Whether ``hello`` has the cookie that was given to this address for it."""
        return any(
            hmac.compare_digest(hello.cookie, _cookie(secret, address, hello))
            for secret in (self._current, self._previous)
        )


def _cookie(secret: bytes, address: tuple[str, int], hello: ClientHello) -> bytes:
    where = f"{address[0]} {address[1]} ".encode()
    return hmac.digest(secret, where + hello.parameters, hashlib.sha256)[:COOKIE_BYTES]
