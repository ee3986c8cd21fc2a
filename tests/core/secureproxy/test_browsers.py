"""Browsers at a Communication Server: passed through, or to a vhost (row S10)."""

from __future__ import annotations

from ipaddress import ip_network

import attrs

from tests.core.secureproxy.world import POLICY, World, refused, resource
from tunnelkit.core.secureproxy.commands import (
    Cut,
    Join,
    Switch,
    TurnAway,
)
from tunnelkit.core.secureproxy.connection import State
from tunnelkit.core.secureproxy.policy import ClientRules, Policy
from tunnelkit.errors import Code
from tunnelkit.wire.secureproxy import (
    Answer,
    Error,
    Incoming,
    Keepalive,
    Publish,
    StartPass,
    StartWeb,
)


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
