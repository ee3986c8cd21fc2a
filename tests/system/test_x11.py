"""X programs of company B on a screen of company A, through both firewalls (F3, L6).

The programs run twice in company B at the same time: once by way of the tunnel, and once with a
screen that company B has itself. Both screens have to show the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.acceptance.processes import Identities
from tests.acceptance.x11 import free_display
from tests.system.crossings import BY_NAME, Crossing, Running
from tests.system.laboratory import WIKI, WORKPLACE_B, Laboratory
from tests.system.places import Place, PlacedProcesses
from tests.system.screens import DESK, HEIGHT, WIDTH, Picture, Screen, wait_until

PROMPT = "company-b$ "
PROGRAMS = (
    (
        *("xterm", "-fa", "DejaVu Sans Mono", "-fs", "10", "-title", "xterm in company B"),
        *("-geometry", "78x22+20+20", "-e", "env", f"PS1={PROMPT}", "sh", "-i"),
    ),
    ("xclock", "-geometry", "184x184+690+20"),
    ("xlogo", "-geometry", "184x140+690+257"),
    ("xeyes", "-geometry", "854x140+20+463"),
)
LOOK = f"""ip -brief address
cat /etc/hosts
nc -v -w 1 {WIKI} 80
echo This window is there all the same.
{{ set +x; }} 2>/dev/null
ip -brief address >>looked
"""
"""A script with which company B says where it is, and that it cannot reach company A."""
SMOOTH = 100
"""Pixels that may differ: xterm's smooth letters reach into each other's cells, and where they do
depends on the pieces in which its output came."""
PERF_TESTS = {
    "-rect100": "100x100 rectangle",
    "-fcircle100": "100-pixel solid circle",
    "-ftext": "Char in 80-char line (6x13)",
    "-putimage100": "PutImage 100x100 square",
    "-getimage100": "GetImage 100x100 square",
    "-pointer": "QueryPointer",
}


def screen_at(place: Place) -> Iterator[Screen]:
    """For as long as this module's tests."""
    processes = PlacedProcesses(place.directory, place)
    try:
        yield Screen(processes)
    finally:
        processes.end()


@pytest.fixture(scope="module")
def there(lab: Laboratory) -> Iterator[Screen]:
    """The screen in company A."""
    yield from screen_at(lab.company_a)


@pytest.fixture(scope="module")
def here(lab: Laboratory) -> Iterator[Screen]:
    """A screen in company B, to compare with."""
    yield from screen_at(lab.company_b)


@attrs.frozen
class Shown:
    """A tunnel that shows the screen of company A in company B."""

    name: str
    crossing: Crossing
    display: str
    """What programs in company B call it."""


@pytest.fixture(scope="module", params=BY_NAME)
def shown(
    request: pytest.FixtureRequest, lab: Laboratory, identities: Identities, there: Screen
) -> Iterator[Shown]:
    """A tunnel of each kind in turn."""
    running = Running(lab, identities)
    number = free_display()
    try:
        crossing = BY_NAME[request.param](
            running, [f"x11::{there.number}"], [], near_options=("--x11", number)
        )
        yield Shown(request.param, crossing, f"127.0.0.1:{number}")
    finally:
        running.end()
        print(running.logs())


class Kept:
    """The pictures that one run leaves behind; those of the run before are removed."""

    def __init__(self, output: Path, crossing: str) -> None:
        self._name = str(output / f"x11-{crossing}")
        for which in ("before", "after", "failed-there", "failed-here"):
            self.file(which).unlink(missing_ok=True)

    def file(self, which: str) -> Path:
        """Where that one is kept."""
        return Path(f"{self._name}-{which}.png")


