"""A one-time code: a nameplate, which is public, and three words, which are not (row Q2).

``7-gravel-tulip-otter``: under the nameplate 7 the two ends find each other at the middle;
the words (30 bits) prove who they are, in one try.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import hmac
import secrets

import attrs

from tunnelkit.core.pairing.words import PREFIX, WORDS
from tunnelkit.errors import ConfigError

SECRET_WORDS = 3
MOST_NAMEPLATE = 9999
LIFETIME = 600.0
"""Seconds for which a code is good."""

_BY_PREFIX = {word[:PREFIX]: word for word in WORDS}
_LABEL = b"tunnelkit pair"


@attrs.frozen
class PairingCode:
    """One code; its words do not show in the repr (X13)."""

    nameplate: int
    """1 to 9999: where the two meet. Nothing secret."""
    words: tuple[str, ...] = attrs.field(repr=False)

    @property
    def secret(self) -> bytes:
        """What the two ends prove to each other that they know."""
        return self.text.encode("ascii")

    @property
    def text(self) -> str:
        """As it is read aloud."""
        return "-".join([str(self.nameplate), *self.words])


def new_code(nameplate: int | None = None) -> PairingCode:
    """A fresh one; under a random nameplate unless it is given."""
    if nameplate is None:
        nameplate = 1 + secrets.randbelow(MOST_NAMEPLATE)
    return PairingCode(nameplate, tuple(secrets.choice(WORDS) for _ in range(SECRET_WORDS)))


def parse_code(text: str) -> PairingCode:
    """The code in ``text``, with dashes, spaces or both; the first three letters of a word will do.

    Raises `ConfigError`, which does not repeat the words (X13), except one that is none.
    """
    number, *given = text.lower().replace("-", " ").split() or [""]
    plate = int(number) if number.isascii() and number.isdigit() and len(number) <= 4 else 0
    if not plate or len(given) != SECRET_WORDS:
        raise ConfigError(
            "the code is not complete: expected a number and three words, like 7-gravel-tulip-otter"
        )
    return PairingCode(plate, tuple(map(_word, given)))


def _word(given: str) -> str:
    word = _BY_PREFIX.get(given[:PREFIX], "")
    if len(given) >= PREFIX and word.startswith(given):
        return word
    close = difflib.get_close_matches(given, WORDS, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise ConfigError(f"{ascii(given)[:40]} is not a word of a code{hint}: ask for it again")


def rendezvous_id(nameplate: int) -> str:
    """Under which the two ends meet at a middle: made of the nameplate only, so that the middle
    has nothing to try words against."""
    return _as_text(hmac.digest(_LABEL, b"%d" % nameplate, "sha256"))


def all_rendezvous_ids() -> dict[str, int]:
    """Every rendezvous id that there is, and its nameplate; 15 ms of CPU, a third of what
    `rendezvous_id` takes for all of them, since HMAC's two keyed hashes are begun only once."""
    block = _LABEL.ljust(64, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
    found = {}
    for nameplate in range(1, MOST_NAMEPLATE + 1):
        hashed, keyed = inner.copy(), outer.copy()
        hashed.update(b"%d" % nameplate)
        keyed.update(hashed.digest())
        found[_as_text(keyed.digest())] = nameplate
    return found


def _as_text(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
