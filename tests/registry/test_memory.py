"""Leases in memory: one at a time, with a number that rises, for as long as renewed (row S12)."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from tunnelkit.core.lease import LEASE, Lease
from tunnelkit.interfaces import IRegistry
from tunnelkit.registry.memory import MemoryRegistry


class Time:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def claim(registry: MemoryRegistry, run: str, *, replace: bool = True) -> Lease | None:
    got: list[Lease | None] = []
    registry.claim("office", run, "relay.example", replace).addCallback(got.append)
    return got[0]


def still(registry: MemoryRegistry, lease: Lease) -> bool:
    got: list[bool] = []
    registry.renew(lease).addCallback(got.append)
    return got[0]


def test_a_later_lease_has_a_higher_number_and_the_earlier_is_over() -> None:
    registry = MemoryRegistry(Time(), 1000)
    assert verifyObject(IRegistry, registry)
    first = claim(registry, "a")
    again = claim(registry, "a", replace=False)
    other = claim(registry, "b")
    assert first is not None
    assert again is not None
    assert other is not None
    assert 1000 < first.generation < again.generation < other.generation
    assert [still(registry, one) for one in (first, again, other)] == [False, False, True]
    # Whoever was replaced gives back nothing that is another's.
    registry.release(first)
    assert still(registry, other)


def test_without_replacing_a_lease_stays_until_it_is_given_back_or_not_renewed() -> None:
    time = Time()
    registry = MemoryRegistry(time, 1000)
    first = claim(registry, "a")
    assert first is not None
    for _ in range(5):
        time.now += LEASE - 1
        assert claim(registry, "b", replace=False) is None
        assert still(registry, first)
    time.now += LEASE
    assert not still(registry, first)
    second = claim(registry, "b", replace=False)
    assert second is not None
    registry.release(second)
    assert claim(registry, "c", replace=False) is not None
