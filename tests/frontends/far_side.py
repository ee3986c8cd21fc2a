"""What most tests of front ends begin with: a tunnel, and a server at its far side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from tests.frontends.fake_tunnel import FakeTunnel
from tests.frontends.talk import Echo, Server, Talk
from tunnelkit.egress.dial import Egress
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.policy.acl import PolicyHolder, parse_rule

reactor: Any = global_reactor


class FarSideCase(TestCase):
    """``near`` and ``far`` hold the rules of the two sides of ``tunnel``."""

    def setUp(self) -> None:
        self.near = PolicyHolder()
        self.far = PolicyHolder()
        self.egress = Egress(reactor, Poller.of(reactor), self.far)
        self.tunnel = FakeTunnel(self.egress)

    def serve(self, protocol: Callable[[], Talk] = Echo) -> tuple[Server, int]:
        """A server and its port, which is all that the far side's rules allow."""
        server = Server(protocol)
        port = reactor.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(lambda: gatherResults([made.closed for made in server.made]))
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        self.far.replace([parse_rule(f"tcp:127.0.0.1:{number}")])
        return server, number
