"""A Communication Server: registration, presence, sessions, browsers, limits (S4 to S7, S10)."""

from __future__ import annotations

from ipaddress import ip_network

import attrs
import pytest

from tests.core.secureproxy.world import POLICY, Client, World, resource
from tunnelkit.core.secureproxy.commands import (
    Authenticate,
    Cut,
    Decided,
    Join,
    Left,
    SessionBegan,
    SessionEnded,
    Switch,
    TurnAway,
)
from tunnelkit.core.secureproxy.connection import State
from tunnelkit.core.secureproxy.policy import ClientRules, Policy
from tunnelkit.errors import Code
from tunnelkit.wire.secureproxy import (
    Answer,
    Connect,
    Drain,
    Entry,
    Error,
    Hello,
    Incoming,
    Keepalive,
    Login,
    Lookup,
    Message,
    Ok,
    Presence,
    Publish,
    Resource,
    StartPass,
    StartSecure,
    StartWeb,
    Welcome,
)

RUN = "5" * 32


def refused(client: Client, code: Code) -> Error:
    """It was told so, and its connection is over."""
    error = client.got(Error)
    assert error.code is code
    assert error.fatal
    assert client.closed is not None
    assert client.connection.state is State.ENDED
    return error


# -- hello ------------------------------------------------------------------


def test_a_client_registers() -> None:
    world = World()
    office = world.present("office")
    welcome = office.got(Welcome)
    assert (welcome.server, welcome.observed) == ("relay.example", "192.0.2.7:40000")
    assert welcome.generation > 1_795_900_000_000
    assert welcome.servers == ("192.0.2.2:443",)
    assert world.server.registry.get("office") is not None
    office.leave()
    assert [one.registration.name for one in world.all(Left)] == ["office"]
    world.nothing_left()


def test_who_is_not_in_the_policy_is_refused() -> None:
    world = World()
    stranger = world.client("stranger").say(Hello("present", RUN))
    assert "no rule" in refused(stranger, Code.NOT_ALLOWED).reason
    (decision,) = world.all(Decided)
    assert decision.rule == "no section clients.stranger"
    world.nothing_left()


def test_without_certificate_or_login_nobody_gets_in() -> None:
    world = World()
    refused(world.client("").say(Hello("ask", RUN)), Code.NOT_ALLOWED)
    world.nothing_left()


@pytest.mark.parametrize("name", ["", "office"])
def test_a_login_is_checked_and_what_follows_waits(name: str) -> None:
    world = World()
    client = world.client(name)
    client.say(Hello("present", RUN, login=Login("office", token="t")), Publish(()))
    assert client.login == Login("office", token="t")
    assert not client.heard
    world.do(world.server.identified(client.connection, "office", world.now))
    assert [type(one) for one in client.heard] == [Welcome, Ok]


def test_a_login_must_be_the_certificates() -> None:
    world = World()
    client = world.client("laptop").say(Hello("ask", RUN, login=Login("office", token="t")))
    world.do(world.server.identified(client.connection, "office", world.now))
    refused(client, Code.NOT_ALLOWED)
    world.nothing_left()


def test_five_failed_logins_a_minute_by_name_and_address() -> None:
    world = World()

    def attempt(name: str, address: str) -> Client:
        client = world.client("", address)
        client.say(Hello("ask", RUN, login=Login(name, password="p")))
        if client.closed is None:
            world.do(world.server.rejected(client.connection, world.now))
        return client

    for _ in range(5):
        refused(attempt("office", "192.0.2.1"), Code.NOT_ALLOWED)
    refused(attempt("office", "192.0.2.1"), Code.LIMIT)
    refused(attempt("office", "192.0.2.2"), Code.NOT_ALLOWED)
    refused(attempt("laptop", "192.0.2.1"), Code.NOT_ALLOWED)
    assert len(world.all(Authenticate)) == 7
    world.wait(61)
    refused(attempt("office", "192.0.2.1"), Code.NOT_ALLOWED)
    world.nothing_left()


def test_what_waits_for_a_login_is_bounded() -> None:
    world = World()
    client = world.client("").say(Hello("ask", RUN, login=Login("office", token="t")))
    client.send(bytes(65536))
    assert client.closed is None
    client.send(b"x")
    refused(client, Code.PROTOCOL)


