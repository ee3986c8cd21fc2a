"""What messages with a JSON body have in common: writing the body, a code, a reason."""

from __future__ import annotations

from typing import Any

from tunnelkit.errors import Code
from tunnelkit.wire.json_body import Fields, dump

MAX_REASON = 1024
"""Characters of a reason."""


def short(reason: str) -> str:
    """What of ``reason`` may be sent."""
    return reason[:MAX_REASON]


def read_code(fields: Fields) -> Code:
    """The field ``code``; one that this version does not know reads as INTERNAL."""
    return Code.read(fields.text("code", 64, 1))


def read_reason(fields: Fields) -> str:
    """The field ``reason``; empty if absent."""
    return fields.get_text("reason", MAX_REASON) or ""


def body_of(fields: dict[str, Any]) -> bytes:
    """The body that says ``fields``."""
    return dump(fields).encode("utf-8")


def body_if_any(**fields: Any) -> bytes:
    """The fields that are not None; nothing at all if none is."""
    there = {name: value for name, value in fields.items() if value is not None}
    return body_of(there) if there else b""
