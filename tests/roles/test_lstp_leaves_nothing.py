"""A middle and two ends in one process: every timer and descriptor is given back (R7).

When a test ends, trial itself looks for timers and sockets that are left in the reactor.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.wire import Echo
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tunnelkit.roles.registry import roles
from tunnelkit.services.options import options_for
from tunnelkit.testing.authority import throwaway_ca

reactor: Any = installed
LINE = b"a line\r\n"


class Asks(Protocol):
    """Sends a line, waits for it to come back, and ends; ``over`` fires with what came."""

    def __init__(self) -> None:
        self.received = b""
        self.over: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(LINE)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.received += data
        if self.received == LINE:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over.callback(self.received)


def addresses(service: Any) -> Iterator[str]:
    """The addresses of all front ends below ``service``."""
    for part in service:
        if hasattr(part, "address"):
            yield part.address
        elif isinstance(part, MultiService):
            yield from addresses(part)


def timers() -> int:
    """How many the reactor has."""
    return len(reactor.getDelayedCalls())


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


class LeftoversTests(TestCase):
    timeout = 60.0

    def start(self, name: str, *words: str) -> Any:
        """A running role; it is stopped when the test is over."""
        role = roles()[name]
        options = options_for(role)()
        options.parseOptions(list(words))
        service: Any = role.make_service(reactor, options.config)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def test_channels_leave_no_timer_and_no_descriptor(self) -> None:
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        authority = throwaway_ca()
        files = [str(authority.identity_file(name, directory)) for name in ("client", "server")]
        echo = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(Echo)
        )
        self.addCleanup(echo.stopListening)
        target = f"tcp:127.0.0.1:{echo.getHost().port}"
        place = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        free = await place.listen(Factory.forProtocol(Echo))
        middle = f"127.0.0.1:{free.getHost().port}"
        await free.stopListening()
        self.start("lstp-middle", "--listen", middle)
        common = ("--middle", middle, "--tunnel", "t", "--identity")
        self.start(
            "lstp-server-end",
            *common, files[1], "--peer", "client", "--allow", target,
        )  # fmt: skip
        client = self.start(
            "lstp-client-end",
            *common, files[0], "--peer", "server", "--forward", f"0={target}",
        )  # fmt: skip
        await client.tunnel.when_up()
        (forward,) = addresses(client)
        ways = [
            TCP4ClientEndpoint(reactor, "127.0.0.1", int(forward.rpartition(":")[2])),
            client.tunnel.channel_to(target),
        ]

        async def ask(number: int) -> None:
            protocol: Any = await ways[number % 2].connect(Factory.forProtocol(Asks))
            assert await protocol.over == LINE

        async def ask_often(times: int) -> None:
            for _ in range(times):
                await gatherResults([ensureDeferred(ask(number)) for number in range(50)])
            while client.tunnel.status().channels:
                await deferLater(reactor, 0.01)

        await ask_often(1)
        await deferLater(reactor, 0.3)
        before = timers(), descriptors()
        await ask_often(10)
        # Reports of what was taken are due after 20 ms.
        await deferLater(reactor, 0.3)
        assert (timers(), descriptors()) <= before
