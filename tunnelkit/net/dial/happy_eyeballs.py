"""Connecting to a host with several addresses: Happy Eyeballs, RFC 8305 (N2).

Twisted's own `HostnameEndpoint` tries the addresses in the resolver's order, whole
families in a row; it waits its delay even when an attempt has already been refused
(``localhost`` costs 0.3 s wherever only IPv4 listens); it has no limit for all attempts
together, and names only the last failure. This endpoint alternates the families, goes
on at once after a failure, and has one limit for resolving and connecting.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

from twisted.internet import defer, error
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.errors import Code, DialError, DialTimeout
from tunnelkit.net.sockets.tcp import code_of
from tunnelkit.net.sockets.timer import Timer

ATTEMPT_DELAY = 0.25
"""Seconds before the next address is tried beside the ones under way (RFC 8305, section 5)."""
CONNECT_LIMIT = 15.0
"""Seconds for resolving the name and connecting, all addresses together."""

_MOST_ADDRESSES_NAMED = 6

_Address = IPv4Address | IPv6Address


def interleave(addresses: Iterable[IAddress]) -> list[_Address]:
    """The addresses in the resolver's order, but alternating between the families."""
    known = [a for a in addresses if isinstance(a, (IPv4Address, IPv6Address))]
    first = [a for a in known if type(a) is type(known[0])]
    second = [a for a in known if type(a) is not type(known[0])]
    mixed: list[_Address] = []
    for place in range(max(len(first), len(second))):
        mixed += first[place : place + 1] + second[place : place + 1]
    return mixed


@implementer(IResolutionReceiver)
class _Resolution:
    def __init__(self) -> None:
        self.found: list[IAddress] = []
        self.done: defer.Deferred[list[_Address]] = defer.Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        self.found.append(address)

    def resolutionComplete(self) -> None:
        self.done.callback(interleave(self.found))


def resolve(reactor: Any, host: str, port: int) -> defer.Deferred[list[_Address]]:
    """The addresses of ``host`` in the order in which to try them; empty if there are none."""
    if isIPAddress(host):
        return defer.succeed([IPv4Address("TCP", host, port)])
    if isIPv6Address(host):
        return defer.succeed([IPv6Address("TCP", host, port)])
    receiver = _Resolution()
    reactor.nameResolver.resolveHostName(receiver, host, portNumber=port)
    return receiver.done


def reason_of(problem: error.ConnectError) -> tuple[str, Code]:
    """A failed attempt in words, and as the `Code` nearest to it."""
    if isinstance(problem, error.TimeoutError):
        return "no answer", Code.TIMED_OUT
    number = problem.osError
    if isinstance(number, int):
        text = os.strerror(number)
        return text[:1].lower() + text[1:], code_of(OSError(number, text))
    return " ".join(str(problem).split()), Code.UNREACHABLE


