"""The graphs: what is drawn is what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.graphs import OWN_COLOUR, Runs, drawing
from tests.bench.test_scripts import run

SVG = "{http://www.w3.org/2000/svg}"

RUNS: Runs = {
    "lstp": {"bulk": [200.0, 100.0, 300.0], "new": [None]},
    "ssh-pair": {"bulk": [100.0, 100.0, 100.0], "new": [150.0]},
}


def bars(svg: str) -> dict[str, list[tuple[float, str]]]:
    """Width and colour of the bars by what their titles say of the system."""
    found: dict[str, list[tuple[float, str]]] = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        rect = group.find(f"{SVG}rect")
        if title is not None and rect is not None:
            name = str(title.text).partition(":")[0]
            found.setdefault(name, []).append((float(rect.attrib["width"]), rect.attrib["fill"]))
    return found


def test_a_bar_is_as_long_as_its_median_and_the_line_reaches_to_the_extremes() -> None:
    svg = drawing(RUNS, "test")
    ((ours, colour),) = bars(svg)["lstp"]
    peer, _ = bars(svg)["ssh-pair"][0]
    assert ours == pytest.approx(2 * peer, abs=0.1)
    assert colour == OWN_COLOUR
    assert "lstp: lowest 100, median 200, highest 300" in svg
    start, end = map(float, re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", svg)[0])
    assert end - start == pytest.approx(ours, abs=0.2)


def test_a_system_without_a_figure_has_no_bar_in_that_panel() -> None:
    drawn = bars(drawing(RUNS, "test"))
    assert len(drawn["lstp"]) == 1
    assert len(drawn["ssh-pair"]) == 2


def test_a_name_cannot_leave_its_element() -> None:
    drawn = bars(drawing({"a<b>&c": {"bulk": [1.0]}}, 'x"<y>'))
    assert list(drawn) == ["a<b>&c"]


def test_the_script_draws_a_result_without_the_systems_left_out(tmp_path: Path) -> None:
    result, graph = tmp_path / "result.json", tmp_path / "graph.svg"
    result.write_text(json.dumps({"runs": RUNS}))
    done = run("graphs", str(result), str(graph), "--without", "lstp")
    assert done.returncode == 0, done.stderr
    assert list(bars(graph.read_text())) == ["ssh-pair"]


@pytest.mark.parametrize("contents", ["", "[]", "{}", '{"runs": {}}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, contents: str) -> None:
    result = tmp_path / "result.json"
    result.write_text(contents)
    done = run("graphs", str(result), str(tmp_path / "graph.svg"))
    assert done.returncode == 2
    assert "result.json: " in done.stderr
    assert "Traceback" not in done.stderr
