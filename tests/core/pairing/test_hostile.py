"""Somebody in between who has a TLS connection with each side, and does what he likes (Q2)."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from hypothesis import given
from hypothesis import strategies as st

from tests.core.pairing.test_exchange import CHANNEL, CODE, LAPTOP, OFFICE, meeting
from tunnelkit.core.pairing.exchange import STEP_LIMIT, Event, Exchange, Failed, Paired
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.pairing import encode

ELSEWHERE = bytes(reversed(range(32)))
"""What TLS exports for the other one of his two connections."""
OLD = [encode(message) for _, message in meeting().run().seen]
"""All that was said when the two paired at another time, by the same code."""


@attrs.define
class Between:
    """Has what each side sends; what he hands on is up to the plan."""

    inside: Exchange
    joiner: Exchange
    sent: bytes = b""
    events: list[Event] = attrs.field(factory=list)

    def take(self, of_joiner: bool) -> bytes:
        """What one side has to say now."""
        data = (self.joiner if of_joiner else self.inside).data_to_send()
        self.sent += data
        return data

    def give(self, to_joiner: bool, data: bytes) -> None:
        """Hand it to one side, whatever it is."""
        side = self.joiner if to_joiner else self.inside
        if data and side.next_deadline() is not None:
            try:
                self.events += side.receive(data, 0.0)
            except RemoteProtocolError:
                pass


def flipped(data: bytes, where: int) -> bytes:
    """One bit of it is another one."""
    place = where % (8 * len(data))
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


Trick = Callable[[Between, bool, bytes, int], None]
"""``(between, from_joiner, data, number)``."""

TRICKS: tuple[Trick, ...] = (
    lambda between, joiner, data, _: between.give(not joiner, data),
    lambda between, joiner, data, _: None,
    lambda between, joiner, data, _: between.give(not joiner, data + data),
    lambda between, joiner, data, _: between.give(joiner, data),
    lambda between, joiner, data, cut: between.give(not joiner, data[: cut % (len(data) + 1)]),
    lambda between, joiner, data, bit: between.give(not joiner, data and flipped(data, bit)),
    lambda between, joiner, data, pick: between.give(not joiner, OLD[pick % len(OLD)]),
    lambda between, joiner, data, pick: between.give(joiner, OLD[pick % len(OLD)] + data),
)
"""Hand on, swallow, double, reflect, cut off, change, replay instead, replay to who has spoken."""


@given(
    st.lists(
        st.tuples(st.sampled_from(TRICKS), st.booleans(), st.integers(0, 1 << 16)), max_size=12
    )
)
def test_whatever_he_does_nobody_pairs_and_nothing_is_offered(
    plan: list[tuple[Trick, bool, int]],
) -> None:
    inside = Exchange(OFFICE, CODE, CHANNEL, 0.0)
    between = Between(inside, Exchange(LAPTOP, CODE, ELSEWHERE, 0.0))
    for trick, of_joiner, number in plan:
        trick(between, of_joiner, between.take(of_joiner), number)
    # In the end he lets everything through, or is silent: both are over in time.
    for of_joiner in (False, True) * 4:
        between.give(not of_joiner, between.take(of_joiner))
    for side in (between.inside, between.joiner):
        between.events += side.deadline_passed(STEP_LIMIT)
        between.take(side is between.joiner)
        assert side.next_deadline() is None
    assert all(isinstance(event, Failed) for event in between.events), between.events
    assert Paired() not in between.events
    assert b'"rendezvous"' not in between.sent
    assert b'"certificate"' not in between.sent
