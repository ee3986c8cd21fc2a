"""``docs/spec/lstp.md`` says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunnelkit.core.lstp import channel as lstp_channel
from tunnelkit.core.lstp import middle as lstp_middle
from tunnelkit.core.lstp import setup as lstp_setup
from tunnelkit.core.mux.contract import EARLY_DATA
from tunnelkit.core.table import as_markdown
from tunnelkit.errors import Code
from tunnelkit.wire.lstp import MAX_BODY, MAX_DATA, MAX_WINDOW, MessageType

TESTS = Path(__file__).parents[2]
DOCUMENT = (TESTS.parent / "docs" / "spec" / "lstp.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "table",
    [
        as_markdown(lstp_setup.SETUP_TABLE),
        as_markdown(lstp_setup.VERIFICATION_TABLE),
        as_markdown(lstp_middle.TABLE),
        as_markdown(lstp_channel.TABLE),
    ],
)
def test_the_document_has_the_state_tables(table: str) -> None:
    assert table in DOCUMENT


def test_the_document_has_the_states_of_a_channel() -> None:
    for state in lstp_channel.State:
        assert state.name in DOCUMENT
    assert f"{EARLY_DATA:,}" in DOCUMENT


def test_the_document_has_the_vectors() -> None:
    assert (TESTS / "vectors" / "lstp.txt").read_text(encoding="utf-8").strip() in DOCUMENT


def test_the_document_has_every_message_and_code_and_the_limits() -> None:
    for kind in MessageType:
        assert f"| {kind.value} | {kind.name} |" in DOCUMENT
    for code in Code:
        assert f"`{code}`" in DOCUMENT
    for limit in (MAX_BODY, MAX_DATA):
        assert f"{limit:,}" in DOCUMENT
    assert str(MAX_WINDOW) in DOCUMENT
