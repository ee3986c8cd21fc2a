"""No dial without a Decision, whatever kind of channel asks for it (rule X1).

Two real ends in one process, TLS between them, every front end at the portal: Usher's gate and
portal, and LSTP's server end (here the gate too, and its own middle) and client end.
Each way to a target is tried under each state of the gate's rules; what this process dials is
seen by an audit hook, beside what was decided.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.acceptance.processes import free_port
from tests.frontends.matrix import OVER_LSTP, OVER_USHER, WAYS, Targets, Ways, dials
from tests.frontends.test_x11 import free_display
from tests.services.roles import parsed
from tunnelkit.core.decision import Decision
from tunnelkit.egress import publish
from tunnelkit.egress.publish import parse_publish
from tunnelkit.frontends.forward import reverse
from tunnelkit.policy.acl import PolicyHolder, parse_rule
from tunnelkit.policy.destination import X11_BASE_PORT
from tunnelkit.policy.key_directory import KeyDirectory
from tunnelkit.roles.lstp_end import LstpEndConfig
from tunnelkit.roles.ports import descriptions
from tunnelkit.roles.registry import roles
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
        return int(found[0].split()[-1].rpartition(":")[2])

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
        self.decided.clear()
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


class AuthorizationMatrixTests(MatrixCase):
    """Over Usher, in every state."""

    async def test_allowed_channels_reach_their_target_by_a_decision(self) -> None:
        await self.start()
        await self.allow(*self.rules())
        for way in self.ways:
            await self.check(way, True)

    async def test_without_a_rule_nothing_is_dialled(self) -> None:
        await self.start()
        await self.allow()
        for way in self.ways:
            await self.check(way, False)

    async def test_rules_for_another_peer_dial_nothing(self) -> None:
        await self.start()
        await self.allow(*self.rules("other"))
        for way in self.ways:
            await self.check(way, False)

    async def test_rules_withdrawn_after_the_setup_dial_nothing(self) -> None:
        await self.start()
        for way in self.ways:
            await self.allow(*self.rules())
            await self.check(way, True)
            await self.allow()
            await self.check(way, False)

    async def test_a_revoked_identity_dials_nothing(self) -> None:
        await self.start()
        await self.allow(*self.rules())
        await self.ask_for_the_far_port()
        for way in self.ways:
            assert await self.attempt(way), way
        self.keys.revoke("portal")
        while self.portal.tunnel.status().up or self.gate.tunnel.status().up:
            await deferLater(reactor, 0.05, lambda: None)
        self.decided.clear()
        since = len(dials)
        tries: list[Deferred[object]] = [
            Deferred.fromCoroutine(self.attempt(way)) for way in self.ways
        ]
        assert not any(await gatherResults(tries))
        assert self.decided == []
        assert [dial for dial in dials[since:] if self.targets.is_target(dial[1])] == []


class LstpAuthorizationMatrixTests(AuthorizationMatrixTests):
    """Over LSTP, with a service that the gate publishes whenever its rules are for the portal."""

    ways = OVER_LSTP
    publishes = knows = False

    def forwards(self) -> dict[str, str]:
        return super().forwards() | {"forward-service": "service:web"}

    def make_gate(self, *words: str) -> tuple[Any, int]:
        place = free_port()
        self.gate_config = self.parsed(
            "lstp-server-end", "--listen", f"127.0.0.1:{place}", "--tunnel", "t", *words
        )
        assert isinstance(self.gate_config, LstpEndConfig)
        return self.run_service(
            roles()["lstp-server-end"].make_service(reactor, self.gate_config)
        ), place

    def portal_config(self, place: int, *words: str) -> Any:
        middle = ("--middle", f"127.0.0.1:{place}", "--tunnel", "t")
        return self.parsed("lstp-client-end", *middle, *words)

    def make_portal(self, place: int, *words: str) -> Any:
        config = self.portal_config(place, *words)
        portal: Any = roles()["lstp-client-end"].make_service(reactor, config)
        real = portal.protocol.on_services

        def on_services(session: object, services: Sequence[object]) -> None:
            self.knows = bool(services)
            real(session, services)

        portal.protocol.on_services = on_services
        return self.run_service(portal)

    async def told(self) -> None:
        """The portal, which asks for nothing else, knows what is published."""
        while self.knows != self.publishes:
            await deferLater(reactor, 0.005, lambda: None)

    async def allow(self, *rules: str) -> None:
        await self.told()
        self.publishes = rules == tuple(self.rules())
        self.set_gate(rules, [f"web=127.0.0.1:{self.targets.port}"] if self.publishes else [])
        if self.publishes:
            await self.told()

    def set_gate(self, rules: Sequence[str], published: Sequence[str]) -> None:
        config = attrs.evolve(
            self.gate_config,
            rules=tuple(map(parse_rule, rules)),
            publish=tuple(map(parse_publish, published)),
        )
        self.gate.reload(config)

    def allow_at_the_portal(self, *rules: str) -> None:
        config = attrs.evolve(self.without_far_port, rules=tuple(map(parse_rule, rules)))
        self.portal.reload(config)

    async def test_a_port_for_a_published_service_is_bound_by_the_portals_decision(self) -> None:
        await self.start()
        port = self.ports["published"]
        bind, rule = ("socket.bind", ("127.0.0.1", port)), f"listen:127.0.0.1:{port}"
        web = f"web=127.0.0.1:{self.targets.port},listen={port}"

        async def is_closed() -> None:
            self.decided.clear()
            since = len(dials)
            assert not await self.attempt("published_port")
            assert self.decided == []
            assert self.dialled(since) == []

        since = len(dials)
        bound, refused = "Listening on {what}", "No port {number}"
        assert await self.logged(lambda: self.set_gate([], [web]), bound, refused) == refused
        self.allow_at_the_portal(f"other={rule}")
        assert self.dialled(since) == []
        await is_closed()
        for _ in range(2):
            since = len(dials)
            self.decided.clear()
            self.allow_at_the_portal(rule)
            assert self.dialled(since) == [bind]
            assert self.decided == [Decision("gate", "bind", "tcp", "127.0.0.1", port, rule)]
            assert await self.attempt("published_port")
            assert [decision.peer for decision in self.decided] == ["gate", "portal"]
            assert self.is_decided("published_port", *self.dialled(since)[-1])
            self.allow_at_the_portal()
            await is_closed()
        self.allow_at_the_portal(rule)
        self.set_gate([], [])
        await is_closed()
