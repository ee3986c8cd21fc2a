"""No dial without a Decision on longer ways: a further gate, members of groups (rule X1, U18, S7).

As in `test_authorization_matrix`, with more than two ends in the process: a gate that asks the
next one, and clients of a Communication Server of which some are in a group.
"""

from __future__ import annotations

import shutil
from typing import Any

from twisted.internet import reactor as global_reactor

from tests.acceptance.processes import free_port
from tests.frontends import test_authorization_matrix as two_ends
from tests.frontends.matrix import OVER_USHER
from tests.frontends.matrix_case import RULE_FOR_NOTHING, MatrixCase
from tunnelkit.core.decision import Decision
from tunnelkit.policy.acl import parse_rule
from tunnelkit.policy.onward import ONWARD, OnwardRules, parse_onward
from tunnelkit.roles.registry import roles
from tunnelkit.roles.usher_gate import UsherGateService

reactor: Any = global_reactor

GO_ON = (
    *("socks4", "socks4a", "socks5", "socks5_name", "http_connect", "http_get"),
    *("forward", "forward_to_a_unix_socket"),
)
"""The ways whose destinations a gate asks the next one for."""
SERVER = "relay.example"
POLICY = """
[clients.gate]
publish = ["tunnel"]
groups = ["all"]

[clients.second]
publish = ["tunnel"]
groups = ["all"]

[clients.portal]
connect = ["group:all/tunnel"]
"""


class OnwardAuthorizationMatrixTests(MatrixCase):
    """portal == gate == next gate: the next one's rules decide, about the gate; and the gate's
    patterns, about the portal."""

    ways = GO_ON

    def setUp(self) -> None:
        super().setUp()
        self.keys.issue("next")
        self.passed_on: list[Decision] = []
        real = OnwardRules.decide

        def decide(itself: OnwardRules, *arguments: Any) -> Decision | None:
            decision = real(itself, *arguments)
            if decision is not None:
                self.passed_on.append(decision)
            return decision

        self.patches.setattr(OnwardRules, "decide", decide)

    def make_gate(self, *words: str) -> tuple[Any, int]:
        """``gate`` is the one whose rules are looked at: the next one."""
        furthest, there = super().make_gate(
            "--identity", str(self.keys.path / "next.pem"), "--peer", "gate",
            "--crl", str(self.keys.revocation_file), "--allow", RULE_FOR_NOTHING,
        )  # fmt: skip
        onward = (
            *("--onward", f"127.0.0.1:{there}", "--onward-peer", "next"),
            *(f"--onward-for={pattern}" for pattern in self.patterns()),
        )
        self.between: UsherGateService
        self.between, here = super().make_gate(*words, *onward)
        return furthest, here

    def portal_config(self, place: int, *words: str) -> Any:
        """It has no revocation list beside its identity, so that only gates can cut."""
        own, apart = self.keys.path / "portal.pem", self.keys.path.parent / "apart"
        apart.mkdir(mode=0o700, exist_ok=True)
        copy = str(shutil.copy(own, apart))
        words = tuple(copy if word == str(own) else word for word in words)
        return super().portal_config(place, *words)

    def patterns(self, portal: str = "portal") -> list[str]:
        """What the portal may have the next gate asked for."""
        port = self.targets.port
        wanted = (f"tcp:127.0.0.1:{port}", f"tcp:localhost:{port}", f"unix:{self.targets.path}")
        return [f"{portal}={pattern}" for pattern in wanted]

    async def start(self) -> None:
        await super().start()
        await self.until(lambda: self.gate.tunnel.status().up)

    def asker(self, decision: Decision) -> str:
        return "gate"

    def use_patterns(self, *patterns: str) -> None:
        assert self.between._onward is not None
        self.between._onward.use_rules(tuple(map(parse_onward, patterns)))

    async def check(self, way: str, expected: bool) -> None:
        self.passed_on.clear()
        await super().check(way, expected)
        for decision in self.passed_on:
            assert (decision.peer, decision.action) == ("portal", ONWARD), f"{way}: {decision}"

    async def test_what_both_allow_reaches_its_target_by_both_decisions(self) -> None:
        await self.start()
        await self.allow(*self.rules())
        for way in self.ways:
            await self.check(way, True)
            assert self.passed_on, f"{way}: the gate was not asked"

    async def test_what_the_next_gate_does_not_allow_is_not_dialled(self) -> None:
        await self.start()
        # Not even if it has rules for whoever stands behind the gate.
        for rules in ([], self.rules("portal"), self.rules("other")):
            await self.allow(*rules)
            for way in self.ways:
                await self.check(way, False)

    async def test_what_no_pattern_of_the_gate_names_does_not_go_on(self) -> None:
        await self.start()
        await self.allow(*self.rules())
        for patterns in ([], self.patterns("other"), ["tcp:192.0.2.1:1"]):
            self.use_patterns(*patterns)
            for way in self.ways:
                await self.check(way, False)
                assert self.passed_on == []

    async def test_patterns_and_rules_withdrawn_after_the_setup_dial_nothing(self) -> None:
        await self.start()
        for way in self.ways:
            self.use_patterns(*self.patterns())
            await self.allow(*self.rules())
            await self.check(way, True)
            await self.allow()
            await self.check(way, False)
            await self.allow(*self.rules())
            self.use_patterns()
            await self.check(way, False)

    async def test_what_cannot_go_on_is_the_gates_own_rules_to_decide(self) -> None:
        """The next gate's, which allow it, are not asked."""
        await self.start()
        await self.allow(*self.rules())
        for way in (way for way in OVER_USHER if way not in GO_ON):
            await self.check(way, False)
            assert self.passed_on == []

    async def test_a_revoked_portal_dials_nothing(self) -> None:
        await self.revoked("portal", "between")

    async def test_a_revoked_gate_dials_nothing(self) -> None:
        await self.revoked("gate", "gate")

    async def revoked(self, name: str, at: str) -> None:
        """Everything is allowed and tried, and then the list has ``name``, which is cut."""
        await self.start()
        await self.allow(*self.rules())
        for way in self.ways:
            await self.check(way, True)
        self.keys.revoke(name)
        cuts: Any = getattr(self, at)
        await self.until(lambda: not cuts.tunnel.status().up)
        await self.nothing_is_dialled()


