"""What is published with a Communication Server, and who may see it (rows S4, S5)."""

from __future__ import annotations

import pytest

from tests.core.secureproxy.world import POLICY, World, refused, resource
from tunnelkit.core.secureproxy.commands import (
    Decided,
)
from tunnelkit.core.secureproxy.policy import ClientRules, Policy
from tunnelkit.errors import Code
from tunnelkit.wire.secureproxy import (
    Entry,
    Error,
    Hello,
    Lookup,
    Ok,
    Presence,
    Publish,
    Resource,
    Welcome,
)

RUN = "5" * 32


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
