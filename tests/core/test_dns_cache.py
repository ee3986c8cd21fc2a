"""Answers are kept as long as they may be, and no more of them than agreed."""

from __future__ import annotations

from tests.wire.test_dns import ADDRESS, SOA, record, reply
from tunnelkit.core.dns_cache import LONGEST, LONGEST_NEGATIVE, DnsCache
from tunnelkit.wire import dns

ANSWER = reply(record(ADDRESS, 300))


def test_an_answer_grows_old_and_dies() -> None:
    cache = DnsCache()
    cache.put(b"key", ANSWER, 1000.0)
    assert cache.get(b"key", 1000.9) == ANSWER
    older = cache.get(b"key", 1100.0)
    assert older is not None
    life = dns.lifetime(older)
    assert life is not None
    assert life.seconds == 200
    assert cache.get(b"key", 1299.9) is not None
    assert cache.get(b"key", 1300.0) is None
    assert len(cache) == 0


def test_that_there_is_no_such_name_is_kept_for_as_long_as_the_zone_says() -> None:
    cache = DnsCache()
    cache.put(b"key", reply(authority=(record(SOA, 900, b"example"),), code=3), 0.0)
    assert cache.get(b"key", 59.0) is not None
    assert cache.get(b"key", 60.0) is None


def test_nothing_is_kept_for_ever() -> None:
    cache = DnsCache()
    cache.put(b"key", reply(record(ADDRESS, 1_000_000)), 0.0)
    assert cache.get(b"key", LONGEST - 1) is not None
    assert cache.get(b"key", LONGEST) is None
    soa = record(type(SOA)(b"ns", b"h", 1, 2, 3, 4, minimum=1_000_000, ttl=1_000_000), 1_000_000)
    cache.put(b"key", reply(authority=(soa,)), 0.0)
    assert cache.get(b"key", LONGEST_NEGATIVE) is None


def test_what_may_not_be_kept_is_not_and_takes_its_predecessor_along() -> None:
    cache = DnsCache()
    for answer in (reply(code=2), reply(record(ADDRESS, 0)), b"rubbish of some length"):
        cache.put(b"key", answer, 0.0)
        assert cache.get(b"key", 0.0) is None
    cache.put(b"key", ANSWER, 0.0)
    cache.put(b"key", reply(code=2), 1.0)
    assert cache.get(b"key", 1.0) is None


def test_the_one_asked_for_least_recently_makes_room() -> None:
    cache = DnsCache(max_entries=2)
    for key in (b"a", b"b"):
        cache.put(key, ANSWER, 0.0)
    assert cache.get(b"a", 1.0) is not None
    cache.put(b"c", ANSWER, 1.0)
    assert cache.get(b"b", 1.0) is None
    assert cache.get(b"a", 1.0) is not None
    assert cache.get(b"c", 1.0) is not None


def test_large_answers_do_not_add_up() -> None:
    cache = DnsCache(max_bytes=3 * (len(ANSWER) + 1))
    for key in (b"a", b"b", b"c", b"d"):
        cache.put(key, ANSWER, 0.0)
    assert len(cache) == 3
    cache.clear()
    assert len(cache) == 0
    cache.put(b"a", ANSWER, 0.0)
    assert len(cache) == 1
