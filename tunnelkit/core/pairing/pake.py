"""The password-authenticated key exchange: CPace (draft-irtf-cfrg-cpace), X25519 and SHA-512.

One small interface in front of the `cpace` package, so that another can take its place. Who
does not know the secret has one guess, and learns from it only whether it was right.
"""

from __future__ import annotations

from cpace import CPace, CPaceError, CPaceRole

SUITE = "CPACE-X25519-SHA512"
SHARE_BYTES = 32
TAG_BYTES = 64


class WrongCode(Exception):
    """The two ends do not have the same secret, or not the same connection."""


class Pake:
    """One side of one run.

    ``session`` is what both sides know of this run (their nonces); ``channel`` binds it to the
    connection that it runs in; ``about`` is what this side says of itself, and is proved with it.
    """

    def __init__(
        self, secret: bytes, *, first: bool, session: bytes, channel: bytes, about: bytes
    ) -> None:
        role = CPaceRole.INITIATOR if first else CPaceRole.RESPONDER
        self._run = CPace.start(role=role, prs=secret, sid=session, ci=channel, ad=about)

    @property
    def share(self) -> bytes:
        """What the other side needs, 32 bytes."""
        return self._run.public_share

    def take(self, share: bytes, about: bytes) -> None:
        """The other side's share and what it says of itself; raises `WrongCode` for a bad one."""
        try:
            self._run.derive(share, about)
        except CPaceError:
            raise WrongCode from None

    def tag(self) -> bytes:
        """Proof for the other side, 64 bytes; once its share has been taken."""
        return self._run.tag()

    def check(self, tag: bytes) -> None:
        """Raises `WrongCode` unless ``tag`` is the other side's proof."""
        if not self._run.verify(tag):
            raise WrongCode