def test_who_says_nothing_is_dropped_after_ten_seconds() -> None:
    world = World()
    silent, named = world.client("office"), world.client("office").say(Hello("session", RUN))
    world.wait(9.9)
    assert silent.closed is named.closed is None
    world.wait(0.1)
    refused(silent, Code.TIMED_OUT)
    refused(named, Code.TIMED_OUT)
    world.nothing_left()


@pytest.mark.parametrize("message", [Keepalive(), Publish(()), Connect("office", "tunnel")])
def test_hello_comes_first(message: Message) -> None:
    world = World()
    refused(world.client("office").say(message), Code.PROTOCOL)
    world.nothing_left()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", bytes(12), b"\xff" * 12])
def test_garbage_is_refused(data: bytes) -> None:
    world = World()
    client = world.client("office")
    client.send(data)
    refused(client, Code.PROTOCOL)
    world.nothing_left()


# -- registrations ------------------------------------------------------------


def test_the_same_run_replaces_its_own_registration() -> None:
    world = World(attrs.evolve(POLICY, duplicate="refuse"))
    first = world.present("office", "tunnel", run=RUN)
    second = world.present("office", run=RUN)
    refused(first, Code.REPLACED)
    assert second.got(Welcome).generation > first.got(Welcome).generation
    registration = world.server.registry.get("office")
    assert registration is not None
    assert registration.connection is second.connection
    assert not registration.offers


def test_another_run_replaces_and_the_first_stays_away_for_a_minute() -> None:
    world = World()
    first = world.present("office", run=RUN)
    second = world.present("office")
    refused(first, Code.REPLACED)
    for _ in range(2):
        world.wait(29)
        second.say(Keepalive())
    refused(world.client("office").say(Hello("present", RUN)), Code.REPLACED)
    assert second.closed is None
    world.wait(3)
    world.present("office", run=RUN)
    refused(second, Code.REPLACED)


def test_another_run_is_refused_where_the_policy_says_so() -> None:
    world = World(attrs.evolve(POLICY, duplicate="refuse"))
    first = world.present("office")
    refused(world.client("office").say(Hello("present", RUN)), Code.REFUSED)
    assert first.closed is None


def test_what_a_replaced_client_was_asked_for_fails_and_its_sessions_go_on() -> None:
    world = World()
    laptop, target = world.session()
    laptop.through()
    target.through()
    (joined,) = world.all(Join)
    waiting = world.asks("laptop", "office")
    world.present("office")
    assert refused(waiting, Code.UNREACHABLE).about == 4
    assert world.server.sessions == {joined.session.id: joined.session}


def test_only_so_many_clients() -> None:
    world = World(clients=2)
    world.present("office")
    world.client("laptop").say(Hello("ask", RUN))
    refused(world.client("depot").say(Hello("present", RUN)), Code.LIMIT)
    world.present("office")


def test_keepalive_after_ten_seconds_and_death_after_thirty() -> None:
    world = World()
    office = world.present("office")
    world.wait(9.9)
    assert Keepalive() not in office.heard
    world.wait(0.2)
    assert office.heard.count(Keepalive()) == 1
    world.wait(10)
    office.say(Keepalive())
    world.wait(29.8)
    assert office.closed is None
    world.wait(0.2)
    refused(office, Code.TIMED_OUT)
    world.nothing_left()


def test_drain_tells_everybody_and_takes_nobody_new() -> None:
    world = World()
    office = world.present("office", "tunnel")
    waiting = world.asks("laptop", "office")
    world.do(world.server.drain(30, world.now))
    assert office.got(Drain) == Drain(30, ("192.0.2.2:443",))
    refused(world.client("depot").say(Hello("present", RUN)), Code.SHUTDOWN)
    refused(world.asks("laptop", "office"), Code.SHUTDOWN)
    world.joins("office", office.got(Incoming))
    assert waiting.got(StartSecure)
    world.browser("site.example")
    assert world.all(TurnAway)


# -- publishing and looking up ---------------------------------------------------


def test_publishing_needs_a_rule_and_a_refused_table_changes_nothing() -> None:
    world = World()
    depot = world.present("depot", "tunnel")
    assert depot.got(Ok)
    world.wait(1)
    depot.say(Publish((resource("tunnel"), resource("desk"))))
    error = depot.got(Error)
    assert (error.code, error.about, error.fatal) == (Code.NOT_ALLOWED, 3, False)
    assert depot.closed is None
    registration = world.server.registry.get("depot")
    assert registration is not None
    assert list(registration.offers) == ["tunnel"]


