"""Sessions at a Communication Server: from CONNECT to the end, and their limits (rows S6, S7)."""

from __future__ import annotations

import attrs
import pytest

from tests.core.secureproxy.world import POLICY, World, refused
from tunnelkit.core.secureproxy.commands import (
    Join,
    SessionBegan,
    SessionEnded,
    Switch,
)
from tunnelkit.core.secureproxy.policy import ClientRules, Policy
from tunnelkit.errors import Code
from tunnelkit.wire.secureproxy import (
    Answer,
    Connect,
    Error,
    Hello,
    Incoming,
    Keepalive,
    Message,
    Publish,
    StartSecure,
    Welcome,
)

RUN = "5" * 32


def test_a_session_from_connect_to_its_end() -> None:
    world = World()
    office = world.present("office", "tunnel")
    laptop = world.asks("laptop", "office")
    incoming = office.got(Incoming)
    assert (incoming.origin, incoming.target, incoming.resource) == ("laptop", "office", "tunnel")
    assert incoming.observed == "192.0.2.7:40000"
    assert incoming.generation == office.got(Welcome).generation
    assert not laptop.heard
    target = world.joins("office", incoming)
    common = ("tunnel", "relay.example", ("relay.example",))
    assert laptop.heard == [StartSecure(incoming.session, "tls-client", "office", *common)]
    assert target.heard == [StartSecure(incoming.session, "tls-server", "laptop", *common)]
    assert len(world.all(Switch)) == 2
    laptop.through()
    assert not world.all(Join)
    target.through()
    (join,) = world.all(Join)
    assert join.session.initiator is laptop.connection
    assert join.session.joined is target.connection
    world.do(world.server.over(join.session, False, "office hung up", (7, 9), world.now))
    (began,) = world.all(SessionBegan)
    (ended,) = world.all(SessionEnded)
    assert (began.session, began.session.rule) == (
        ended.session,
        'clients.laptop connect "office/tunnel"',
    )
    assert (ended.outcome, ended.sent, ended.received) == ("office hung up", 7, 9)
    office.leave()
    world.nothing_left()


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("target", ["office", "group:servers"])
def test_who_may_not_connect_learns_nothing_of_presence(present: bool, target: str) -> None:
    world = World()
    if present:
        world.present("office", "tunnel")
    guest = world.asks("guest", target)
    assert guest.heard == [Error(Code.NOT_ALLOWED, "no rule allows it", True, about=4)]
    assert not world.all(SessionBegan)


def test_who_may_connect_hears_that_nobody_is_there() -> None:
    world = World()
    assert refused(world.asks("laptop", "office"), Code.NOT_PRESENT).about == 4
    world.present("office", "desk")
    refused(world.asks("laptop", "office"), Code.NOT_PRESENT)
    refused(world.asks("laptop", "group:servers"), Code.NOT_PRESENT)
    world.present("depot", "tunnel")
    refused(world.asks("laptop", "depot", "pass:site.example"), Code.NOT_ALLOWED)


def test_a_site_is_not_a_session() -> None:
    policy = Policy({**POLICY.clients, "laptop": ClientRules(connect=("*/*",))})
    world = World(policy)
    world.present("office", "pass:site.example")
    refused(world.asks("laptop", "office", "pass:site.example"), Code.NOT_PRESENT)


def test_a_refusal_is_passed_on_and_ends_it() -> None:
    world = World()
    office = world.present("office", "tunnel")
    laptop = world.asks("laptop", "office")
    incoming = office.got(Incoming)
    office.say(Answer(incoming.session, code=Code.UNREACHABLE, reason="no way"))
    error = refused(laptop, Code.UNREACHABLE)
    assert (error.reason, error.about) == ("no way", 4)
    refused(world.joins("office", incoming), Code.NOT_ALLOWED)
    office.leave()
    world.nothing_left()


def test_an_early_acceptance_changes_nothing() -> None:
    world = World()
    office = world.present("office", "tunnel")
    laptop = world.asks("laptop", "office")
    office.say(Answer(office.got(Incoming).session, True))
    assert not laptop.heard
    world.joins("office", office.got(Incoming))
    laptop.got(StartSecure)