class GroupMemberAuthorizationMatrixTests(two_ends.AuthorizationMatrixTests):
    """Over a Communication Server, from which the portal gets whichever member of a group is there:
    the member's own rules decide."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("second", SERVER):
            self.keys.issue(name)

    def identity(self, name: str) -> tuple[str, ...]:
        return ("--identity", str(self.keys.path / f"{name}.pem"))

    def client_config(self, *words: str) -> Any:
        place = ("--server", f"127.0.0.1:{self.server_port}", "--server-name", SERVER)
        return self.parsed("secure-proxy-client", *place, *words)

    def run_client(self, config: Any) -> Any:
        return self.run_service(roles()["secure-proxy-client"].make_service(reactor, config))

    def make_gate(self, *words: str) -> tuple[Any, int]:
        policy = self.keys.path / "policy.toml"
        policy.write_text(POLICY)
        self.server_port = free_port()
        config = self.parsed(
            "secure-proxy-server", "--listen", f"127.0.0.1:{self.server_port}",
            *self.identity(SERVER), "--policy", str(policy),
            "--crl", str(self.keys.revocation_file),
        )  # fmt: skip
        self.run_service(roles()["secure-proxy-server"].make_service(reactor, config))
        return self.run_client(self.client_config(*words)), self.server_port

    def portal_config(self, place: int, *words: str) -> Any:
        return self.client_config("--target", "group:all", *words)

    def make_portal(self, place: int, *words: str) -> Any:
        return self.run_client(self.portal_config(place, *words))

    async def test_each_member_decides_about_datagrams_for_all(self) -> None:
        await self.start()
        second = self.run_client(
            self.client_config(
                *self.identity("second"), "--peer", "portal", "--allow", RULE_FOR_NOTHING
            )
        )
        port = free_port()
        self.run_client(
            self.client_config(
                *self.identity("portal"), "--peer", "gate", "--peer", "second",
                f"--forward={port}=udp:127.0.0.1:{self.targets.udp_port}@group:all",
            )
        )  # fmt: skip
        self.attempts.ports["forward-udp"] = port
        members = (self.gate.policy, second.policy)
        allowed = tuple(map(parse_rule, self.rules()))
        for member in members:
            member.replace(allowed)
        while set(self.deciders) != set(members):
            # Each try is a client of its own, for whom every member that is there by now is asked.
            self.forget()
            await self.attempt("forward_udp")
        for member, other in (members, members[::-1]):
            for rules in ((), tuple(map(parse_rule, self.rules("other")))):
                member.replace(rules)
                await self.check("forward_udp", True)
                assert set(self.deciders) == {other}
                other.replace(())
                await self.check("forward_udp", False)
                other.replace(allowed)
            member.replace(allowed)