def test_groups_are_the_policys() -> None:
    world = World()
    depot = world.present("depot")
    depot.say(Publish((Resource("tunnel", groups=("spare",)),)))
    registration = world.server.registry.get("depot")
    assert registration is not None
    assert registration.groups() == {"spare"}
    world.wait(1)
    depot.say(Publish((Resource("tunnel"),)))
    assert registration.groups() == {"spare", "servers"}
    world.wait(1)
    depot.say(Publish((Resource("tunnel", groups=("others",)),)))
    assert depot.got(Error).code is Code.NOT_ALLOWED
    assert registration.groups() == {"spare", "servers"}


def test_publish_comes_once_a_second() -> None:
    world = World()
    office = world.present("office", "tunnel")
    world.wait(0.9)
    office.say(Publish(()))
    assert office.got(Error).code is Code.LIMIT
    world.wait(1)
    office.say(Publish(()))
    assert office.heard.count(Ok()) == 2


def test_a_host_has_one_owner() -> None:
    world = World()
    office = world.present("office", "pass:site.example")
    store = world.present("store", "pass:site.example")
    error = store.got(Error)
    assert (error.code, error.about) == (Code.REFUSED, 3)
    assert "office" not in error.reason
    assert "office publishes this host" in world.all(Decided)[-1].rule
    office.leave()
    world.wait(1)
    store.say(Publish((resource("pass:site.example"),)))
    assert store.got(Ok)


def test_a_resource_is_withdrawn_when_its_time_is_over() -> None:
    world = World()
    office = world.present("office")
    office.say(Publish((Resource("tunnel", ttl=5), Resource("desk"))))
    world.wait(4.9)
    assert world.asks("laptop", "office").closed is None
    world.wait(0.2)
    refused(world.asks("laptop", "office"), Code.NOT_PRESENT)
    registration = world.server.registry.get("office")
    assert registration is not None
    assert list(registration.offers) == ["desk"]


def test_looking_up_a_name_and_what_one_may_connect_to() -> None:
    world = World()
    laptop = world.client("laptop").say(Hello("ask", RUN), Lookup("office"))
    assert laptop.got(Welcome).generation == 0
    assert laptop.got(Presence) == Presence("office", (Entry("office", False),))
    office = world.present("office")
    office.say(Publish((resource("tunnel"), Resource("desk", groups=()))))
    laptop.say(Lookup("office"))
    assert laptop.got(Presence) == Presence("office", (Entry("office", True, ("tunnel",)),))


@pytest.mark.parametrize("target", ["laptop", "nobody", "group:spare", "depot"])
def test_who_may_not_know_is_told_the_same_of_everybody(target: str) -> None:
    world = World()
    world.present("laptop")
    guest = world.client("guest").say(Hello("ask", RUN), Lookup(target))
    assert guest.got(Error) == Error(Code.NOT_ALLOWED, "no rule allows it", about=10)
    assert guest.closed is None


def test_a_group_is_seen_by_who_may_connect_to_it_and_watched() -> None:
    world = World()
    laptop = world.client("laptop").say(Hello("ask", RUN), Lookup("group:servers", True))
    assert laptop.got(Presence) == Presence("group:servers", ())
    office, depot = world.present("office", "tunnel"), world.present("depot", "tunnel")
    world.wait(0.2)
    assert laptop.got(Presence).entries == (
        Entry("depot", True, ("tunnel",)),
        Entry("office", True, ("tunnel",)),
    )
    office.leave()
    world.wait(0.2)
    assert laptop.got(Presence).entries == (Entry("depot", True, ("tunnel",)),)
    before = len(laptop.heard)
    laptop.leave()
    depot.leave()
    world.wait(1)
    assert len(laptop.heard) == before
    world.nothing_left()


def test_a_name_is_watched_by_who_may_know_it_until_the_policy_says_no() -> None:
    world = World()
    laptop = world.client("laptop").say(Hello("ask", RUN), Lookup("office", True))
    office = world.present("office")
    world.wait(0.2)
    assert laptop.got(Presence).entries == (Entry("office", True),)
    clients = {**POLICY.clients, "laptop": ClientRules()}
    world.do(world.server.replace_policy(Policy(clients), world.now))
    before = len(laptop.heard)
    office.leave()
    world.wait(0.2)
    assert len(laptop.heard) == before


