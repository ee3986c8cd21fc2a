"""One clock: timers go on at their pace whatever happens to the wall clock (R14, D-7)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from tunnelkit.net.sockets.timer import Timer, on_monotonic_clock


def test_a_timer_fires_once_when_it_is_due() -> None:
    clock, fired = Clock(), list[float]()
    timer = Timer(clock, lambda: fired.append(clock.seconds()))
    timer.start(3.0)
    assert timer.running
    clock.pump([1.0, 1.0, 1.0, 1.0])
    assert fired == [3.0]
    assert not timer.running


def test_starting_again_moves_it() -> None:
    clock, fired = Clock(), list[float]()
    timer = Timer(clock, lambda: fired.append(clock.seconds()))
    timer.start(3.0)
    clock.advance(2.0)
    timer.start(3.0)
    clock.pump([1.0] * 5)
    assert fired == [5.0]


@pytest.mark.parametrize(("due", "fires"), [(2.0, 2.0), (4.0, 3.0)])
def test_a_deadline_moves_it_only_forward(due: float, fires: float) -> None:
    clock, fired = Clock(), list[float]()
    timer = Timer(clock, lambda: fired.append(clock.seconds()))
    timer.start_at(3.0)
    timer.start_by(due)
    clock.pump([1.0] * 5)
    assert fired == [fires]


def test_one_that_is_stopped_or_overdue() -> None:
    clock, fired = Clock(), list[float]()
    timer = Timer(clock, lambda: fired.append(clock.seconds()))
    timer.start(1.0)
    timer.stop()
    timer.stop()
    clock.advance(2.0)
    assert fired == []
    timer.start_at(-5.0)
    clock.advance(0.0)
    assert fired == [2.0]


SET_BACK_AND_FORTH = """
import sys, time
offset = 0.0
real = time.time
time.time = lambda: real() + offset

from twisted.internet import reactor
from tunnelkit.net.sockets.timer import on_monotonic_clock, use_monotonic_clock

seconds_before = reactor.seconds
clock = on_monotonic_clock(reactor)
if sys.argv[1] == "role":
    use_monotonic_clock(reactor)
    clock = on_monotonic_clock(reactor)
    assert clock is reactor
else:
    assert reactor.seconds is seconds_before
began = time.monotonic()
fired = []

def set_clock():
    global offset
    offset = float(sys.argv[2])

def fire(what, after):
    late = time.monotonic() - began - after
    assert -0.001 <= late < 5, (what, late)
    fired.append(what)
    if len(fired) == 2:
        reactor.callFromThread(reactor.stop)

never = clock.callLater(0.3, fire, "cancelled", 0.3)
moved = clock.callLater(0.2, fire, "moved", 0.6)
clock.callLater(0.4, fire, "first", 0.4)
clock.callLater(0.05, set_clock)
clock.callLater(0.1, never.cancel)
clock.callLater(0.1, lambda: moved.reset(0.5))
reactor.run()
assert fired == ["first", "moved"], fired
left = [call for call in clock.getDelayedCalls() if call.active()]
assert not left, left
assert not [one for one in reactor.getReaders() if one.logPrefix() == "clock"]
"""


@pytest.mark.parametrize("offset", ["-3600", "3600", "0"])
@pytest.mark.parametrize("owner", ["role", "host program"])
def test_setting_the_wall_clock_moves_no_timer(owner: str, offset: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SET_BACK_AND_FORTH, owner, offset],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr


def test_importing_the_package_touches_no_reactor() -> None:
    script = (
        "from twisted.internet import reactor; before = reactor.seconds\n"
        "import tunnelkit, tunnelkit.roles.end\n"
        "import tunnelkit.net.lstp.protocol, tunnelkit.net.usher.meeting\n"
        "assert reactor.seconds is before and not reactor.getDelayedCalls()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_clock_outlives_what_empties_its_reactor() -> None:
    """As trial does after a test that has left a timer behind."""
    reactor: Any = SelectReactor()
    on_monotonic_clock(reactor).callLater(0.01, lambda: None)
    reactor.removeAll()
    on_monotonic_clock(reactor).callLater(0.02, reactor.stop)
    late = reactor.callLater(20, reactor.stop)
    reactor.run(installSignalHandlers=False)
    assert late.active(), "nothing was due any more"
    late.cancel()