def test_somebody_elses_answer_changes_nothing() -> None:
    world = World()
    office, depot = world.present("office", "tunnel"), world.present("depot")
    laptop = world.asks("laptop", "office")
    session = office.got(Incoming).session
    depot.say(Answer(session, code=Code.REFUSED), Error(Code.RESET, session=session))
    office.say(Answer("f" * 32, code=Code.REFUSED))
    assert laptop.closed is None
    assert depot.closed is None


def test_join_is_taken_from_the_one_that_was_asked_once_and_in_time() -> None:
    world = World()
    office = world.present("office", "tunnel")
    world.present("depot", "tunnel")
    laptop = world.asks("laptop", "office")
    incoming = office.got(Incoming)
    wrong = attrs.evolve(incoming, token="0" * 64)
    other = attrs.evolve(incoming, session="f" * 32)
    texts = {
        refused(world.joins(name, said), Code.NOT_ALLOWED).reason
        for name, said in (("depot", incoming), ("office", wrong), ("office", other))
    }
    assert len(texts) == 1
    assert laptop.closed is None
    target = world.joins("office", incoming)
    target.got(StartSecure)
    refused(world.joins("office", incoming), Code.NOT_ALLOWED)
    target.through()
    laptop.through()
    refused(world.joins("office", incoming), Code.NOT_ALLOWED)


def test_a_target_that_does_not_come_in_time() -> None:
    world = World()
    office = world.present("office", "tunnel")
    laptop = world.asks("laptop", "office")
    world.wait(9.9)
    assert laptop.closed is None
    world.wait(0.2)
    refused(laptop, Code.TIMED_OUT)
    assert office.got(Error).session == office.got(Incoming).session
    refused(world.joins("office", office.got(Incoming)), Code.NOT_ALLOWED)


def test_a_target_whose_control_connection_is_lost_has_failed_at_once() -> None:
    world = World()
    office = world.present("office", "tunnel")
    laptop = world.asks("laptop", "office")
    office.leave()
    refused(laptop, Code.UNREACHABLE)
    world.nothing_left()


def test_an_initiator_that_leaves_before_the_target_comes() -> None:
    world = World()
    office = world.present("office", "tunnel")
    laptop = world.asks("laptop", "office")
    laptop.leave()
    assert office.got(Error).session == office.got(Incoming).session
    refused(world.joins("office", office.got(Incoming)), Code.NOT_ALLOWED)
    office.leave()
    world.nothing_left()


@pytest.mark.parametrize("who", [0, 1])
def test_one_that_leaves_while_both_end_their_tls(who: int) -> None:
    world = World()
    pair = world.session()
    pair[1 - who].through()
    pair[who].leave()
    assert pair[1 - who].closed is not None
    assert not world.all(Join)
    assert len(world.all(SessionEnded)) == 1
    (registration,) = world.server.registry
    world.do(world.server.lost(registration.connection, "", world.now))
    world.nothing_left()


def test_one_that_does_not_end_its_tls_in_time() -> None:
    world = World()
    laptop, target = world.session()
    laptop.through()
    world.wait(4.9)
    assert target.closed is None
    world.wait(0.2)
    assert target.closed is not None
    assert laptop.closed is not None
    assert "not ended in time" in next(iter(world.outcomes().values()))


def test_what_comes_behind_start() -> None:
    world = World()
    laptop, target = world.session()
    laptop.say(Keepalive(), Keepalive())
    assert laptop.closed is None
    target.say(Error(Code.SETUP_MISMATCH, "another role", True))
    assert target.closed is not None
    assert laptop.closed is not None
    assert len(laptop.heard) == 1


@pytest.mark.parametrize("message", [Connect("office", "tunnel"), Publish(())])
def test_nothing_else_may_come_behind_start(message: Message) -> None:
    world = World()
    laptop, target = world.session()
    laptop.say(message)
    assert laptop.closed is not None
    assert target.closed is not None
    assert len(laptop.heard) == len(target.heard) == 1


def test_keepalive_while_a_connect_waits() -> None:
    world = World(join=100)
    office = world.present("office", "tunnel")
    laptop = world.asks("laptop", "office")
    for _ in range(4):
        world.wait(9)
        laptop.say(Keepalive())
        office.say(Keepalive())
    assert laptop.closed is None
    assert laptop.heard.count(Keepalive()) == 3
    world.wait(31)
    assert laptop.closed is not None


