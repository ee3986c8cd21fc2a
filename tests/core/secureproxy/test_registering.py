"""Who registers with a Communication Server, and for how long (row S4)."""

from __future__ import annotations

import attrs
import pytest

from tests.core.secureproxy.world import POLICY, Client, World, refused
from tunnelkit.core.secureproxy.commands import (
    Authenticate,
    Decided,
    Join,
    Left,
    TurnAway,
)
from tunnelkit.errors import Code
from tunnelkit.wire.secureproxy import (
    Connect,
    Drain,
    Hello,
    Incoming,
    Keepalive,
    Login,
    Message,
    Ok,
    Publish,
    StartSecure,
    Welcome,
)

RUN = "5" * 32


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
