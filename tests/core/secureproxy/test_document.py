"""``docs/spec/secureproxy.md`` says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunnelkit.core.secureproxy import client, connection, dialogue, session
from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.core.table import as_markdown
from tunnelkit.wire.secureproxy import MAX_BODY, MessageType
from tunnelkit.wire.tls_peek import MAX_HELLO, MAX_RECORDS, UNRECOGNIZED_NAME

TESTS = Path(__file__).parents[2]
DOCUMENT = (TESTS.parent / "docs" / "spec" / "secureproxy.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "table",
    [
        as_markdown(connection.TABLE),
        as_markdown(session.TABLE),
        as_markdown(client.TABLE),
        as_markdown(dialogue.TABLE),
    ],
)
def test_the_document_has_the_state_tables(table: str) -> None:
    assert table in DOCUMENT


def test_the_document_has_the_vectors() -> None:
    assert (TESTS / "vectors" / "secureproxy.txt").read_text(encoding="utf-8").strip() in DOCUMENT


def test_the_document_has_every_message_and_the_limits() -> None:
    for kind in MessageType:
        assert f"| {kind.value} | {kind.name} |" in DOCUMENT
    limits = Limits()
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("|")]
    for most in (limits.clients, limits.sessions, limits.incoming, limits.connecting,
        limits.opening, limits.asking):  # fmt: skip
        assert any(row.endswith(f"| {most:,} |") for row in rows), most
    assert f"{MAX_BODY:,}" in DOCUMENT
    assert f"{MAX_HELLO:,} bytes of handshake" in DOCUMENT
    assert f"{MAX_RECORDS} TLS records" in DOCUMENT
    assert UNRECOGNIZED_NAME.hex(" ") in DOCUMENT
