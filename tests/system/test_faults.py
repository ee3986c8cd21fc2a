"""Parties that die, drain or fall silent while a tunnel crosses the laboratory (R4, R5, R10).

An application sees an exact prefix of what was sent and then a reset, never a clean end (X11).
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator

import attrs
import pytest

from tests.acceptance.applications import Application, Received, pour
from tests.acceptance.processes import Role
from tests.system.crossings import CROSSINGS, Crossing, Running, Start, start_lstp
from tests.system.laboratory import MIDDLE_PORT, MIDDLES, WIKI, Laboratory
from tests.system.places import Place

PORT = 9100
MIB = 1 << 20
PATIENCE = 60.0
NOTICED = 2.0
"""Seconds within which a killed party is noticed at both sides (R4)."""
REFUSED = 0.5
"""Seconds within which a party that ends refuses what is new (R10)."""
SILENCE = 30.0
"""Seconds after which an end takes a silent peer for dead (R5)."""
UNANSWERED = 60.0
"""Seconds after which a middle does."""
SLACK = 2.0
"""The tests' own, for both."""


@attrs.frozen
class Stream:
    """One connection from company B to company A."""

    near: Received
    """The bytes as they come in company B."""
    ended: threading.Event
    """Set once the application in company A cannot send any more."""


class Pouring:
    """A service of company A that sends ``size`` bytes, or endlessly, to whoever comes."""

    def __init__(self, lab: Laboratory, size: int | None = None) -> None:
        self.lab = lab
        self._size = size
        self._ended: list[threading.Event] = []
        listener = lab.company_a.call(lambda: socket.create_server((WIKI, PORT)))
        self.application = Application(self._talk, listener)

    def _talk(self, sock: socket.socket) -> None:
        ended = threading.Event()
        self._ended.append(ended)
        sock.settimeout(PATIENCE)
        pour(sock, self._size)
        ended.set()

    def dial(self, crossing: Crossing) -> socket.socket:
        """Connect to it from company B."""
        return dial(self.lab.company_b, crossing.forward())

    @contextlib.contextmanager
    def stream(self, crossing: Crossing, at_least: int = MIB) -> Iterator[Stream]:
        """A transfer that is under way."""
        with self.dial(crossing) as sock:
            received = Received(sock)
            received.at_least(at_least)
            yield Stream(received, self._ended[-1])


def crossings(often: set[str]) -> pytest.MarkDecorator:
    """A test for each kind of tunnel; those that are not ``often`` are marked as long."""
    params = [
        pytest.param(start, id=kind, marks=[] if kind in often else [pytest.mark.long])
        for kind, start in CROSSINGS.items()
    ]
    return pytest.mark.parametrize("start", params)


def dial(place: Place, address: tuple[str, int]) -> socket.socket:
    """A connection from there."""
    return place.call(lambda: socket.create_connection(address, PATIENCE))


@contextlib.contextmanager
def pouring(lab: Laboratory, size: int | None = None) -> Iterator[Pouring]:
    """The service, running."""
    service = Pouring(lab, size)
    with service.application:
        yield service


def parties(crossing: Crossing) -> list[str]:
    """The fields of a crossing that hold its parties; those in between by number."""
    return [*map(str, range(len(crossing.between))), "far", "near"]


def party(crossing: Crossing, which: str) -> Role:
    found = crossing.between[int(which)] if which.isdigit() else getattr(crossing, which)
    assert isinstance(found, Role)
    return found


def restarted(running: Running, crossing: Crossing, which: str) -> Crossing:
    """The crossing with one of its parties started again, once the near one is connected again."""
    near = crossing.near
    seen = len(near.process.lines)
    role = running.again(party(crossing, which))
    if which == "near":
        return attrs.evolve(crossing, near=role)
    if near.process.child.poll() is None:
        near.wait_for(" is up: ", since=seen)
    else:
        near = running.again(near)
    if which == "far":
        return attrs.evolve(crossing, near=near, far=role)
    between = list(crossing.between)
    between[int(which)] = role
    return attrs.evolve(crossing, near=near, between=tuple(between))


