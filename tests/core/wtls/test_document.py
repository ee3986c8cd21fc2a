"""The document of the WTLS-style tunnel says what the program does."""

from __future__ import annotations

from pathlib import Path

from tunnelkit.core.table import as_markdown
from tunnelkit.core.wtls import domain, mapping
from tunnelkit.wire.wtls_map import MapType

TESTS = Path(__file__).parent.parent.parent
DOCUMENT = (TESTS.parent / "docs/spec/wtls.md").read_text(encoding="utf-8")


def test_the_document_has_the_state_tables() -> None:
    assert as_markdown(mapping.TABLE) in DOCUMENT
    assert as_markdown(domain.TABLE) in DOCUMENT


def test_the_document_has_the_vectors() -> None:
    assert (TESTS / "vectors/wtls.txt").read_text(encoding="utf-8").strip() in DOCUMENT


def test_the_document_has_every_type() -> None:
    for kind in MapType:
        assert f"{kind} {kind.name}" in DOCUMENT
