"""``--resolver system``: threads of its own, whose look-ups cannot be stopped."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tunnelkit.egress.names import SYSTEM, Names
from tunnelkit.egress.resolve import THREADS, SystemResolver

reactor: Any = global_reactor


class SystemResolverTests(TestCase):
    timeout = 20

    async def test_threads_that_hang_are_few_and_other_peers_go_on(self) -> None:
        let_go = threading.Event()
        self.addCleanup(let_go.set)
        hanging: list[str] = []

        def slow(host: str, *args: object, **more: object) -> list[Any]:
            if host.startswith("slow"):
                hanging.append(host)
                assert threading.current_thread().daemon  # the end of the process waits for none
                let_go.wait(15)
            return [(0, 0, 0, "", ("192.0.2.1", 0))]

        patch: Any = self.patch
        patch(socket, "getaddrinfo", slow)
        used_before = len(reactor.getThreadPool().threads)
        names = Names(SystemResolver(reactor), SYSTEM)
        waiting: list[Deferred[Sequence[str]]] = []
        for peer in ("a", "b", "c"):
            waiting += [names.look_up(peer, f"slow{number}.{peer}") for number in range(20)]
        assert await names.look_up("honest", "web") == ["192.0.2.1"]
        while len(hanging) < 3 * SYSTEM.per_peer:
            await deferLater(reactor, 0.001, lambda: None)
        assert len(hanging) < THREADS == SYSTEM.in_all
        for one in waiting:
            one.addErrback(lambda failure: None)
            one.cancel()
        assert await names.look_up("honest", "web") == ["192.0.2.1"]
        assert len(hanging) == 3 * SYSTEM.per_peer
        assert len(reactor.getThreadPool().threads) == used_before
        let_go.set()
        await gatherResults([names.look_up(peer, "web") for peer in ("a", "b", "c")])
        while names.running:
            await deferLater(reactor, 0.001, lambda: None)