@crossings(often={"lstp", "usher"})
def test_kill_9_of_any_party_is_a_reset_behind_an_exact_prefix(
    lab: Laboratory, running: Running, start: Start
) -> None:
    with pouring(lab) as service:
        target = service.application.destination
        crossing = start(running, [target], [target])
        for which in parties(crossing):
            entrance = crossing.forward()
            seen = len(crossing.near.process.lines)
            with service.stream(crossing) as stream:
                killed = time.monotonic()
                party(crossing, which).process.kill()
                assert stream.near.to_the_end() == "reset", which
                assert stream.near.exact
                assert stream.ended.wait(PATIENCE), "company A is told too"
                assert time.monotonic() - killed < NOTICED, which
            if which == "near":
                with pytest.raises(ConnectionRefusedError):
                    dial(lab.company_b, entrance)
            else:
                crossing.near.wait_for(" has ended: ", since=seen)
            crossing = restarted(running, crossing, which)
            with service.stream(crossing) as stream:
                assert stream.near.exact


def seconds_until_refused(place: Place, address: tuple[str, int]) -> float:
    """How long a connection takes that is not to be; it gets no byte, and no clean end."""
    began = time.monotonic()
    try:
        with dial(place, address) as sock:
            said: bytes | None = sock.recv(1)
    except ConnectionError:
        said = None
    assert said is None, "the connection has not been refused"
    return time.monotonic() - began


@crossings(often={"lstp", "usher"})
def test_any_party_that_drains_lets_what_is_open_finish(
    lab: Laboratory, running: Running, start: Start
) -> None:
    size = 24 * MIB
    with pouring(lab, size) as service:
        target = service.application.destination
        crossing = start(running, [target], [target])
        for which in reversed(parties(crossing)):
            role = party(crossing, which)
            entrance = lab.company_b, crossing.forward()
            if which.isdigit():
                entrance = lab.internet, (MIDDLES[int(which)], MIDDLE_PORT)
            with service.stream(crossing) as stream:
                role.process.child.send_signal(signal.SIGTERM)
                role.wait_for("Ending: ")
                if "listening on 192" in role.ready or which in ("near", "far"):
                    assert seconds_until_refused(*entrance) < REFUSED, which
                assert stream.near.to_the_end() == "clean", which
                assert stream.near.exact
                assert stream.near.size == size
            if which.isdigit():
                assert crossing.near.process.stop() == 0
            assert role.process.wait() == 0, which
            crossing = restarted(running, crossing, which)


@crossings(often={"lstp"})
def test_silence_is_noticed_and_the_tunnel_comes_back(
    lab: Laboratory, running: Running, start: Start
) -> None:
    with pouring(lab) as service:
        target = service.application.destination
        crossing = start(running, [target], [target])
        ends = crossing.near, crossing.far
        with service.stream(crossing) as stream:
            lab.cut()
            began = time.monotonic()
            for end in ends:
                end.wait_for(" has ended: timed-out", limit=SILENCE + SLACK)
            print(f"noticed after {time.monotonic() - began:.1f} s")
            assert stream.near.to_the_end() == "reset"
            assert stream.near.exact
            assert stream.ended.wait(SLACK), "company A is told too"
        seen = len(crossing.near.process.lines)
        lab.calm()
        crossing.near.wait_for(" is up: ", limit=PATIENCE, since=seen)
        with service.stream(crossing) as stream:
            assert stream.near.exact
        for role in crossing.between:
            role.process.kill()  # asked to end, it would wait for what TCP has not given up yet


@pytest.mark.long
def test_a_middle_lets_go_of_a_pair_that_has_fallen_silent(
    lab: Laboratory, running: Running
) -> None:
    with pouring(lab) as service:
        target = service.application.destination
        crossing = start_lstp(running, [target], [target])
        with service.stream(crossing):
            lab.cut()
            crossing.between[0].wait_for("Pair 1 ended: reset", limit=UNANSWERED + SLACK)