def test_a_screen_in_company_a_shows_the_windows_of_company_b(
    lab: Laboratory,
    running: Running,
    there: Screen,
    here: Screen,
    shown: Shown,
    output: Path,
) -> None:
    kept = Kept(output, shown.name)
    for screen in (there, here):
        screen.point(200, 200)
    empty = there.picture()
    empty.save(kept.file("before"))
    assert empty.count(DESK) == WIDTH * HEIGHT
    at_home = running.at(lab.company_b)
    programs = [
        at_home.start(command[0], *command, env={"DISPLAY": display})
        for command in PROGRAMS
        for display in (shown.display, f":{here.number}")
    ]
    wait_for_both(there, here, empty, kept)
    (lab.company_b.directory / "look").write_text(LOOK)
    # Somebody in company A types, and it is a shell in company B that does it.
    for screen in (there, here):
        screen.type("sh -x look")
    looked = lab.company_b.directory / "looked"
    wait_until(lambda: looked.exists() and looked.read_text().count(f" {WORKPLACE_B}/24") == 2)
    looked.unlink()
    picture = wait_for_both(there, here, empty, kept)
    picture.save(kept.file("after"))
    # And the eyes look where somebody in company A points.
    for screen in (there, here):
        screen.point(780, 460)
    looking = wait_for_both(there, here, empty, kept)
    assert looking.drawn(picture) > 100
    for program in programs:
        program.stop()
    wait_until(lambda: there.picture() == empty)


def wait_for_both(there: Screen, here: Screen, empty: Picture, kept: Kept) -> Picture:
    """What both screens show: the same, and a good deal. If they do not, both are kept."""
    seen: dict[str, Picture] = {}

    def same() -> bool:
        seen.update(there=there.picture(), here=here.picture())
        return seen["there"].drawn(seen["here"]) <= SMOOTH and seen["there"].drawn(empty) > 200_000

    try:
        wait_until(same)
    except AssertionError:
        for name, picture in seen.items():
            picture.save(kept.file(f"failed-{name}"))
        raise
    return seen["there"]


def test_xdpyinfo_in_company_b_describes_the_screen_in_company_a(
    lab: Laboratory, there: Screen, shown: Shown
) -> None:
    said = lab.company_b.run(["xdpyinfo"], env={"DISPLAY": shown.display}).stdout
    assert f"name of display:    {shown.display}\n" in said
    expected = facts(there.run("xdpyinfo"))
    assert len(expected) > 50
    assert facts(said) == expected


def facts(said: str) -> list[str]:
    """What xdpyinfo says of a display, but for its name and what the focus happens to be."""
    lines = said.splitlines()
    return [line for line in lines if not line.startswith(("name of display:", "focus:"))]


DRAW_CIRCLES = ("x11perf", "-repeat", "1", "-reps", "1000000", "-fcircle100")
"""All of them black, then all of them white, and so on for minutes."""


@pytest.fixture(scope="module")
def circles(lab: Laboratory, here: Screen) -> Picture:
    """A screen of company B itself with the black ones."""
    seen: list[Picture] = []

    def black() -> bool:
        seen[:] = [here.picture_between_requests()]
        return seen[0].count("#000000") > 100_000

    processes = PlacedProcesses(lab.company_b.directory, lab.company_b)
    try:
        processes.start("x11perf", *DRAW_CIRCLES, env=here.environment)
        wait_until(black)
    finally:
        processes.end()
    return seen[0]


def test_x11perf_in_company_b_draws_on_the_screen_in_company_a(
    lab: Laboratory, running: Running, there: Screen, shown: Shown, circles: Picture
) -> None:
    empty = there.picture()
    display = {"DISPLAY": shown.display}
    # Text, areas, pictures, questions and answers: each test comes to its end.
    command = ["x11perf", "-repeat", "1", "-reps", "50", *PERF_TESTS]
    said = lab.company_b.run(command, env=display).stdout
    for name in PERF_TESTS.values():
        assert re.search(rf"reps @ .*: {re.escape(name)}$", said, re.MULTILINE), said
    # It clears its window between tests, so look while it draws.
    drawing = running.at(lab.company_b).start("x11perf", *DRAW_CIRCLES, env=display)
    wait_until(lambda: there.picture_between_requests() == circles)
    drawing.stop()
    wait_until(lambda: there.picture() == empty)