@implementer(IStreamClientEndpoint)
class HappyEyeballsEndpoint:
    """Connects to ``host:port`` directly.

    ``name`` is what errors call it. ``connect`` fails with a `DialError` of one line
    that says what became of every address, or `DialTimeout` after ``limit`` seconds.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        *,
        name: str,
        limit: float = CONNECT_LIMIT,
    ) -> None:
        self.reactor = reactor
        self.host = host
        self.port = port
        self.name = name
        self.limit = limit

    def connect(self, protocolFactory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """Connect to the address that answers first."""
        race = _Race(self, protocolFactory)
        race.start()
        return race.done


class _Race:
    """One ``connect``: the first attempt that succeeds ends all others."""

    def __init__(self, course: HappyEyeballsEndpoint, factory: IProtocolFactory) -> None:
        self._course = course
        self._factory = factory
        self._waiting: list[_Address] = []
        self._running: dict[_Address, defer.Deferred[IProtocol]] = {}
        self._failed: dict[_Address, tuple[str, Code]] = {}
        self._next_attempt = Timer(course.reactor, self._try_next)
        self._over = False
        self._time_limit = Timer(course.reactor, self._time_is_over)
        self._time_limit.start(course.limit)
        self.done: defer.Deferred[IProtocol] = defer.Deferred(self._cancel)

    def start(self) -> None:
        resolving = resolve(self._course.reactor, self._course.host, self._course.port)
        resolving.addCallbacks(self._resolved, self._give_up)

    def _resolved(self, addresses: list[_Address]) -> None:
        if self._over:
            return
        if not addresses:
            self._fail("no such host", Code.NO_SUCH_HOST)
            return
        self._waiting = addresses
        self._try_next()

    def _try_next(self) -> None:
        self._next_attempt.stop()
        address = self._waiting.pop(0)
        course = self._course
        kind = TCP4ClientEndpoint if isinstance(address, IPv4Address) else TCP6ClientEndpoint
        endpoint = kind(course.reactor, address.host, course.port, timeout=course.limit)
        if self._waiting:
            self._next_attempt.start(ATTEMPT_DELAY)
        attempt: defer.Deferred[IProtocol] = endpoint.connect(self._factory)
        self._running[address] = attempt
        attempt.addCallbacks(
            self._connected, self._attempt_failed, callbackArgs=(address,), errbackArgs=(address,)
        )

    def _connected(self, protocol: IProtocol, address: _Address) -> None:
        del self._running[address]
        self._finish()
        self.done.callback(protocol)

    def _attempt_failed(self, reason: Failure, address: _Address) -> None:
        if self._over:
            return
        del self._running[address]
        if not isinstance(reason.value, error.ConnectError):
            # Not the network's doing: the factory refused, or a bug. Other addresses cannot help.
            self._give_up(reason)
            return
        self._failed[address] = reason_of(reason.value)
        if self._waiting:
            self._try_next()
        elif not self._running:
            codes = [code for _, code in self._failed.values()]
            code = Code.REFUSED if Code.REFUSED in codes else codes[-1]
            self._fail(self._what_became(), code)

    def _what_became(self) -> str:
        """What was tried, in one line; an address that was given as such is not repeated."""
        if [address.host for address in self._failed] == [self._course.host]:
            return next(iter(self._failed.values()))[0]
        by_reason: dict[str, list[str]] = {}
        for address, (reason, _) in self._failed.items():
            by_reason.setdefault(reason, []).append(address.host)
        return "; ".join(
            f"{reason} ({_listed(addresses)})" for reason, addresses in by_reason.items()
        )

    def _time_is_over(self) -> None:
        course = self._course
        for address in self._running:
            self._failed[address] = ("no answer", Code.TIMED_OUT)
        text = f"no answer within {course.limit:g} s"
        if not self._failed:
            text = f"looking up {course.host} took longer than {course.limit:g} s"
        elif [address.host for address in self._failed] != [course.host]:
            text += f": {self._what_became()}"
        self._finish()
        self.done.errback(DialTimeout(f"cannot connect to {course.name}: {text}", hop=course.name))

    def _fail(self, why: str, code: Code) -> None:
        self._finish()
        name = self._course.name
        self.done.errback(DialError(f"cannot connect to {name}: {why}", hop=name, code=code))

    def _give_up(self, reason: Failure) -> None:
        if not self._over:
            self._finish()
            self.done.errback(reason)

    def _finish(self) -> None:
        self._over = True
        for timer in (self._time_limit, self._next_attempt):
            timer.stop()
        running, self._running = self._running, {}
        for attempt in running.values():
            # One that has connected in this very moment has nothing left to stop.
            with contextlib.suppress(error.NotConnectingError):
                attempt.cancel()

    def _cancel(self, done: defer.Deferred[IProtocol]) -> None:
        self._finish()
        done.errback(
            error.ConnectingCancelledError(
                HostnameAddress(self._course.host.encode("ascii", "replace"), self._course.port)
            )
        )


def _listed(addresses: list[str]) -> str:
    named = ", ".join(addresses[:_MOST_ADDRESSES_NAMED])
    more = len(addresses) - _MOST_ADDRESSES_NAMED
    return f"{named} and {more} more" if more > 0 else named
