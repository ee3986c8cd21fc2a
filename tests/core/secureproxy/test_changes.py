"""What ends when the policy of a Communication Server changes, or whom it trusts (row S5)."""

from __future__ import annotations

from tests.core.secureproxy.world import POLICY, Client, World, refused
from tunnelkit.core.secureproxy.commands import (
    Cut,
    TurnAway,
)
from tunnelkit.core.secureproxy.policy import ClientRules, Policy
from tunnelkit.errors import Code
from tunnelkit.wire.secureproxy import (
    Error,
    Hello,
    Incoming,
)

RUN = "5" * 32


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
