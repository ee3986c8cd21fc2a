"""A client is present once its name has been claimed for it, and for that long (rows S4, S12)."""

from __future__ import annotations

import attrs

from tests.core.secureproxy.world import POLICY, Client, World
from tunnelkit.core.secureproxy.commands import Claim, Left, Present
from tunnelkit.core.secureproxy.policy import REFUSE
from tunnelkit.errors import Code
from tunnelkit.wire.secureproxy import Error, Hello, Ok, Publish, Resource, Welcome

HELLO = Hello("present", "a" * 32)


def waiting() -> tuple[World, Client, Claim]:
    """A client whose claim nobody has answered, with a PUBLISH behind its HELLO."""
    world = World()
    world.held_claims = []
    office = world.client("office").say(HELLO, Publish((Resource("tunnel"),)))
    (claim,) = world.held_claims
    assert office.heard == []
    assert (claim.connection, claim.run, claim.replace) == (office.connection, "a" * 32, True)
    return world, office, claim


def test_what_comes_behind_hello_waits_for_the_claim() -> None:
    world, office, claim = waiting()
    world.claimed(claim)
    assert [type(said) for said in office.heard] == [Welcome, Ok]
    (present,) = world.all(Present)
    assert present.registration.generation == office.got(Welcome).generation > 1_795_900_000_000


def test_a_claim_that_fails_is_a_refusal() -> None:
    world, office, claim = waiting()
    world.do(world.server.not_claimed(claim.connection, Code.REFUSED, "taken", world.now))
    refused = office.got(Error)
    assert (refused.code, refused.fatal) == (Code.REFUSED, True)
    world.claimed(claim)
    assert office.heard == [refused]
    world.nothing_left()


def test_a_claim_without_an_answer_is_given_up_with_the_setup() -> None:
    world, office, _ = waiting()
    world.wait(10)
    assert office.got(Error).code is Code.TIMED_OUT
    world.nothing_left()


def test_who_has_gone_before_the_answer_is_not_present() -> None:
    world, office, claim = waiting()
    office.leave()
    world.claimed(claim)
    assert world.all(Present) == []
    world.nothing_left()


def test_of_two_claims_of_a_name_the_higher_number_counts() -> None:
    world, office, claim = waiting()
    assert world.held_claims is not None
    second = world.client("office").say(Hello("present", "b" * 32))
    world.do(world.server.claimed(second.connection, 7, world.now))
    world.do(world.server.claimed(claim.connection, 5, world.now))
    assert office.got(Error).code is Code.REPLACED
    assert second.got(Welcome).generation == 7
    third = world.client("office").say(Hello("present", "c" * 32))
    world.do(world.server.claimed(third.connection, 9, world.now))
    assert second.got(Error).code is Code.REPLACED
    assert len(world.all(Left)) == 1


def test_a_lease_that_somebody_else_has_taken_is_the_end_of_the_registration() -> None:
    world = World()
    office = world.present("office", "tunnel")
    world.do(world.server.not_claimed(office.connection, Code.REPLACED, "elsewhere", world.now))
    assert office.got(Error).code is Code.REPLACED
    assert len(world.all(Left)) == 1
    world.nothing_left()


def test_where_a_second_one_is_refused_the_claim_does_not_replace() -> None:
    world = World(attrs.evolve(POLICY, duplicate=REFUSE))
    world.held_claims = []
    world.client("office").say(HELLO)
    assert [claim.replace for claim in world.held_claims] == [False]
