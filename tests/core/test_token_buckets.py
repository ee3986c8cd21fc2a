"""How often an address may do something (rule X16)."""

from __future__ import annotations

from tunnelkit.core.token_buckets import MAX_REMEMBERED, TokenBuckets


def taken(buckets: TokenBuckets, address: str, now: float) -> int:
    """How often ``address`` may at ``now``, up to a hundred times."""
    return sum(buckets.take(address, now) for _ in range(100))


def test_a_burst_then_the_rate() -> None:
    buckets = TokenBuckets(2.0, 5)
    assert taken(buckets, "192.0.2.1", 0.0) == 5
    assert taken(buckets, "192.0.2.1", 0.4) == 0
    assert taken(buckets, "192.0.2.1", 1.5) == 3
    assert taken(buckets, "192.0.2.1", 1000.0) == 5


def test_one_address_takes_nothing_from_another() -> None:
    buckets = TokenBuckets(2.0, 5)
    taken(buckets, "192.0.2.1", 0.0)
    assert taken(buckets, "192.0.2.2", 0.0) == 5


def test_what_was_right_does_not_count() -> None:
    buckets = TokenBuckets(2.0, 5)
    for _ in range(100):
        assert buckets.take("192.0.2.1", 0.0)
        buckets.give_back("192.0.2.1", 0.0)
    assert not len(buckets)
    taken(buckets, "192.0.2.1", 0.0)
    buckets.give_back("192.0.2.1", 0.0)
    assert taken(buckets, "192.0.2.1", 0.0) == 1


def test_a_penalty_is_paid_off_within_two_bursts() -> None:
    buckets = TokenBuckets(2.0, 5)
    for _ in range(100):
        buckets.charge("192.0.2.1", 4, 0.0)
    assert taken(buckets, "192.0.2.1", 2.5) == 0
    assert taken(buckets, "192.0.2.1", 5.0) == 5


def test_no_more_addresses_are_remembered_than_there_is_room_for() -> None:
    buckets = TokenBuckets(2.0, 5)
    for number in range(MAX_REMEMBERED + 10):
        buckets.take(str(number), 0.0)
    assert len(buckets) == MAX_REMEMBERED
