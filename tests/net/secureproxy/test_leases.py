"""A server's clients have leases in a registry, which KEEPALIVE renews (row S12)."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from tunnelkit.core.lease import LEASE, Lease
from tunnelkit.core.secureproxy.commands import Claim
from tunnelkit.core.secureproxy.connection import ServerConnection, State
from tunnelkit.errors import Code
from tunnelkit.interfaces import IRegistry
from tunnelkit.net.secureproxy.leases import RENEWAL, Leases
from tunnelkit.registry.memory import MemoryRegistry


class World:
    def __init__(self, registry: IRegistry | None = None) -> None:
        self.clock = Clock()
        self.registry: IRegistry = registry or MemoryRegistry(self.clock.seconds, 1000)
        self.told: list[object] = []
        self.leases = Leases(
            self.clock, self.registry, "relay.example", self.claimed, self.not_claimed
        )

    def claimed(self, connection: ServerConnection, generation: int) -> None:
        self.told.append(generation)
        if connection.state is State.CHECKING:
            connection.state = State.PRESENT

    def not_claimed(self, connection: ServerConnection, code: Code, reason: str) -> None:
        self.told.append(code)

    def connection(self, run: str = "a", *, replace: bool = True) -> ServerConnection:
        """One that has claimed its name."""
        made = ServerConnection("192.0.2.1", "192.0.2.1:1", "office")
        made.name = "office"
        made.state = State.CHECKING
        self.leases.claim(Claim(made, run, replace))
        self.clock.advance(0)
        return made


def test_a_lease_lasts_as_long_as_something_is_heard() -> None:
    world = World()
    first = world.connection()
    for _ in range(10):
        world.clock.advance(10)
        world.leases.heard_from(first)
    world.connection("b", replace=False)
    assert world.told == [1001, Code.REFUSED]
    world.clock.advance(LEASE)
    world.connection("b", replace=False)
    assert world.told[2:] == [1002]
    world.leases.heard_from(first)
    assert world.told[3:] == [Code.REPLACED]


def test_a_lease_is_given_back_when_the_client_leaves() -> None:
    world = World()
    first = world.connection()
    world.leases.release(first)
    world.connection("b", replace=False)
    assert world.told == [1001, 1002]
    assert len(world.leases) == 1


def test_who_has_gone_before_its_claim_is_answered_keeps_none() -> None:
    world = World()
    gone = ServerConnection("192.0.2.1", "192.0.2.1:1", "office")
    gone.name, gone.state = "office", State.ENDED
    world.leases.claim(Claim(gone, "a", True))
    world.clock.advance(0)
    assert len(world.leases) == 0
    world.connection("b", replace=False)
    assert world.told == [1001, 1002]


@implementer(IRegistry)
class Unreachable:
    """Gives leases at first, and no answer later."""

    down = False
    asked = 0

    def claim(self, name: str, run: str, server: str, replace: bool) -> Deferred[Lease | None]:
        return fail(OSError("down")) if self.down else succeed(Lease(name, run, server, 1))

    def renew(self, lease: Lease) -> Deferred[bool]:
        self.asked += 1
        return fail(OSError("down"))

    def release(self, lease: Lease) -> Deferred[None]:
        return fail(OSError("down"))


def test_a_registry_that_is_down_lets_nobody_new_in_and_leaves_who_is_there() -> None:
    registry = Unreachable()
    world = World(registry)
    first = world.connection()
    registry.down = True
    for _ in range(3):
        world.leases.heard_from(first)
        world.clock.advance(RENEWAL)
        world.leases.heard_from(first)
    assert registry.asked == 3
    world.connection("b")
    assert world.told == [1, Code.INTERNAL]
    world.leases.release(first)
    assert len(world.leases) == 0
