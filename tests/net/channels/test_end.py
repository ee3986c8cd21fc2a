"""Ends that strangers come to: early drop, and no more hurry than is wise (rules X16, X18)."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from tests.net.channels.ends import FAR, NEAR, PROTOCOLS, EndsCase, reactor
from tunnelkit.core.lstp.middle import Lobby
from tunnelkit.errors import ChannelRefused, Code, PeerNotTrusted
from tunnelkit.net.channels.unproved import (
    HANDSHAKE_BURST,
    HANDSHAKE_RATE,
    MAX_UNPROVED,
    MAX_UNPROVED_PER_ADDRESS,
    PENALTY,
    Unproved,
)
from tunnelkit.net.lstp.meeting import LstpParty, LstpRendezvous
from tunnelkit.net.lstp.middle import LstpMiddleFactory
from tunnelkit.net.usher.meeting import GateRendezvous


class Door:
    """Strangers at an `Unproved`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.unproved = Unproved(lambda: self.now)
        self.dropped: list[str] = []

    def come(self, host: str) -> Deferred[None] | None:
        """One more, who does not say who he is; None: turned away. `dropped` has the hosts of
        those who are sent away later."""
        if not self.unproved.admits(host):
            return None
        self.unproved.make_room(host)
        proving: Deferred[None] = Deferred()

        def gone(failure: Any) -> None:
            if failure.trap(CancelledError, PeerNotTrusted) is CancelledError:
                self.dropped.append(host)

        self.unproved.add(proving, host)
        proving.addErrback(gone)
        return proving

    def admitted(self, host: str) -> int:
        """How many of a hundred more are admitted, all of whom stay as long as they can."""
        return sum(self.come(host) is not None for _ in range(100))


def test_one_address_fills_only_its_own_places() -> None:
    door = Door()
    door.come("192.0.2.1")
    for _ in range(MAX_UNPROVED_PER_ADDRESS + 2):
        door.come("192.0.2.2")
    assert door.dropped == ["192.0.2.2"] * 2


def test_all_of_a_site_with_ipv6_are_one_address() -> None:
    door = Door()
    for number in range(MAX_UNPROVED_PER_ADDRESS + 2):
        door.come(f"2001:db8::{number:x}")
    assert len(door.dropped) == 2


def test_there_are_never_more_than_there_is_room_for() -> None:
    door = Door()
    for number in range(MAX_UNPROVED + 2):
        door.come(f"192.0.2.{number}")
    assert len(door.dropped) == 2


def test_who_has_proved_who_he_is_is_never_dropped_or_counted() -> None:
    door = Door()
    for _ in range(2 * MAX_UNPROVED):
        proving = door.come("192.0.2.1")
        assert proving is not None
        proving.callback(None)
    assert door.come("192.0.2.1") is not None
    assert door.dropped == []


def test_an_address_begins_only_so_many_handshakes_a_second() -> None:
    door = Door()
    assert door.admitted("192.0.2.1") == HANDSHAKE_BURST
    door.now += 1.0
    assert door.admitted("192.0.2.1") == HANDSHAKE_RATE
    assert door.come("192.0.2.2") is not None


def test_a_bad_certificate_counts_for_several() -> None:
    door = Door()
    for _ in range(5):
        proving = door.come("192.0.2.1")
        assert proving is not None
        proving.errback(PeerNotTrusted("who is that?"))
    assert door.admitted("192.0.2.1") == HANDSHAKE_BURST - 5 * (1 + PENALTY)


def test_through_a_bastion_come_as_many_as_there_is_room_for() -> None:
    door = Door()
    door.unproved.is_bastion = lambda host: host == "10.0.0.1"
    assert door.admitted("10.0.0.1") == 100
    assert door.dropped == []
    assert door.admitted("10.0.0.1") == 100
    assert door.admitted("10.0.0.1") == 100
    assert len(door.dropped) == 100
    assert door.come("192.0.2.1") is not None
    assert set(door.dropped) == {"10.0.0.1"}


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
        await self.until(lambda: sum(map(_is_closed, strangers)) == 1)
        near = self.end(NEAR, place.near, [PROTOCOLS["usher_1_1"]()])
        await near.tunnel.when_up()
        assert sum(map(_is_closed, strangers)) == 1
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

    async def test_who_waits_for_a_tunnel_is_told_at_once_when_there_will_be_none(self) -> None:
        place = await self.place("usher")
        end = self.end(NEAR, place.far, [PROTOCOLS["usher_1_1"]()])
        for over in (lambda: end.disconnect(0.5), lambda: end.stop(0.5)):
            opening = connectProtocol(end.tunnel.channel_to("service:echo"), Protocol())
            assert not opening.called
            over()
            assert opening.called
            with pytest.raises(ChannelRefused) as refused:
                await opening
            assert refused.value.code is Code.UNREACHABLE

    async def test_where_the_name_of_a_stranger_ends_is_to_be_seen_in_the_log(self) -> None:
        said: list[str] = []

        def note(event: LogEvent) -> None:
            if "announced" in event:
                said.append(formatEvent(event))

        observer: Any = note
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        middle = LstpMiddleFactory(reactor, Lobby("middle", "here"))
        self.addCleanup(middle.shut_down)
        listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        way = await self._way(listening, middle)
        name = 'boss: done" peer="boss'
        for who, own, role in ((FAR, FAR, "server-end"), (NEAR, name, "client-end")):
            party = LstpParty("c" * 43, own, role)
            self.end(who, LstpRendezvous(self.shared, way, party), [PROTOCOLS["lstp"]()])
        await self.until(lambda: said)
        shown = r'"boss: done\" peer=\"boss"'
        assert said[0].startswith(f"No tunnel test with who calls itself {shown}: ")


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
