"""Whom to ask when, and which answer counts (finding U-2, row F4)."""

from __future__ import annotations

from tests.core.dns_talk import answering, coded, truncated
from tunnelkit.core.dns_exchange import Ask, Drop, Exchange
from tunnelkit.wire.dns import NXDOMAIN, REFUSED, SERVFAIL, id_of, with_id
from tunnelkit.wire.dns_addresses import A, address_query

QUERY = address_query("www.example", A)
ONE, TWO, THREE = (("192.0.2.1", 53), ("192.0.2.2", 53), ("192.0.2.3", 53))


def begin(*servers: tuple[str, int], limit: float = 4.5) -> tuple[Exchange, Ask]:
    exchange = Exchange(QUERY, servers, 100.0, limit)
    (ask,) = asks(exchange)
    return exchange, ask


def asks(exchange: Exchange) -> list[Ask]:
    return [command for command in exchange.commands() if isinstance(command, Ask)]


def pass_time(exchange: Exchange) -> tuple[float, list[Ask]]:
    """The next deadline, and what is asked then."""
    now = exchange.next_deadline()
    assert now is not None
    exchange.deadline_passed(now)
    return now, asks(exchange)


def test_the_first_resolver_is_asked_at_once_and_its_answer_counts() -> None:
    exchange, ask = begin(ONE, TWO)
    assert (ask.server, ask.over_tcp) == (ONE, False)
    assert with_id(ask.message, 0) == QUERY
    exchange.received(ask.number, answering(ask, "192.0.2.9"), 100.1)
    assert exchange.over
    assert exchange.answer == answering(ask, "192.0.2.9")
    assert exchange.commands() == [Drop(ask.number)]
    assert exchange.next_deadline() is None


def test_a_lost_datagram_is_sent_again_after_1_5_and_3_seconds_with_another_id() -> None:
    exchange, first = begin(ONE)
    times, ids = [100.0], {id_of(first.message)}
    for _ in range(2):
        now, (ask,) = pass_time(exchange)
        times.append(now)
        ids.add(id_of(ask.message))
        assert ask.server == ONE
    assert times == [100.0, 101.5, 103.0]
    assert len(ids) > 1
    exchange.received(ask.number, answering(ask, "192.0.2.9"), 103.1)
    assert exchange.over
    assert {command.number for command in exchange.commands()} == {0, 1, 2}


def test_an_answer_to_an_earlier_try_counts_too() -> None:
    exchange, first = begin(ONE)
    pass_time(exchange)
    exchange.received(first.number, answering(first, "192.0.2.9"), 101.6)
    assert exchange.over


def test_resolvers_take_turns() -> None:
    exchange, first = begin(ONE, TWO, THREE)
    others = [pass_time(exchange)[1][0].server for _ in range(2)]
    assert (first.server, *others) == (ONE, TWO, THREE)
    assert pass_time(exchange) == (104.5, [])
    assert exchange.over
    assert exchange.answer is None


def test_one_that_cannot_help_is_followed_at_once_and_not_asked_again() -> None:
    for code in (SERVFAIL, REFUSED):
        exchange, first = begin(ONE, TWO)
        exchange.received(first.number, coded(first, code), 100.2)
        (second,) = asks(exchange)
        assert second.server == TWO
        assert exchange.next_deadline() == 101.7
        _, (third,) = pass_time(exchange)
        assert third.server == TWO


def test_when_none_can_help_what_they_said_is_the_answer() -> None:
    exchange, first = begin(ONE, TWO)
    exchange.received(first.number, coded(first, SERVFAIL), 100.2)
    (second,) = asks(exchange)
    exchange.failed(second.number, 100.3)
    assert exchange.over
    assert exchange.answer == coded(first, SERVFAIL)


def test_nobody_to_ask_is_over_at_once() -> None:
    exchange = Exchange(QUERY, (), 100.0, 4.5)
    assert exchange.over
    assert exchange.answer is None
    assert exchange.commands() == []


def test_that_there_is_no_such_name_is_an_answer() -> None:
    exchange, first = begin(ONE, TWO)
    exchange.received(first.number, coded(first, NXDOMAIN), 100.2)
    assert exchange.over


def test_what_does_not_repeat_id_and_question_is_not_looked_at() -> None:
    exchange, first = begin(ONE)
    good = answering(first, "192.0.2.9")
    for bad in (
        b"",
        good[:11],
        with_id(good, id_of(good) ^ 1),
        good.replace(b"\3www", b"\3wwx", 1),
        first.message,
    ):
        exchange.received(first.number, bad, 100.1)
    exchange.received(first.number + 7, good, 100.1)
    assert not exchange.over
    exchange.received(first.number, good, 100.1)
    assert exchange.over


def test_a_truncated_answer_is_asked_for_over_tcp_and_is_better_than_none() -> None:
    exchange, first = begin(ONE)
    exchange.received(first.number, truncated(first), 100.2)
    drop, second = exchange.commands()
    assert drop == Drop(first.number)
    assert isinstance(second, Ask)
    assert (second.server, second.over_tcp) == (ONE, True)
    while not exchange.over:
        pass_time(exchange)
    assert exchange.answer == truncated(first)
    exchange, first = begin(ONE)
    exchange.received(first.number, truncated(first), 100.2)
    (second,) = asks(exchange)
    exchange.received(second.number, answering(second, "192.0.2.9"), 100.3)
    assert exchange.answer == answering(second, "192.0.2.9")


def test_a_long_query_goes_over_tcp_from_the_start() -> None:
    exchange = Exchange(QUERY + bytes(1232), (ONE,), 100.0, 4.5)
    assert [ask.over_tcp for ask in asks(exchange)] == [True]


def test_the_limit_holds_whatever_is_left_to_try() -> None:
    exchange, _ = begin(ONE, TWO, limit=1.0)
    assert pass_time(exchange) == (101.0, [])
    assert exchange.over
    exchange.deadline_passed(102.0)
    exchange.failed(0, 102.0)
    assert exchange.answer is None