def test_only_so_many_are_watched() -> None:
    policy = Policy({"laptop": ClientRules(lookup=("*",))})
    world = World(policy, watches=2)
    laptop = world.client("laptop").say(Hello("ask", RUN))
    laptop.say(Lookup("a", True), Lookup("b", True), Lookup("b", True), Lookup("c"))
    assert Error not in map(type, laptop.heard)
    laptop.say(Lookup("c", True))
    assert laptop.got(Error).code is Code.LIMIT


def test_a_large_group_is_told_in_part() -> None:
    many = {f"server-{number:03}": ClientRules(("tunnel",), ("all",)) for number in range(120)}
    world = World(Policy({**many, "laptop": ClientRules(connect=("group:all/*",))}))
    for name in many:
        world.present(name, "tunnel")
    laptop = world.client("laptop").say(Hello("ask", RUN), Lookup("group:all"))
    seen = laptop.got(Presence)
    assert len(seen.entries) == 100
    assert seen.more


def test_a_presence_fits_into_a_message() -> None:
    many = {"n" * 240 + f"{number:03}": ClientRules(("*",), ("all",)) for number in range(60)}
    world = World(Policy({**many, "laptop": ClientRules(connect=("group:all/*",))}))
    for name in many:
        world.present(name, *(f"resource-{number}" for number in range(20)))
    laptop = world.client("laptop").say(Hello("ask", RUN), Lookup("group:all"))
    assert laptop.got(Presence).more
    assert 10 < len(laptop.got(Presence).entries) < 60


# -- sessions -----------------------------------------------------------------------


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


# -- limits ----------------------------------------------------------------------------


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


# -- browsers ------------------------------------------------------------------------------


def test_a_browser_is_passed_through() -> None:
    world = World()
    office = world.present("office", "pass:site.example")
    visitor = world.browser("site.example")
    incoming = office.got(Incoming)
    assert (incoming.origin, incoming.host) == ("", "site.example")
    assert (incoming.target, incoming.resource) == ("office", "pass:site.example")
    assert incoming.observed == "198.51.100.3:60000"
    target = world.joins("office", incoming)
    assert target.heard == [StartPass(incoming.session, "site.example", "198.51.100.3:60000")]
    target.through()
    (join,) = world.all(Join)
    assert join.session.initiator is visitor
    world.do(world.server.over(join.session, True, "the browser closed", (1, 2), world.now))
    office.leave()
    world.nothing_left()


def test_a_wildcard_is_one_label_and_an_exact_name_goes_before_it() -> None:
    clients = {
        "office": ClientRules(("pass:*.wild.example",)),
        "store": ClientRules(("pass:a.wild.example",)),
    }
    world = World(Policy(clients))
    office = world.present("office", "pass:*.wild.example")
    world.browser("b.wild.example")
    assert office.got(Incoming).host == "b.wild.example"
    assert office.got(Incoming).resource == "pass:*.wild.example"
    store = world.present("store", "pass:a.wild.example")
    world.browser("a.wild.example")
    assert store.got(Incoming).host == "a.wild.example"
    for host in ("wild.example", "c.b.wild.example"):
        world.browser(host)
        assert world.all(TurnAway)[-1].reason == "not here"


def test_an_absent_publisher_a_refusal_and_a_time_out_are_an_alert() -> None:
    world = World()
    world.browser("site.example")
    assert len(world.all(TurnAway)) == 1
    office = world.present("office", "pass:site.example")
    world.browser("site.example")
    office.say(Answer(office.got(Incoming).session, code=Code.UNREACHABLE, reason="dead"))
    assert world.all(TurnAway)[-1].reason == "unreachable: dead"
    world.browser("site.example")
    world.wait(10)
    assert "timed-out" in world.all(TurnAway)[-1].reason
    world.browser("site.example")
    office.leave()
    assert "unreachable" in world.all(TurnAway)[-1].reason
    world.nothing_left()


def test_a_browser_that_leaves_before_its_publisher_comes() -> None:
    world = World()
    office = world.present("office", "pass:site.example")
    visitor = world.browser("site.example")
    world.do(world.server.visitor_left(visitor, world.now))
    assert office.got(Error).session == office.got(Incoming).session
    assert not world.all(TurnAway)
    office.leave()
    world.nothing_left()


