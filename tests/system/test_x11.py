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

from tests.acceptance.processes import Identities, Process
from tests.acceptance.x11 import free_display
from tests.system.crossings import CROSSINGS, Crossing, Running
from tests.system.laboratory import WIKI, WORKPLACE_B, Laboratory
from tests.system.places import PlacedProcesses
from tests.system.screens import DESK, Picture, Screen, wait_until

PROMPT = "company-b$ "
PROGRAMS = (
    (
        *("xterm", "-fa", "DejaVu Sans Mono", "-fs", "10", "-title", "xterm in company B"),
        *("-geometry", "78x22+20+20", "-e", "env", f"PS1={PROMPT}", "sh", "-i"),
    ),
    ("xclock", "-geometry", "184x184+690+20"),
    ("xlogo", "-geometry", "184x140+690+257"),
    ("xeyes", "-geometry", "854x150+20+457"),
)
PERF_TESTS = {
    "-rect100": "100x100 rectangle",
    "-fcircle100": "100-pixel solid circle",
    "-ftext": "Char in 80-char line (6x13)",
    "-putimage100": "PutImage 100x100 square",
    "-getimage100": "GetImage 100x100 square",
    "-pointer": "QueryPointer",
}


@pytest.fixture(scope="module")
def at_home(lab: Laboratory) -> Iterator[PlacedProcesses]:
    """Programs of company B, for as long as this module's tests."""
    processes = PlacedProcesses(lab.company_b.directory, lab.company_b)
    try:
        yield processes
    finally:
        processes.end()


@pytest.fixture(scope="module")
def there(lab: Laboratory) -> Iterator[Screen]:
    """The screen in company A."""
    processes = PlacedProcesses(lab.company_a.directory, lab.company_a)
    try:
        yield Screen(processes)
    finally:
        processes.end()


@pytest.fixture(scope="module")
def here(at_home: PlacedProcesses) -> Screen:
    """A screen in company B, to compare with."""
    return Screen(at_home)


@attrs.frozen
class Shown:
    """A tunnel that shows the screen of company A in company B."""

    name: str
    crossing: Crossing
    display: str
    """What programs in company B call it."""


@pytest.fixture(scope="module", params=CROSSINGS)
def shown(
    request: pytest.FixtureRequest, lab: Laboratory, identities: Identities, there: Screen
) -> Iterator[Shown]:
    """A tunnel of each kind in turn."""
    running = Running(lab, identities)
    number = free_display()
    try:
        crossing = CROSSINGS[request.param](
            running, [f"x11::{there.number}"], [], near_options=("--x11", number)
        )
        yield Shown(request.param, crossing, f"127.0.0.1:{number}")
    finally:
        running.end()
        print(running.logs())


def test_a_screen_in_company_a_shows_the_windows_of_company_b(
    lab: Laboratory,
    at_home: PlacedProcesses,
    there: Screen,
    here: Screen,
    shown: Shown,
    output: Path,
) -> None:
    before, after = (output / f"x11-{shown.name}-{when}.png" for when in ("before", "after"))
    for file in (before, after):
        file.unlink(missing_ok=True)
    for screen in (there, here):
        screen.point(200, 200)
    empty = there.picture()
    empty.save(before)
    assert empty.colours() == {DESK}
    programs = [
        at_home.start(command[0], *command, env={"DISPLAY": display})
        for command in PROGRAMS
        for display in (shown.display, f":{here.number}")
    ]
    wait_for_both(there, here, empty, 200_000)
    # Somebody in company A types, and it is a shell in company B that does it.
    for screen in (there, here):
        screen.type("ip -brief address | tee -a typed")
        screen.type("cat /etc/hosts")
        screen.type(f"nc -v -w 1 {WIKI} 80")
        screen.type("echo 'But this window is there.'")
    picture = wait_for_both(there, here, empty, 200_000)
    picture.save(after)
    typed = lab.company_b.directory / "typed"
    assert typed.read_text().count(f" {WORKPLACE_B}/24") == 2
    typed.unlink()
    # And the eyes look where somebody in company A points.
    for screen in (there, here):
        screen.point(780, 460)
    looking = wait_for_both(there, here, empty, 200_000)
    assert looking.drawn(picture) > 100
    for program in programs:
        program.stop()
    wait_until(lambda: there.picture() == empty)


def wait_for_both(there: Screen, here: Screen, empty: Picture, pixels: int) -> Picture:
    """What both screens show: the same, and at least so much."""
    seen: list[Picture] = []

    def same() -> bool:
        seen[:] = [there.picture(), here.picture()]
        return seen[0] == seen[1] and seen[0].drawn(empty) >= pixels

    wait_until(same)
    return seen[0]


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


def test_x11perf_in_company_b_draws_on_the_screen_in_company_a(
    at_home: PlacedProcesses, there: Screen, here: Screen, shown: Shown
) -> None:
    wait_until(lambda: there.picture() == here.picture())
    empty = there.picture()
    command = ("x11perf", "-repeat", "2", "-reps", "200", *PERF_TESTS)
    through, direct = (
        watch(at_home.start("x11perf", *command, env={"DISPLAY": display}), screen)
        for display, screen in ((shown.display, there), (f":{here.number}", here))
    )
    drawn = [picture for picture in through & direct if picture.drawn(empty) > 300_000]
    # Circles in black on white, and in white on black: at least those were seen on both.
    assert len(drawn) >= 2
    wait_until(lambda: there.picture() == empty)


def watch(program: Process, screen: Screen) -> set[Picture]:
    """All that the screen shows until x11perf has ended; it has to have done all its tests."""
    import time

    t = time.time()
    seen = set()
    n = 0
    while program.child.poll() is None:
        seen.add(screen.picture())
        n += 1
    print("XX", time.time() - t, n, len(seen), program.log)
    assert program.wait() == 0, program.log
    for name in PERF_TESTS.values():
        assert re.search(rf"trep @ .*: {re.escape(name)}$", program.log, re.MULTILINE), program.log
    return seen
