"""A Communication Server on a real port, and clients' connections to it, in one process."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import TestCase

from tests.core.secureproxy.world import POLICY
from tunnelkit.core.secureproxy.commands import Command
from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.core.secureproxy.policy import Policy
from tunnelkit.errors import Code
from tunnelkit.net.secureproxy.control import Registration
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.secureproxy.server import SecureProxyServer
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.policy.acl import Policy as OwnPolicy
from tunnelkit.registry.memory import MemoryRegistry
from tunnelkit.testing.authority import ThrowawayCA, throwaway_ca
from tunnelkit.wire.secureproxy import ALPN, Incoming, Login, Resource

reactor: Any = global_reactor
SERVER = "relay.example"

Refuse = Any


class SecureProxyCase(TestCase):
    """Everything that is made here ends with the test."""

    timeout = 20

    def setUp(self) -> None:
        self.ca: ThrowawayCA = throwaway_ca()
        self.shared = Shared.of(reactor)
        self.records: list[Command] = []

    def serve(self, policy: Policy = POLICY, **options: Any) -> SecureProxyServer:
        """A server; its port is ``self.port``."""
        context = TlsContext(self.ca.credentials(SERVER), (ALPN,), peer_optional=True)
        server = SecureProxyServer(
            reactor,
            SERVER,
            context,
            policy,
            record=self.records.append,
            registry=options.pop("registry", None) or MemoryRegistry(reactor.seconds, 1000),
            limits=options.pop("limits", Limits()),
            **options,
        )
        listener = server.listen(OwnPolicy().own("127.0.0.1", 0, "tcp"))
        self.port = int(listener.address.rpartition(":")[2])
        self.addCleanup(self._settled)
        self.addCleanup(server.close)
        self.addCleanup(listener.close)
        return server

    def _settled(self) -> Deferred[None]:
        """Let what was closed close."""
        done: Deferred[None] = Deferred()
        reactor.callLater(0.05, done.callback, None)
        return done

    def link(
        self,
        name: str,
        *,
        server_name: str = SERVER,
        login: Login | None = None,
        port: int | None = None,
        ca: ThrowawayCA | None = None,
    ) -> ServerLink:
        """A client's way to the server."""
        context = TlsContext((ca or self.ca).credentials(name), (ALPN,), server_name=server_name)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port or self.port)
        return ServerLink(self.shared, endpoint, context, server_name, login=login)

    def present(self, name: str, *resources: Resource) -> Present:
        """A client that registers."""
        made = Present(self.link(name), resources)
        self.addCleanup(made.registration.stop, "the test is over")
        return made

    async def until(self, condition: Any) -> None:
        """Wait until it is true."""
        while not condition():
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.002, pause.callback, None)
            await pause


class Present:
    """A registration, and what it was told."""

    def __init__(self, link: ServerLink, resources: tuple[Resource, ...]) -> None:
        self.link = link
        self.asked: list[tuple[Incoming, Any]] = []
        self.off: list[str] = []
        self.times = 0
        self._waiting: list[Deferred[Incoming]] = []
        self.registration = Registration(
            link, resources, self._asked, self.off.append, self._present
        )
        self.registration.start()

    def _present(self) -> None:
        self.times += 1

    def _asked(self, incoming: Incoming, refuse: Any) -> None:
        self.asked.append((incoming, refuse))
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(incoming)

    def next_asked(self) -> Deferred[Incoming]:
        """The next INCOMING."""
        found: Deferred[Incoming] = Deferred()
        self._waiting.append(found)
        return found


__all__ = ["SERVER", "Code", "Present", "SecureProxyCase", "reactor"]
