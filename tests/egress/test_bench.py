"""The service ``@bench``: for whom, what it answers, and what it costs at most."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock

from tests.frontends.fake_tunnel import FakeRequest
from tunnelkit.egress import bench
from tunnelkit.egress.bench import CHANNELS_PER_PEER, BenchEgress, BenchSide
from tunnelkit.egress.denials import Denials
from tunnelkit.errors import ChannelRefused, Code
from tunnelkit.net.channels.contracts import END
from tunnelkit.policy.acl import PolicyHolder, parse_rule
from tunnelkit.policy.destination import BENCH_SERVICE, parse_destination
from tunnelkit.wire.measurement import Report, last_report


class Egress:
    """What `BenchEgress` needs of one."""

    def __init__(self, *rules: str) -> None:
        self.reactor = Clock()
        self.policy = PolicyHolder()
        self.policy.replace(map(parse_rule, rules))
        self.denials = Denials(self.reactor)
        self.answered: list[str] = []

    def answer_with(self, key: str, handler: object) -> None:
        self.answered.append(key)


@attrs.define
class Channel:
    """The tunnel's side: takes all there is, whenever it is asked to."""

    side: BenchSide
    room: int = 1000
    sent: bytes = b""
    ended: bool = False
    aborted: Code | None = None
    wakened: bool = False

    def ready(self) -> None:
        self.wakened = True

    def drained(self) -> None:
        pass

    def abort(self, code: Code, reason: str) -> None:
        self.aborted = code
        self.side.reset(code, reason)

    def pull(self) -> None:
        """As the scheduler does: again if all was filled, or if it says that there is more."""
        while self.wakened and not self.ended:
            self.wakened = False
            view = memoryview(bytearray(self.room))
            got = self.side.pull_into(view)
            if got == END:
                self.ended = True
            elif got:
                self.sent += bytes(view[:got])
                self.wakened = self.wakened or got == self.room


class Far:
    """The far side of a measurement."""

    def __init__(self, *rules: str) -> None:
        self.egress = Egress(*(rules or (BENCH_SERVICE,)))
        self.clock = self.egress.reactor
        given: Any = self.egress
        self.bench = BenchEgress(given)

    def ask(self, peer: str = "gate") -> FakeRequest:
        request: Any = FakeRequest(BENCH_SERVICE, peer)
        self.bench.answer(request, parse_destination(BENCH_SERVICE))
        made: FakeRequest = request
        return made

    def refusal(self, peer: str = "gate") -> Code:
        failed: list[Any] = []
        self.ask(peer).answer.addErrback(failed.append)
        error = failed[0].value
        assert isinstance(error, ChannelRefused)
        return error.code

    def channel(self, *said: bytes) -> Channel:
        side = self.ask().side
        assert isinstance(side, BenchSide)
        channel = Channel(side)
        handle: Any = channel
        side.attach(handle)
        for data in said:
            assert side.push(memoryview(data)) == len(data)
        return channel


@pytest.fixture
def far() -> Far:
    return Far()


def test_it_answers_for_that_service(far: Far) -> None:
    assert far.egress.answered == ["service:@bench"]


@pytest.mark.parametrize("rule", ["service:web", "other=service:@bench", "tcp:*:*"])
def test_without_a_rule_for_the_peer_it_is_not_allowed(rule: str) -> None:
    far = Far(rule)
    assert far.refusal() is Code.NOT_ALLOWED
    assert far.egress.denials.counts["no-rule"] == 1


def test_one_peer_has_so_many_at_once_and_another_one_his_own(far: Far) -> None:
    sides = [far.ask().side for _ in range(CHANNELS_PER_PEER)]
    assert far.refusal() is Code.LIMIT
    assert far.ask("other").side is not None
    assert sides[0] is not None
    sides[0].close()
    assert far.ask().side is not None
    assert far.refusal() is Code.LIMIT


def test_down_sends_for_as_long_as_asked_then_says_how_much(far: Far) -> None:
    channel = far.channel(b"down 2", b"000\n")
    for _ in range(4):
        far.clock.advance(0.5)
        channel.wakened = True
        channel.room = 1_500_000  # more than the piece that is sent again and again
        if far.clock.seconds() < 2:
            view = memoryview(bytearray(channel.room))
            assert channel.side.pull_into(view) == channel.room
            channel.sent += bytes(view)
    channel.pull()
    assert channel.ended
    report, length = last_report(channel.sent[-48:])
    assert report == Report(len(channel.sent) - length - 1, 1_500_000)
    assert report.count == 3 * 1_500_000


def test_down_ends_when_it_has_carried_enough(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "MOST_BYTES", 5000)
    channel = far.channel(b"down 60000\n")
    channel.pull()
    assert channel.ended
    assert last_report(channel.sent[-48:])[0].count == 5000


def test_up_is_counted_reported_now_and_then_and_at_the_end(far: Far) -> None:
    channel = far.channel(b"up 2000\n" + b"x" * 10)
    far.clock.advance(0.2)
    assert channel.side.push(memoryview(b"y" * 90)) == 90
    far.clock.advance(0.1)
    channel.pull()
    assert channel.sent == b"100 200000\n"
    far.clock.advance(0.3)
    channel.pull()
    assert channel.sent == b"100 200000\n", "nothing has changed"
    assert channel.side.push(memoryview(b"z")) == 1
    channel.side.finish()
    channel.pull()
    assert channel.sent == b"100 200000\n101 600000\n"
    assert channel.ended


def test_up_of_nothing_is_reported_too(far: Far) -> None:
    channel = far.channel(b"up 1\n")
    channel.side.finish()
    channel.pull()
    assert (channel.sent, channel.ended) == (b"0 0\n", True)


def test_echo_gives_back_what_comes_and_ends_with_it(far: Far) -> None:
    channel = far.channel(b"echo 1000\nabc", b"def")
    channel.pull()
    assert (channel.sent, channel.ended) == (b"abcdef", False)
    channel.side.finish()
    channel.pull()
    assert channel.ended


def test_echo_takes_no_more_than_it_can_keep(far: Far) -> None:
    channel = far.channel(b"echo 1000\n")
    much = memoryview(bytes(100_000))
    taken = channel.side.push(much)
    assert taken < len(much)
    assert channel.side.push(much[taken:]) == 0
    channel.pull()
    assert len(channel.sent) == taken
    assert channel.side.push(much[taken:]) == len(much) - taken


@pytest.mark.parametrize("said", [b"fetch 1000\n", b"down 99999\n", b"x" * 60])
def test_what_is_no_measurement_ends_the_channel(far: Far, said: bytes) -> None:
    assert far.channel(said).aborted is Code.PROTOCOL


def test_an_end_before_anything_was_asked_ends_the_channel(far: Far) -> None:
    channel = far.channel(b"down 1")
    channel.side.finish()
    assert channel.aborted is Code.PROTOCOL


@pytest.mark.parametrize(
    ("said", "limit"), [(b"", bench.ASKING), (b"echo 2000\n", 2 + bench.SETTLING)]
)
def test_nobody_keeps_a_channel_for_longer_than_a_measurement_takes(
    far: Far, said: bytes, limit: float
) -> None:
    channel = far.channel(*([said] if said else []))
    far.clock.advance(limit - 0.1)
    assert channel.aborted is None
    far.clock.advance(0.2)
    assert channel.aborted is Code.LIMIT
    assert far.clock.getDelayedCalls() == []
