"""The page of figures: its tables and graphs are those of the committed results."""

from __future__ import annotations

import pytest

from bench.checkout import ROOT
from bench.page import PAGE, SCENES, Scene, spread, written


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: str(scene.name))
def test_the_graph_is_drawn_from_the_result(scene: Scene) -> None:
    assert (ROOT / scene.graph).read_text() == scene.drawn(), "run: python -m bench.page"


def test_the_tables_are_those_of_the_results() -> None:
    page = PAGE.read_text()
    assert written(page) == page, "run: python -m bench.page"


def test_an_old_table_is_replaced_and_what_is_around_it_stays() -> None:
    page = PAGE.read_text()
    old = page
    for scene in SCENES:
        old = old.replace(scene.table(), "| old |")
    assert old != page
    assert written(old) == page


def test_a_page_without_a_place_for_a_table_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no place for the table of bench/results/shared"):
        written("# Performance\n")


def test_a_cell_has_median_lowest_and_highest() -> None:
    assert spread([3.0, 1.0, 2000.0]) == "3.00 (1.00 to 2,000)"
    assert spread([]) == ""
