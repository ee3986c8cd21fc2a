"""What a peer can do by handing over revocation lists is bounded, and believed by nobody unread."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tunnelkit.egress.list_exchange import DESTINATION, LARGEST, PATIENCE, ListExchange
from tunnelkit.errors import Code, ConfigError
from tunnelkit.policy.destination import parse_destination

WHERE = parse_destination(DESTINATION)


class Channel:
    """What the far side's list comes through."""

    def __init__(self) -> None:
        self.aborted = False

    def ready(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def abort(self, code: Code, reason: str) -> None:
        self.aborted = True


class Request:
    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.side: Any = None
        self.refused: Code | None = None
        self.channel = Channel()

    def attach(self, side: Any, bound: str, rule: str = "") -> None:
        self.side = side
        side.attach(self.channel)

    def refuse(self, code: Code, reason: str) -> None:
        self.refused = code


class World:
    """An end that takes lists; also its own egress."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.came: list[tuple[bytes, str]] = []
        egress: Any = self
        self.exchange = ListExchange(egress, egress, lambda: b"", self.take)

    def answer_with(self, destination: str, handler: Any) -> None:
        assert destination == DESTINATION

    def take(self, data: bytes, peer: str) -> None:
        self.came.append((data, peer))
        if data == b"bad":
            raise ConfigError("it is no list")

    def ask(self, peer: str = "b") -> Request:
        request = Request(peer)
        asked: Any = request
        self.exchange.answer(asked, WHERE)
        return request


@pytest.fixture
def world() -> World:
    return World()


def test_all_of_it_is_taken_at_its_end_and_then_the_next_may_come(world: World) -> None:
    for data in (b"a list", b"bad"):
        request = world.ask()
        request.side.push(memoryview(data[:2]))
        request.side.push(memoryview(data[2:]))
        assert (data, "b") not in world.came
        request.side.finish()
        assert world.came[-1] == (data, "b")
        request.side.close()
    assert not world.reactor.getDelayedCalls()


def test_a_peer_has_one_at_a_time(world: World) -> None:
    world.ask("b")
    assert world.ask("b").refused is Code.LIMIT
    assert world.ask("c").refused is None


def test_one_that_is_too_long_is_cut_off(world: World) -> None:
    request = world.ask()
    request.side.push(memoryview(bytes(LARGEST)))
    assert not request.channel.aborted
    request.side.push(memoryview(b"x"))
    assert request.channel.aborted
    assert world.came == []


def test_one_that_never_ends_is_cut_off(world: World) -> None:
    request = world.ask()
    request.side.push(memoryview(b"slow"))
    world.reactor.advance(PATIENCE)
    assert request.channel.aborted
    assert world.came == []