def test_a_browser_that_leaves_while_the_publisher_ends_its_tls() -> None:
    world = World()
    office = world.present("office", "pass:site.example")
    visitor = world.browser("site.example")
    target = world.joins("office", office.got(Incoming))
    world.do(world.server.visitor_left(visitor, world.now))
    assert target.closed is not None
    office.leave()
    world.nothing_left()


def test_a_publisher_that_leaves_while_it_ends_its_tls() -> None:
    world = World()
    office = world.present("office", "pass:site.example")
    world.browser("site.example")
    target = world.joins("office", office.got(Incoming))
    target.leave()
    assert len(world.all(TurnAway)) == 1
    office.leave()
    world.nothing_left()


def test_a_spare_is_used_at_once_the_oldest_first() -> None:
    world = World()
    office = world.present("office", "pass:site.example")
    spares = [world.spare("office", "pass:site.example") for _ in range(2)]
    world.browser("site.example")
    assert spares[0].got(StartPass).host == "site.example"
    assert Incoming not in map(type, office.heard)
    spares[0].through()
    assert world.all(Join)
    spares[1].leave()
    world.browser("site.example")
    assert office.got(Incoming)


def test_spares_are_the_publishers_and_four_at_most() -> None:
    world = World()
    refused(world.spare("office", "pass:site.example"), Code.NOT_ALLOWED)
    office = world.present("office", "pass:site.example", "tunnel")
    refused(world.spare("store", "pass:site.example"), Code.NOT_ALLOWED)
    refused(world.spare("office", "tunnel"), Code.NOT_ALLOWED)
    spares = [world.spare("office", "pass:site.example") for _ in range(5)]
    refused(spares[4], Code.LIMIT)
    world.wait(1)
    office.say(Publish((resource("tunnel"),)))
    assert [spare.closed is not None for spare in spares] == [True] * 5
    office.leave()
    world.nothing_left()


def test_a_spare_that_is_silent_is_dropped_and_one_that_lives_stays() -> None:
    world = World()
    office = world.present("office", "pass:site.example")
    silent, alive = (world.spare("office", "pass:site.example") for _ in range(2))
    for _ in range(4):
        world.wait(9)
        alive.say(Keepalive())
        office.say(Keepalive())
    assert silent.closed is not None
    world.browser("site.example")
    assert alive.got(StartPass)


def test_a_vhosts_request_gets_a_connection_that_stays_in_tls() -> None:
    world = World()
    office = world.present("office", "web:app.example")
    visitor = world.browser("app.example", "web")
    incoming = office.got(Incoming)
    assert (incoming.resource, incoming.host) == ("web:app.example", "app.example")
    target = world.joins("office", incoming)
    assert target.heard == [StartWeb(incoming.session, "app.example", "198.51.100.3:60000")]
    assert target.lent is not None
    assert not world.all(Switch)
    world.do(world.server.visitor_left(visitor, world.now))
    assert target.connection.state is State.ENDED
    assert world.all(Cut)
    office.leave()
    world.nothing_left()


def test_a_kind_is_not_the_other() -> None:
    world = World()
    world.present("office", "web:app.example")
    world.browser("app.example", "pass")
    assert world.all(TurnAway)


def test_networks_from_which_browsers_may_come() -> None:
    sources = {"pass:site.example": (ip_network("198.51.100.0/24"),)}
    world = World(attrs.evolve(POLICY, sources=sources))
    office = world.present("office", "pass:site.example")
    world.browser("site.example", address="203.0.113.9")
    assert world.all(TurnAway)[-1].reason == "no rule allows it"
    assert Incoming not in map(type, office.heard)
    world.browser("site.example", address="198.51.100.9")
    assert office.got(Incoming)


def test_browsers_of_one_address_wait_their_turn() -> None:
    world = World(dial_pending=3, queued=5)
    office = world.present("office", "pass:site.example")
    visitors = [world.browser("site.example") for _ in range(9)]

    def asked() -> list[Incoming]:
        return [one for one in office.heard if isinstance(one, Incoming)]

    assert len(asked()) == 3
    assert [one.visitor for one in world.all(TurnAway)] == visitors[8:]
    world.browser("site.example", address="203.0.113.9")
    assert len(asked()) == 4, "a full queue is no matter of others"
    target = world.joins("office", asked()[0])
    target.through()
    world.wait(0.1)
    assert len(asked()) == 5
    world.wait(10)
    assert visitors[7] in [one.visitor for one in world.all(TurnAway)]


