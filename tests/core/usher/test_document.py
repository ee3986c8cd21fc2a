"""``docs/spec/usher.md`` says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunnelkit.core.table import as_markdown
from tunnelkit.core.usher.session import TABLE
from tunnelkit.errors import Code
from tunnelkit.wire.usher import WINDOW, RecordType, Version, limits

TESTS = Path(__file__).parents[2]
DOCUMENT = (TESTS.parent / "docs" / "spec" / "usher.md").read_text(encoding="utf-8")


def test_the_document_has_the_state_table() -> None:
    assert as_markdown(TABLE) in DOCUMENT


@pytest.mark.parametrize("name", ["usher.txt", "usher_1_1.txt"])
def test_the_document_has_the_vectors(name: str) -> None:
    assert (TESTS / "vectors" / name).read_text(encoding="utf-8").strip() in DOCUMENT


def test_the_document_has_every_record_with_its_limit_and_every_code() -> None:
    most = {**limits(Version.V1_1), **limits(Version.V1)}
    for kind in RecordType:
        (row,) = [line for line in DOCUMENT.split("\n") if f"| {kind} | {kind.name} |" in line]
        assert row.endswith(f"| {most[kind]:,} |")
    for code in Code:
        assert f"`{code}`" in DOCUMENT
    assert f"{WINDOW:,}" in DOCUMENT
