"""Whose names are looked up, how many at once, and in whose turn (rule X23)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tunnelkit.egress.names import STUB, SYSTEM, Names, Places
from tunnelkit.errors import Code, DialError, NotAuthorized
from tunnelkit.policy.acl import Policy, parse_rule


class Slow:
    """A resolver that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.running: dict[str, Deferred[Sequence[str]]] = {}
        self.cancelled: list[str] = []

    def __call__(self, host: str) -> Deferred[Sequence[str]]:
        self.asked.append(host)
        done: Deferred[Sequence[str]] = Deferred(lambda _: self.cancelled.append(host))
        self.running[host] = done
        return done

    def answer(self, host: str, *addresses: str) -> None:
        self.running.pop(host).callback(addresses)


class Outcome:
    """What a Deferred has come to."""

    def __init__(self, done: Deferred[Sequence[str]]) -> None:
        self.addresses: Sequence[str] | None = None
        self.error: BaseException | None = None
        self.done = done
        done.addCallbacks(self._found, lambda failure: setattr(self, "error", failure.value))

    def _found(self, addresses: Sequence[str]) -> None:
        self.addresses = addresses


def resolve(names: Names, policy: Policy, host: str, peer: str = "gate", port: int = 80) -> Outcome:
    return Outcome(names.resolve(policy, peer, "connect", "tcp", host, port))


def test_a_name_without_a_rule_is_refused_unasked() -> None:
    slow = Slow()
    names = Names(slow)
    outcome = resolve(names, Policy([parse_rule("tcp:*.corp.example:80")]), "a.example")
    assert isinstance(outcome.error, NotAuthorized)
    assert slow.asked == []


@pytest.mark.parametrize(
    ("rule", "error"),
    [("tcp:*.example:80", DialError), ("tcp:10.0.0.0/8:80", NotAuthorized)],
)
def test_that_there_is_no_such_name_is_for_whom_a_rule_names_it(
    rule: str, error: type[Exception]
) -> None:
    slow = Slow()
    outcome = resolve(Names(slow), Policy([parse_rule(rule)]), "a.example")
    slow.running["a.example"].errback(DialError("none", code=Code.NO_SUCH_HOST))
    assert isinstance(outcome.error, error)


def test_that_the_resolver_fails_is_no_secret() -> None:
    slow = Slow()
    outcome = resolve(Names(slow), Policy([parse_rule("tcp:10.0.0.0/8:80")]), "a.example")
    slow.running["a.example"].errback(DialError("not now", code=Code.UNREACHABLE))
    assert isinstance(outcome.error, DialError)


def test_each_peer_has_its_own_places_and_its_rest_waits() -> None:
    slow = Slow()
    names = Names(slow)
    outcomes = [Outcome(names.look_up("a", f"a{number}")) for number in range(20)]
    assert len(slow.asked) == STUB.per_peer == 8
    other = Outcome(names.look_up("b", "b0"))
    assert slow.asked[8:] == ["b0"]
    slow.answer("a3", "192.0.2.3")
    assert outcomes[3].addresses == ("192.0.2.3",)
    assert slow.asked[9:] == ["a8"]
    slow.answer("b0", "192.0.2.1")
    assert other.addresses == ("192.0.2.1",)
    for number in (0, 1, 2, *range(4, 20)):
        slow.answer(f"a{number}")
    assert slow.running == {}
    assert all(outcome.addresses is not None for outcome in outcomes)


def test_a_look_up_that_is_given_up_gives_its_place_back() -> None:
    slow = Slow()
    names = Names(slow, Places(per_peer=1))
    first, second, third = (Outcome(names.look_up("a", host)) for host in ("x", "y", "z"))
    second.done.cancel()
    assert isinstance(second.error, CancelledError)
    first.done.cancel()
    assert isinstance(first.error, CancelledError)
    assert slow.cancelled == ["x"]
    assert slow.asked == ["x", "z"]
    slow.answer("z", "192.0.2.1")
    assert third.addresses == ("192.0.2.1",)


def test_a_thread_that_cannot_be_stopped_keeps_its_place_until_it_ends() -> None:
    slow = Slow()
    names = Names(slow, SYSTEM)
    outcomes = [Outcome(names.look_up("a", f"a{number}")) for number in range(8)]
    for outcome in outcomes[:4]:
        outcome.done.cancel()
    assert slow.asked == ["a0", "a1", "a2", "a3"]
    slow.answer("a0", "192.0.2.1")
    assert slow.asked[4:] == ["a4"]
    assert slow.cancelled == []


def test_of_all_threads_whoever_has_fewest_gets_the_next() -> None:
    slow = Slow()
    names = Names(slow, Places(per_peer=3, in_all=6))
    for peer in "abc":
        for number in range(5):
            names.look_up(peer, f"{peer}{number}")
    assert len(slow.asked) == 6
    assert slow.asked == ["a0", "a1", "a2", "b0", "b1", "b2"]
    slow.answer("a0")
    slow.answer("b0")
    assert slow.asked[6:] == ["c0", "c1"]


def test_a_resolver_that_answers_at_once_does_not_nest() -> None:
    def at_once(host: str) -> Deferred[Sequence[str]]:
        done: Deferred[Sequence[str]] = Deferred()
        done.callback([host])
        return done

    names = Names(at_once, Places(per_peer=1))
    outcomes: list[Outcome] = []

    def more(addresses: Sequence[str]) -> Sequence[str]:
        if len(outcomes) < 5_000:
            outcomes.append(Outcome(names.look_up("a", str(len(outcomes)))))
        return addresses

    for number in range(3_000):
        names.look_up("a", str(number)).addCallback(more)
    assert len(outcomes) >= 3_000
    assert all(outcome.addresses for outcome in outcomes)
