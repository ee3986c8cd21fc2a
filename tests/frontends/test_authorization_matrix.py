"""No dial without a Decision, whatever kind of channel asks for it (rule X1).

Two real ends in one process, TLS between them, every front end at the portal: Usher's gate and
portal, and LSTP's server end (here the gate too, and its own middle) and client end.
Each way to a target is tried under each state of the gate's rules; what this process dials is
seen by an audit hook, beside what was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet import reactor as global_reactor

from tests.acceptance.processes import free_port
from tests.frontends.matrix import OVER_LSTP, dials
from tests.frontends.matrix_case import MatrixCase
from tunnelkit.core.decision import Decision
from tunnelkit.egress.publish import parse_publish
from tunnelkit.policy.acl import parse_rule
from tunnelkit.roles.lstp_end import LstpEndConfig
from tunnelkit.roles.registry import roles

reactor: Any = global_reactor


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
        await self.until(
            lambda: not (self.portal.tunnel.status().up or self.gate.tunnel.status().up)
        )
        await self.nothing_is_dialled()


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
        await self.until(lambda: self.knows == self.publishes)

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
            self.forget()
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
            self.forget()
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
