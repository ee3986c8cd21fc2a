"""Learning from a mirror (row W3)."""

from __future__ import annotations

from tunnelkit.core.wtls.mirror import REMEMBERED, Learned, suffix_of

DOMAIN = ("domain.bank.example", 5684)


def test_a_host_is_under_the_longest_suffix_that_fits() -> None:
    suffixes = ("example", "bank.example", "other.example")
    assert suffix_of("www.bank.example", suffixes) == "bank.example"
    assert suffix_of("bank.example", suffixes) == "bank.example"
    assert suffix_of("notbank.example", suffixes) == "example"
    assert suffix_of("example.org", suffixes) is None


def test_what_was_learned_is_remembered_for_five_minutes_failures_for_ten_seconds() -> None:
    learned = Learned()
    assert learned.look_up("a.example", 0.0) == (False, None)
    learned.remember("a.example", DOMAIN, 0.0)
    learned.remember("b.example", None, 0.0)
    assert learned.look_up("a.example", 299.0) == (True, DOMAIN)
    assert learned.look_up("b.example", 9.0) == (True, None)
    assert learned.look_up("a.example", 300.0) == learned.look_up("b.example", 10.0)
    learned.remember("b.example", DOMAIN, 10.0)
    assert learned.look_up("b.example", 11.0) == (True, DOMAIN)


def test_only_so_many_hosts_are_remembered() -> None:
    learned = Learned()
    for number in range(REMEMBERED + 1):
        learned.remember(f"{number}.example", DOMAIN, 0.0)
    assert learned.look_up("0.example", 1.0) == (False, None)
    assert learned.look_up("1.example", 1.0) == (True, DOMAIN)
