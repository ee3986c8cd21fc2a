"""Ends that strangers come to: early drop, and no more hurry than is wise (rules X16, X18)."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.net.channels.ends import FAR, NEAR, PROTOCOLS, EndsCase
from tunnelkit.net.channels.unproved import MAX_UNPROVED, MAX_UNPROVED_PER_ADDRESS, Unproved
from tunnelkit.net.usher.meeting import GateRendezvous


class Door:
    """Strangers at an `Unproved`."""

    def __init__(self) -> None:
        self.unproved = Unproved()
        self.dropped: list[int] = []
        self.came = 0

    def come(self, host: str) -> Deferred[None]:
        """One more, who does not say who he is; `dropped` has his number if he is sent away."""
        number, self.came = self.came, self.came + 1
        self.unproved.make_room(host)
        proving: Deferred[None] = Deferred()

        def gone(failure: Any) -> None:
            failure.trap(CancelledError)
            self.dropped.append(number)

        self.unproved.add(proving, host)
        proving.addErrback(gone)
        return proving


def test_one_address_fills_only_its_own_places() -> None:
    door = Door()
    door.come("192.0.2.1")
    for _ in range(MAX_UNPROVED_PER_ADDRESS + 2):
        door.come("192.0.2.2")
    assert door.dropped == [1, 2]


def test_of_all_the_oldest_goes_first() -> None:
    door = Door()
    for number in range(MAX_UNPROVED + 2):
        door.come(f"192.0.2.{number}")
    assert door.dropped == [0, 1]


def test_who_has_proved_who_he_is_is_never_dropped() -> None:
    door = Door()
    for _ in range(2 * MAX_UNPROVED):
        door.come("192.0.2.1").callback(None)
    door.come("192.0.2.1")
    assert door.dropped == []


class GateTests(EndsCase):
    async def test_silent_strangers_do_not_keep_a_portal_out(self) -> None:
        place = await self.place("usher")
        gate = place.far
        assert isinstance(gate, GateRendezvous)
        far = self.end(FAR, gate, [PROTOCOLS["usher_1_1"]()])
        strangers = []
        for _ in range(MAX_UNPROVED_PER_ADDRESS + 1):
            ours, theirs = socket.socketpair()
            for sock in (ours, theirs):
                sock.setblocking(False)
            self.addCleanup(ours.close)
            strangers.append(ours)
            gate.accept(theirs, ("192.0.2.1", 4000))
        await self.until(lambda: _is_closed(strangers[0]))
        near = self.end(NEAR, place.near, [PROTOCOLS["usher_1_1"]()])
        await near.tunnel.when_up()
        assert not any(_is_closed(sock) for sock in strangers[1:])
        await far.stop(0.5)
        assert all(_is_closed(sock) for sock in strangers), "an end that stops waits for nobody"

    async def test_a_gate_that_is_stopped_takes_nobody_in(self) -> None:
        place = await self.place("usher")
        gate = place.far
        assert isinstance(gate, GateRendezvous)
        await self.end(FAR, gate, [PROTOCOLS["usher_1_1"]()]).stop(0.5)
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        ours.setblocking(False)
        theirs.setblocking(False)
        gate.accept(theirs, ("192.0.2.1", 4000))
        assert _is_closed(ours)


def _is_closed(sock: socket.socket) -> bool:
    """Whether the other side has gone; what it says before that does not matter."""
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True
