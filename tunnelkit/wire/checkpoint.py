"""A checkpoint of an audit file: what one end tells the other, so that it can vouch for it (O8)."""

from __future__ import annotations

import re

import attrs

from tunnelkit.wire.json_body import Fields

MOST_LINES = 2**53 - 1
_CHAIN = re.compile("[0-9a-f]{32}")
_HASH = re.compile("[0-9a-f]{64}")


@attrs.frozen
class Checkpoint:
    """Up to line ``seq`` the file has a content with this ``hash``."""

    chain: str
    """32 lower-case hex digits: the file's, whatever its name."""
    seq: int
    """Number of the line, 1 for the first one."""
    hash: str
    """SHA-256 of that line without its end of line, 64 lower-case hex digits; every line has that
    of the line before in it."""

    @classmethod
    def from_fields(cls, fields: Fields) -> Checkpoint:
        """As JSON has it; raises `RemoteProtocolError`."""
        return cls(
            fields.matching("chain", _CHAIN, "32 lower-case hex digits"),
            fields.integer("seq", 1, MOST_LINES),
            fields.matching("hash", _HASH, "64 lower-case hex digits"),
        )
