"""From a host name to its addresses (rule X23)."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from tests.core.dns_talk import answering, coded, question, truncated
from tunnelkit.core.dns_exchange import Ask
from tunnelkit.core.resolver_files import ResolverSettings
from tunnelkit.core.stub_resolver import LIMIT, PATIENCE, Outcome, Resolution
from tunnelkit.wire.dns import NXDOMAIN, SERVFAIL
from tunnelkit.wire.dns_addresses import AAAA, A

SETTINGS = ResolverSettings(servers=(("192.0.2.53", 53),))
Zone = dict[str, tuple[str, ...]]
Say = Callable[[Ask], bytes | None]


def serving(zone: Zone) -> Callable[[Ask], bytes]:
    """A resolver that knows the names of ``zone``, and no others."""

    def say(ask: Ask) -> bytes:
        name, kind = question(ask)
        if name not in zone:
            return coded(ask, NXDOMAIN)
        return answering(ask, *(one for one in zone[name] if (":" in one) is (kind == AAAA)))

    return say


class Talk:
    """A `Resolution` and what it has asked for, with a clock that moves when nobody answers."""

    def __init__(self, host: str, say: Say, settings: ResolverSettings = SETTINGS) -> None:
        self.now = 100.0
        self.asked: list[Ask] = []
        self.resolution = Resolution(host, settings, {"web": ("192.0.2.7",)}, self.now)
        while not self.resolution.over:
            asks = [one for one in self.resolution.commands() if isinstance(one, Ask)]
            self.asked += asks
            for ask in asks:
                message = say(ask)
                if message is not None:
                    self.resolution.received(ask.number, message, self.now)
            if not asks:
                deadline = self.resolution.next_deadline()
                assert deadline is not None
                assert deadline > self.now
                self.now = deadline
                self.resolution.deadline_passed(self.now)
        assert self.resolution.next_deadline() is None

    @property
    def names(self) -> list[str]:
        """Names asked for, one after the other."""
        return list(dict.fromkeys(question(ask)[0] for ask in self.asked))

    @property
    def result(self) -> tuple[Outcome | None, tuple[str, ...]]:
        return self.resolution.outcome, self.resolution.addresses


def silent(ask: Ask) -> None:
    return None


def test_both_families_are_asked_for_and_ipv6_comes_first() -> None:
    talk = Talk("a.example", serving({"a.example": ("192.0.2.1", "2001:db8::1")}))
    assert {question(ask) for ask in talk.asked} == {("a.example", A), ("a.example", AAAA)}
    assert talk.result == (Outcome.FOUND, ("2001:db8::1", "192.0.2.1"))


def test_the_hosts_file_is_asked_first_and_localhost_nobody() -> None:
    for host, addresses in (
        ("web", ("192.0.2.7",)),
        ("WEB.", ("192.0.2.7",)),
        ("localhost", ("::1", "127.0.0.1")),
        ("a.localhost.", ("::1", "127.0.0.1")),
    ):
        talk = Talk(host, silent)
        assert talk.asked == []
        assert talk.result == (Outcome.FOUND, addresses)


def test_domains_are_searched_in_order() -> None:
    settings = attrs.evolve(SETTINGS, search=("x.example", "y.example"))
    zone: Zone = {"db.y.example": ("192.0.2.1",), "db": ("192.0.2.2",)}
    talk = Talk("db", serving(zone), settings)
    assert talk.names == ["db.x.example", "db.y.example"]
    assert talk.result == (Outcome.FOUND, ("192.0.2.1",))
    assert Talk("db.", serving(zone), settings).names == ["db"]


def test_a_name_that_has_no_addresses_is_looked_for_further() -> None:
    settings = attrs.evolve(SETTINGS, search=("x.example",))
    talk = Talk("db", serving({"db.x.example": (), "db": ("192.0.2.2",)}), settings)
    assert talk.result == (Outcome.FOUND, ("192.0.2.2",))


def test_a_name_that_nothing_is_known_of_does_not_exist() -> None:
    settings = attrs.evolve(SETTINGS, search=("x.example",))
    talk = Talk("db", serving({}), settings)
    assert talk.names == ["db.x.example", "db"]
    assert talk.result == (Outcome.NO_SUCH_HOST, ())


def test_a_domain_that_makes_the_name_too_long_is_passed_over() -> None:
    settings = attrs.evolve(SETTINGS, search=(".".join(["x" * 60] * 4),))
    assert Talk("a" * 20, serving({}), settings).names == ["a" * 20]


def test_a_domain_whose_resolver_fails_does_not_hide_the_next() -> None:
    settings = attrs.evolve(SETTINGS, search=("x.example",))

    def say(ask: Ask) -> bytes:
        if question(ask)[0] == "db.x.example":
            return coded(ask, SERVFAIL)
        return serving({"db": ("192.0.2.2",)})(ask)

    assert Talk("db", say, settings).result == (Outcome.FOUND, ("192.0.2.2",))

    def fail(ask: Ask) -> bytes:
        return say(ask) if question(ask)[0] != "db" else coded(ask, NXDOMAIN)

    assert Talk("db", fail, settings).result == (Outcome.FAILED, ())


def test_a_lost_datagram_costs_one_interval() -> None:
    lost: set[tuple[str, int]] = set()

    def say(ask: Ask) -> bytes | None:
        if question(ask) not in lost:
            lost.add(question(ask))
            return None
        return serving({"a.example": ("192.0.2.1",)})(ask)

    talk = Talk("a.example", say)
    assert talk.result == (Outcome.FOUND, ("192.0.2.1",))
    assert talk.now == 101.5


@pytest.mark.parametrize("kind", [A, AAAA])
def test_one_family_that_is_never_answered(kind: int) -> None:
    """IPv6 is waited for a moment, IPv4 longer: most hosts have it."""

    def say(ask: Ask) -> bytes | None:
        if question(ask)[1] != kind:
            return None
        return answering(ask, "192.0.2.1" if kind == A else "2001:db8::1")

    talk = Talk("a.example", say)
    assert talk.resolution.outcome is Outcome.FOUND
    assert talk.now == 100 + (PATIENCE if kind == A else 4.5)


def test_silence_ends() -> None:
    talk = Talk("a.example", silent)
    assert talk.result == (Outcome.TIMED_OUT, ())
    assert talk.now == 104.5
    slow = attrs.evolve(SETTINGS, timeout=30, attempts=5, search=("x.example",), ndots=2)
    talk = Talk("a.example", silent, slow)
    assert talk.result == (Outcome.TIMED_OUT, ())
    assert talk.now == 100 + LIMIT
    assert talk.names == ["a.example.x.example"]


def test_resolvers_that_cannot_be_reached_are_told_from_silent_ones() -> None:
    resolution = Resolution("a.example", SETTINGS, {}, 100.0)
    for command in resolution.commands():
        if isinstance(command, Ask):
            resolution.failed(command.number, 100.1)
    assert resolution.outcome is Outcome.FAILED


def test_options_are_followed() -> None:
    settings = attrs.evolve(
        SETTINGS, servers=(("192.0.2.53", 53), ("192.0.2.54", 53)), timeout=2, attempts=2
    )
    talk = Talk("a.example", silent, settings)
    assert [ask.server[0][-1] for ask in talk.asked if question(ask)[1] == A] == list("3434")
    assert talk.now == 108.0
    over_tcp = Talk("a.example", silent, attrs.evolve(SETTINGS, over_tcp=True))
    assert all(ask.over_tcp for ask in over_tcp.asked)


def test_a_truncated_answer_is_asked_for_over_tcp() -> None:
    def say(ask: Ask) -> bytes:
        if not ask.over_tcp:
            return truncated(ask)
        return serving({"a.example": ("192.0.2.1",)})(ask)

    talk = Talk("a.example", say)
    assert talk.result == (Outcome.FOUND, ("192.0.2.1",))
    assert [ask.over_tcp for ask in talk.asked] == [False, False, True, True]


def test_an_answer_that_cannot_be_read_is_a_failure() -> None:
    def say(ask: Ask) -> bytes:
        whole = answering(ask, "192.0.2.1" if question(ask)[1] == A else "2001:db8::1")
        return whole[:-2]

    assert Talk("a.example", say).result == (Outcome.FAILED, ())


def test_what_comes_late_changes_nothing() -> None:
    talk = Talk("a.example", serving({"a.example": ("192.0.2.1",)}))
    before = talk.result
    talk.resolution.received(0, b"", 101.0)
    talk.resolution.failed(1, 101.0)
    talk.resolution.deadline_passed(200.0)
    assert talk.result == before