def test_one_address_does_not_keep_another_out() -> None:
    world = World(dial_pending=3)
    office = world.present("office", "pass:site.example")
    for _ in range(9):
        world.browser("site.example")
    world.browser("site.example", address="203.0.113.9")
    assert office.got(Incoming).observed == "203.0.113.9:60000"


def test_twenty_browsers_a_second_from_one_address() -> None:
    world = World(dial_pending=1000, host_pending=1000)
    office = world.present("office", "pass:site.example")
    for _ in range(200):
        world.browser("site.example")
    count = sum(1 for one in office.heard if isinstance(one, Incoming))
    assert count == 50
    world.wait(1.01)
    count = sum(1 for one in office.heard if isinstance(one, Incoming))
    assert 68 <= count <= 71


def test_browsers_of_one_host() -> None:
    world = World(host_pending=2)
    office = world.present("office", "pass:site.example", "pass:*.wild.example")
    for number in range(4):
        world.browser("site.example", address=f"203.0.113.{number}")
    assert sum(1 for one in office.heard if isinstance(one, Incoming)) == 2
    world.browser("a.wild.example", address="203.0.113.99")
    assert office.got(Incoming).host == "a.wild.example"


# -- policy and trust that change -------------------------------------------------------------


def test_a_changed_policy_ends_what_it_does_not_allow_and_nothing_else() -> None:
    world = World()
    office = world.present("office", "tunnel", "pass:site.example")
    laptop = world.asks("laptop", "office")
    target = world.joins("office", office.got(Incoming))
    laptop.through()
    target.through()
    waiting = world.asks("laptop", "office")
    world.browser("site.example")
    site = world.joins("office", office.got(Incoming))
    site.through()
    clients = {**POLICY.clients, "laptop": ClientRules(connect=("office/desk",))}
    world.do(world.server.replace_policy(Policy(clients), world.now))
    (cut,) = world.all(Cut)
    assert cut.session.initiator is laptop.connection
    assert "no rule for office/tunnel" in cut.reason
    refused(waiting, Code.NOT_ALLOWED)
    assert office.closed is None
    assert len(world.server.sessions) == 1


def test_what_may_not_be_published_any_more_is_withdrawn_with_its_sessions() -> None:
    world = World()
    office = world.present("office", "tunnel", "pass:site.example")
    spare = world.spare("office", "pass:site.example")
    world.browser("site.example")
    spare.through()
    clients = {**POLICY.clients, "office": ClientRules(("tunnel",), ("servers",))}
    world.do(world.server.replace_policy(Policy(clients), world.now))
    assert len(world.all(Cut)) == 1
    error = office.got(Error)
    assert (error.code, error.about, error.fatal) == (Code.NOT_ALLOWED, 3, False)
    assert "pass:site.example" in error.reason
    world.browser("site.example")
    assert world.all(TurnAway)
    assert world.asks("laptop", "office").closed is None


def test_who_is_not_in_the_policy_any_more_has_to_go() -> None:
    world = World()
    laptop, target = world.session()
    laptop.through()
    target.through()
    (registration,) = world.server.registry
    office = registration.connection.owner
    assert isinstance(office, Client)
    asking = world.client("laptop").say(Hello("ask", RUN))
    clients = {name: rules for name, rules in POLICY.clients.items() if name != "laptop"}
    world.do(world.server.replace_policy(Policy(clients), world.now))
    refused(asking, Code.NOT_ALLOWED)
    assert world.all(Cut)
    assert office.closed is None


def test_a_rule_for_a_group_counts_as_long_as_the_target_is_in_it() -> None:
    world = World()
    depot = world.present("depot", "tunnel")
    laptop = world.asks("laptop", "depot")
    target = world.joins("depot", depot.got(Incoming))
    laptop.through()
    target.through()
    world.do(world.server.replace_policy(POLICY, world.now))
    assert not world.all(Cut)


def test_everything_of_a_name_that_is_trusted_no_more_ends() -> None:
    world = World()
    laptop, target = world.session()
    laptop.through()
    target.through()
    depot = world.present("depot", "tunnel")
    world.do(world.server.expel("office", "revoked", world.now))
    assert [cut.reason for cut in world.all(Cut)] == ["revoked"]
    assert world.server.registry.get("office") is None
    assert depot.closed is None
    depot.leave()
    world.nothing_left()
