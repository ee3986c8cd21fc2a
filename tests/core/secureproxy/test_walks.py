"""Any order of events leaves a Communication Server sound; no bytes break it (R8, X25)."""

from __future__ import annotations

import random
from enum import Enum
from typing import Any

import pytest

from tests.core.secureproxy.world import POLICY, Client, World, resource
from tests.fuzz import CASES
from tests.wire.fuzzing import cases, pieces
from tests.wire.secureproxy_samples import MESSAGES
from tunnelkit.core.secureproxy import client, connection, dialogue, session
from tunnelkit.core.secureproxy.commands import Join, Lend, TurnAway
from tunnelkit.core.secureproxy.policy import ClientRules, Policy
from tunnelkit.core.secureproxy.session import Visitor
from tunnelkit.core.table import reachable
from tunnelkit.errors import Code, RemoteProtocolError
from tunnelkit.wire.secureproxy import (
    Answer,
    Connect,
    Error,
    Hello,
    Incoming,
    Keepalive,
    Lookup,
    Message,
    Publish,
    Spare,
    encode,
)

pytestmark = pytest.mark.timeout(120 + CASES // 100)

NAMES = ("office", "depot", "store", "laptop", "guest", "stranger")
HOSTS = ("site.example", "a.wild.example", "app.example", "nowhere.example")
LESS = Policy({**POLICY.clients, "laptop": ClientRules(), "office": ClientRules(("tunnel",))})


@pytest.mark.parametrize(
    ("table", "start"),
    [
        (connection.TABLE, connection.State.NEW),
        (session.TABLE, session.State.ASKED),
        (client.TABLE, client.State.GREETING),
        (dialogue.TABLE, dialogue.State.WAITING),
    ],
)
def test_every_state_can_be_reached(table: Any, start: Enum) -> None:
    assert set(reachable(table, start)) == set(type(start))


def _say_something(dice: random.Random, world: World, one: Client) -> None:
    incoming = [said for said in one.heard if isinstance(said, Incoming)]
    said = dice.choice(incoming).session if incoming else "f" * 32
    messages: list[Message] = [
        Keepalive(),
        Publish(tuple(map(resource, dice.sample(("tunnel", "pass:site.example",
            "web:app.example", "pass:*.wild.example"), dice.randrange(4))))),
        Connect(dice.choice([*NAMES, "group:servers"]), "tunnel", dice.choice(["one", "any"])),
        Lookup(dice.choice([*NAMES, "group:servers"]), dice.random() < 0.5),
        Answer(said, code=Code.REFUSED),
        Answer(said, True),
        Error(Code.RESET, session=said),
        Spare("pass:site.example"),
        Hello(dice.choice(["present", "ask", "session"]), f"{dice.randrange(3):032x}"),
    ]  # fmt: skip
    one.say(dice.choice(messages))


TABLES = {
    "office": ("tunnel", "pass:site.example", "pass:*.wild.example", "web:app.example"),
    "depot": ("tunnel",),
    "store": ("tunnel", "pass:site.example"),
}


def _happen(dice: random.Random, world: World, clients: list[Client]) -> None:
    """One thing or another, those that lead far more often."""
    live = [one for one in clients if one.closed is None]
    absent = [name for name in TABLES if world.server.registry.get(name) is None]
    what = dice.randrange(20)
    if absent and (what < 4 or len(absent) == len(TABLES)):
        name = dice.choice(absent)
        table = tuple(map(resource, TABLES[name]))
        clients.append(world.client(name))
        clients[-1].say(Hello("present", f"{dice.randrange(2):032x}"), Publish(table))
    elif what < 6:
        target = dice.choice(["office", "depot", "group:servers"])
        clients.append(world.asks("laptop", target, mode=dice.choice(["one", "any"])))
    elif what < 8:
        host = dice.choice(HOSTS)
        kind = "web" if host == "app.example" else "pass"
        world.browser(host, kind, f"203.0.113.{dice.randrange(3)}")
    elif what < 11:
        asked = [(one, said) for one in live for said in one.heard if isinstance(said, Incoming)]
        if asked:
            one, incoming = dice.choice(asked[-3:])
            clients.append(world.joins(one.name, incoming))
    elif what < 14:
        switching = [one for one in live if one.switching]
        if switching:
            dice.choice(switching).through()
    elif what == 14:
        clients.append(world.spare("office", "pass:site.example"))
    elif what == 15 and live:
        one = dice.choice(live)
        if not one.switching:
            _say_something(dice, world, one)
    elif what == 16:
        _leave(dice, world, live)
    elif what == 17:
        world.wait(dice.choice([0.1, 0.5, 2, 6]))
        for one in live:
            if one.closed is None and not one.switching and one.lent is None:
                one.say(Keepalive())
    elif what == 18 and dice.random() < 0.1:
        world.do(world.server.replace_policy(dice.choice([POLICY, POLICY, LESS]), world.now))
    else:
        for two in list(world.server.sessions.values()):
            if two.state in (session.State.JOINED, session.State.LENT) and dice.random() < 0.3:
                world.do(world.server.over(two, dice.random() < 0.5, "over", (1, 1), world.now))


def _leave(dice: random.Random, world: World, live: list[Client]) -> None:
    """Somebody whose connection is still his own, or a browser, goes."""
    served = [one.session for one in world.all(Join)]
    gone = [one for one in live if one.connection not in [two.joined for two in served]
        and one.connection not in [two.initiator for two in served]]  # fmt: skip
    if gone and dice.random() < 0.5:
        one = dice.choice(gone)
        one.closed = "left"
        one.leave()
        return
    for two in list(world.server.sessions.values()):
        if isinstance(two.initiator, Visitor) and two.state is not session.State.JOINED:
            world.do(world.server.visitor_left(two.initiator, world.now))
            return


@pytest.mark.parametrize("seed", range(60))
def test_any_order_of_events_ends_with_nothing_left(seed: int) -> None:
    dice = random.Random(seed)
    world = World(dial_pending=2, host_pending=3, incoming=2, connecting=2, sessions=4)
    clients: list[Client] = []
    for _ in range(400):
        _happen(dice, world, clients)
    for two in list(world.server.sessions.values()):
        if two.state is session.State.JOINED:
            world.do(world.server.over(two, True, "over", (0, 0), world.now))
    world.wait(120)
    for two in list(world.server.sessions.values()):
        world.do(world.server.over(two, True, "over", (0, 0), world.now))
    world.nothing_left()
    visitors = [said.session.initiator for said in world.all(Join) + world.all(Lend)]
    visitors += [said.visitor for said in world.all(TurnAway)]
    browsers = [one for one in visitors if isinstance(one, Visitor)]
    assert world.all(Join) + world.all(Lend)
    assert len(set(browsers)) == len(browsers), "a browser is served or turned away, once"


def test_no_stream_breaks_the_server() -> None:
    flights = [
        encode(Hello("present", "5" * 32)) + encode(Publish(())) + encode(Lookup("depot", True)),
        encode(Hello("session", "5" * 32)) + encode(Connect("office", "tunnel")),
        encode(Hello("session", "5" * 32)) + encode(Spare("pass:site.example")),
        *(encode(Hello("ask", "5" * 32)) + encode(message) for message in MESSAGES.values()),
    ]
    world = World()
    world.present("office", "tunnel", "pass:site.example")
    for number, data in enumerate(cases(flights, CASES // 2, seed=3)):
        one = world.client(NAMES[number % 5])
        for piece in pieces(data, number):
            if one.closed is None and not one.switching:
                one.send(piece)
        if one.closed is None:
            one.leave()
        if not number % 100:
            world.commands.clear()
            world.wait(1)
    world.wait(60)
    world.nothing_left()


def test_no_stream_breaks_a_client() -> None:
    seeds = [encode(message) for message in MESSAGES.values()]
    seeds += [encode(MESSAGES["welcome"]) + one for one in seeds]
    events = 0
    for number, data in enumerate(cases(seeds, CASES // 2, seed=4)):
        control = client.ControlDialogue(Hello("present", "5" * 32), 0)
        talk = dialogue.SessionDialogue(Hello("session", "5" * 32), Connect("office", "tunnel"), 0)
        for machine in (control, talk):
            try:
                for piece in pieces(data, number):
                    events += len(machine.receive(piece, 1))
            except RemoteProtocolError:
                assert machine.data_to_send()
                assert machine.next_deadline() is None
    assert events > CASES // 100