def test_any_member_of_a_group_until_one_comes() -> None:
    world = World()
    depot, office, store = (world.present(name, "tunnel") for name in ("depot", "office", "store"))
    laptop = world.asks("laptop", "group:servers", mode="any")
    depot.say(Answer(depot.got(Incoming).session, code=Code.REFUSED, reason="busy"))
    world.wait(10)
    assert office.got(Error).code is Code.TIMED_OUT
    incoming = store.got(Incoming)
    assert incoming.target == "group:servers"
    assert not laptop.heard[1:]
    refused(world.joins("depot", depot.got(Incoming)), Code.NOT_ALLOWED)
    world.joins("store", incoming)
    assert laptop.got(StartSecure).peer == "store"


def test_of_a_group_only_the_last_refusal_is_told_and_one_means_one() -> None:
    world = World()
    members = [world.present(name, "tunnel") for name in ("depot", "office")]
    laptop = world.asks("laptop", "group:servers", mode="any")
    for number, member in enumerate(members):
        assert laptop.closed is None
        member.say(Answer(member.got(Incoming).session, code=Code.REFUSED, reason=str(number)))
    assert refused(laptop, Code.REFUSED).reason == "1"
    laptop = world.asks("laptop", "group:servers")
    members[0].say(Answer(members[0].got(Incoming).session, code=Code.LIMIT))
    refused(laptop, Code.LIMIT)


def test_a_group_asks_four_at_most_and_never_oneself() -> None:
    clients = {
        f"s{number}": ClientRules(("tunnel",), ("all",), ("group:all/*",)) for number in range(7)
    }
    world = World(Policy(clients))
    members = [world.present(name, "tunnel") for name in clients]
    asking = world.asks("s0", "group:all", mode="any")
    for _ in range(4):
        assert asking.closed is None
        world.wait(10)
        for member in members:
            member.say(Keepalive())
        asking.say(Keepalive()) if asking.closed is None else None
    refused(asking, Code.TIMED_OUT)
    asked = [member.name for member in members if Incoming in map(type, member.heard)]
    assert asked == ["s1", "s2", "s3", "s4"]


def test_a_member_may_be_asked_by_name_under_the_groups_rule() -> None:
    world = World()
    depot = world.present("depot", "tunnel")
    world.asks("laptop", "depot")
    assert depot.got(Incoming).target == "depot"


def test_limits_of_one_client() -> None:
    world = World(incoming=2, connecting=3, sessions=4)
    office = world.present("office", "tunnel")
    first, second = (world.asks("laptop", "office") for _ in range(2))
    refused(world.asks("laptop", "office"), Code.LIMIT)
    depot = world.present("depot", "tunnel")
    world.asks("laptop", "depot")
    refused(world.asks("laptop", "depot"), Code.LIMIT)
    for number, asking in enumerate((first, second)):
        sessions = [one.session for one in office.heard if isinstance(one, Incoming)]
        office.say(Answer(sessions[number], code=Code.REFUSED))
        refused(asking, Code.REFUSED)
    for _ in range(2):
        world.asks("laptop", "office")
    office.leave()
    depot.leave()
    world.nothing_left()


def test_sessions_of_one_client() -> None:
    world = World(sessions=2)
    office = world.present("office", "tunnel")
    for _ in range(2):
        laptop = world.asks("laptop", "office")
        target = world.joins("office", office.got(Incoming))
        laptop.through()
        target.through()
    refused(world.asks("laptop", "office"), Code.LIMIT)
    session = world.all(Join)[0].session
    world.do(world.server.over(session, True, "", (0, 0), world.now))
    assert world.asks("laptop", "office").closed is None


def test_connections_that_have_not_said_for_which_session() -> None:
    world = World(opening=2)
    for _ in range(2):
        assert world.client("office").say(Hello("session", RUN)).closed is None
    refused(world.client("office").say(Hello("session", RUN)), Code.LIMIT)
    assert world.client("laptop").say(Hello("session", RUN)).closed is None
    world.wait(10)
    world.nothing_left()


def test_control_connections_that_only_ask() -> None:
    world = World(asking=2)
    for _ in range(2):
        world.client("laptop").say(Hello("ask", RUN))
    refused(world.client("laptop").say(Hello("ask", RUN)), Code.LIMIT)
