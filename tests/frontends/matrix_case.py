"""Two real ends in one process with every front end, and what is dialled there (rule X1)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.acceptance.processes import free_port
from tests.frontends.matrix import OVER_USHER, WAYS, Targets, Ways, dials
from tests.frontends.test_x11 import free_display
from tests.services.roles import parsed
from tunnelkit.core.decision import Decision
from tunnelkit.egress import publish
from tunnelkit.frontends.forward import reverse
from tunnelkit.net.channels import tunnel
from tunnelkit.policy.acl import PolicyHolder, parse_rule
from tunnelkit.policy.destination import X11_BASE_PORT
from tunnelkit.policy.key_directory import KeyDirectory
from tunnelkit.roles.ports import descriptions
from tunnelkit.roles.usher_gate import UsherGateConfig, UsherGateService
from tunnelkit.roles.usher_portal import UsherPortalConfig, UsherPortalService

reactor: Any = global_reactor

RULE_FOR_NOTHING = "tcp:192.0.2.1:1"


class MatrixCase(TestCase):
    """Two ends with every front end and every target, over Usher."""

    timeout = 60
    ways = OVER_USHER

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        directory = Path(holder.name)
        self.targets = Targets(directory)
        self.addCleanup(self.targets.close)
        self.display = self.targets.x11_port - X11_BASE_PORT
        self.keys = KeyDirectory(directory / "keys")
        self.keys.create()
        for name in ("gate", "portal"):
            self.keys.issue(name)
        self.decided: list[Decision] = []
        self.deciders: list[object] = []
        """Of the rules that allowed them."""
        self.patches = pytest.MonkeyPatch()
        self.addCleanup(self.patches.undo)
        # Beside the rules, what an option itself permits: --reverse and --publish.
        for decider in (PolicyHolder, reverse._ByOption, publish._Publication):
            self.record(decider)
        self.patches.setenv("XAUTHORITY", str(directory / "cookies"))
        self.patches.setenv("DISPLAY", f"127.0.0.1:{self.display}")
        reactor.suggestThreadPoolSize(20)
        self.addCleanup(reactor.suggestThreadPoolSize, 10)
        self.far_port_is_open = False

    def record(self, decider: Any) -> None:
        """Keep what ``decider`` decides."""
        real = decider.authorize

        def authorize(itself: object, *arguments: Any) -> Decision:
            decision: Decision = real(itself, *arguments)
            self.decided.append(decision)
            self.deciders.append(itself)
            return decision

        self.patches.setattr(decider, "authorize", authorize)

    def rules(self, peer: str = "") -> list[str]:
        """What each of the ways needs; for ``peer`` only, if it is given."""
        targets = self.targets
        allowed = (
            f"tcp:127.0.0.1:{targets.port}",
            f"tcp:localhost:{targets.port}@127.0.0.0/8",
            f"udp:127.0.0.1:{targets.udp_port}",
            f"unix:{targets.path}",
            f"x11:127.0.0.1:{self.display}",
            "listen:127.0.0.1:*",
            "service:@dns",
        )
        return [f"{peer}={rule}" if peer else rule for rule in allowed]

    # -- the two ends -----------------------------------------------------

    async def start(self) -> None:
        """A gate, and a portal with every front end, and a tunnel between them."""
        targets = self.targets
        forwards = self.forwards()
        displays = [free_display()]
        displays.append(free_display(displays[0]))
        ports = {name: free_port() for name in (*forwards, "reverse", "published")}
        ports |= {
            name: X11_BASE_PORT + number
            for name, number in zip(("x11", "x11-default"), displays, strict=True)
        }
        self.ports = ports
        self.gate, place = self.make_gate(
            "--identity", str(self.keys.path / "gate.pem"), "--peer", "portal",
            "--crl", str(self.keys.revocation_file), "--allow", RULE_FOR_NOTHING,
            "--dns-server", f"127.0.0.1:{targets.dns_port}",
        )  # fmt: skip
        near = (
            "--identity", str(self.keys.path / "portal.pem"), "--peer", "gate",
            "--socks", "0", "--http-proxy", "0", "--dns", "0",
            f"--x11={displays[0]}=127.0.0.1:{self.display}", f"--x11={displays[1]}",
            *(f"--forward={ports[name]}={to}" for name, to in forwards.items()),
        )  # fmt: skip
        far_port = f"--reverse={ports['reverse']}=tcp:127.0.0.1:{targets.port}"
        self.portal = self.make_portal(place, *near)
        self.with_far_port = self.portal_config(place, *near, far_port)
        self.without_far_port = self.portal_config(place, *near)
        for name in ("socks", "http-proxy", "dns"):
            ports[name] = self.port_of(self.portal, name)
        await self.portal.tunnel.when_up()
        self.attempts = Ways(targets, ports)

    def forwards(self) -> dict[str, str]:
        targets = self.targets
        return {
            "forward-tcp": f"tcp:127.0.0.1:{targets.port}",
            "forward-unix": f"unix:{targets.path}",
            "forward-udp": f"udp:127.0.0.1:{targets.udp_port}",
        }

    def parsed(self, role: str, *words: str) -> Any:
        """The configuration of ``role``."""
        return parsed(role, *words)

    def make_gate(self, *words: str) -> tuple[Any, int]:
        """A gate that runs, and its port."""
        config = self.parsed("usher-gate", "--listen", "127.0.0.1:0", *words)
        assert isinstance(config, UsherGateConfig)
        gate = self.run_service(UsherGateService(reactor, "usher-gate", config))
        return gate, self.port_of(gate, "listening on")

    def portal_config(self, place: int, *words: str) -> Any:
        return self.parsed("usher-portal", "--gate", f"127.0.0.1:{place}", *words)

    def make_portal(self, place: int, *words: str) -> Any:
        """A portal that runs."""
        config = self.portal_config(place, *words)
        assert isinstance(config, UsherPortalConfig)
        return self.run_service(UsherPortalService(reactor, "usher-portal", config))

    def run_service(self, service: Any) -> Any:
        service.grace = 0.1
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def port_of(self, service: Any, what: str) -> int:
        found = [text for text in descriptions(service) if text.startswith(what)]
        return int(re.findall(r":(\d+)", found[0])[-1])

    async def allow(self, *rules: str) -> None:
        """Let these be the gate's rules from now on."""
        self.gate.policy.replace(map(parse_rule, rules))

    async def logged(self, cause: Callable[[], object], *formats: str) -> str:
        """Do something, and wait until one of these is logged: which."""
        came: Deferred[str] = Deferred()

        def observe(event: dict[str, Any]) -> None:
            text = str(event.get("log_format"))
            found = [wanted for wanted in formats if wanted in text]
            if found and not came.called:
                came.callback(found[0])

        observer: Any = observe
        globalLogPublisher.addObserver(observer)
        try:
            cause()
            return await came
        finally:
            globalLogPublisher.removeObserver(observer)

    async def ask_for_the_far_port(self) -> None:
        """Have the portal ask for the port of ``--reverse`` now, and wait for the answer."""
        self.portal.reload(self.without_far_port)
        said = await self.logged(
            lambda: self.portal.reload(self.with_far_port), "listens on", "no port"
        )
        self.far_port_is_open = said == "listens on"

    def forget(self) -> None:
        """What has been decided."""
        self.decided.clear()
        self.deciders.clear()

    # -- cells ------------------------------------------------------------

    async def attempt(self, way: str) -> bool:
        def run() -> bool:
            try:
                return WAYS[way](self.attempts)
            except OSError:
                return False

        reached: bool = await deferToThread(run)
        return reached

    def dialled(self, since: int) -> list[tuple[str, object]]:
        """What was dialled or bound for the other end since then."""
        ports = (0, self.ports["reverse"], self.ports["published"])
        places = [("127.0.0.1", port) for port in ports]
        return [
            (event, address)
            for event, address in dials[since:]
            if self.targets.is_target(address) or (event == "socket.bind" and address in places)
        ]

    async def check(self, way: str, expected: bool) -> None:
        """One cell of the matrix."""
        since = len(dials)
        self.forget()
        if way == "reverse" and not self.far_port_is_open:
            await self.ask_for_the_far_port()
            assert self.far_port_is_open is expected
        reached = await self.attempt(way)
        assert reached is expected, f"{way}: reached is {reached}"
        if expected:
            assert self.decided, f"{way}: nobody was asked"
            assert self.dialled(since), f"{way}: the dial was not seen"
            for decision in self.decided:
                assert decision.peer == self.asker(decision), f"{way}: {decision}"
            for event, address in self.dialled(since):
                assert self.is_decided(way, event, address), f"{way}: {event} {address}"
        else:
            assert self.decided == [], f"{way}: {self.decided}"
            own = [("socket.bind", ("127.0.0.1", 0))] if way == "socks5_udp" else []
            found = [dial for dial in self.dialled(since) if dial not in own]
            assert found == [], f"{way}: {found}"
            self.far_port_is_open = False

    def asker(self, decision: Decision) -> str:
        """Whom the end that dials knows as the one that asked for it."""
        return "gate" if decision.rule == "--reverse" else "portal"

    def is_decided(self, way: str, event: str, address: object) -> bool:
        """Whether a Decision allows it, or the gate's own configuration (its DNS server)."""
        place = address[:2] if isinstance(address, tuple) else (address, 0)
        if place[1] == self.targets.dns_port:
            return any(decision.protocol == "service" for decision in self.decided)
        if event == "socket.bind" and way == "socks5_udp":
            # The association's own socket at the portal is no business of the gate's rules.
            return True
        binds = event == "socket.bind"
        return any(
            (decision.action == "bind", decision.address, decision.port) == (binds, *place)
            for decision in self.decided
        )

    # -- nothing at all ---------------------------------------------------

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it."""
        while not condition():
            await deferLater(reactor, 0.02, lambda: None)

    async def nothing_is_dialled(self) -> None:
        """Whichever way is tried, now that there is no tunnel."""
        self.patches.setattr(tunnel, "OPEN_PATIENCE", 0.5)
        self.forget()
        since = len(dials)
        tries: list[Deferred[object]] = [
            Deferred.fromCoroutine(self.attempt(way)) for way in self.ways
        ]
        reached = await gatherResults(tries)
        assert not any(reached), [way for way, got in zip(self.ways, reached, strict=True) if got]
        assert self.decided == []
        assert [dial for dial in dials[since:] if self.targets.is_target(dial[1])] == []
