"""What a policy says, and the rule that says it; hosts' names (S5, S10)."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tunnelkit.core.secureproxy.names import HostTable, normal_host
from tunnelkit.core.secureproxy.policy import ClientRules, Policy
from tunnelkit.wire.secureproxy import Resource

POLICY = Policy(
    {
        "office": ClientRules(("tunnel", "pass:site.example", "pass:*.wild.example"), ("servers",)),
        "app": ClientRules(("web:app.example", "*")),
        "laptop": ClientRules(
            connect=("office/tunnel", "group:servers/desk*"), lookup=("off*", "group:spare")
        ),
        "branch-*": ClientRules(connect=("*/tunnel",), admin=True),
        "*": ClientRules(lookup=("nobody",)),
    },
    {"web:app.example": (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))},
)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("office", "clients.office"),
        ("branch-7", "clients.branch-*"),
        ("else", "clients.*"),
    ],
)
def test_the_very_name_goes_before_a_pattern_and_the_first_pattern_counts(
    name: str, title: str
) -> None:
    assert POLICY.section(name)[0] == title
    assert POLICY.may_register(name).rule == title


def test_nothing_is_allowed_by_nothing() -> None:
    policy = Policy()
    for verdict in (
        policy.may_register("a"),
        policy.may_administrate("a"),
        policy.may_publish("a", "tunnel"),
        policy.may_connect("a", "b", "tunnel", ["servers"]),
        policy.may_look_up("a", "b"),
    ):
        assert not verdict
        assert verdict.rule == "no section clients.a"
    assert policy.kind_of("site.example") is None


@pytest.mark.parametrize(
    ("name", "resource", "allowed"),
    [
        ("office", "tunnel", True),
        ("office", "tunnels", False),
        ("office", "pass:site.example", True),
        ("office", "web:site.example", False),
        ("office", "pass:a.wild.example", True),
        ("office", "pass:*.wild.example", True),
        ("office", "pass:a.b.wild.example", False),
        ("office", "pass:wild.example", False),
        ("office", "pass:*.example", False),
        ("app", "anything", True),
        ("app", "web:app.example", True),
        ("app", "pass:other.example", False),
    ],
)
def test_publishing(name: str, resource: str, allowed: bool) -> None:
    verdict = POLICY.may_publish(name, resource)
    assert bool(verdict) is allowed
    assert f"clients.{name} publish" in verdict.rule


@pytest.mark.parametrize(
    ("target", "resource", "groups", "rule"),
    [
        ("office", "tunnel", (), 'clients.laptop connect "office/tunnel"'),
        ("office", "desk", (), None),
        ("office", "desk-1", ("servers",), 'clients.laptop connect "group:servers/desk*"'),
        ("office", "desk-1", ("spare",), None),
        ("group:servers", "desk", (), 'clients.laptop connect "group:servers/desk*"'),
        ("group:servers", "tunnel", (), None),
        ("group:spare", "desk", (), None),
    ],
)
def test_connecting(target: str, resource: str, groups: tuple[str, ...], rule: str | None) -> None:
    verdict = POLICY.may_connect("laptop", target, resource, groups)
    assert bool(verdict) is (rule is not None)
    if rule is None:
        assert verdict.rule == f"clients.laptop connect: no rule for {target}/{resource}"
    else:
        assert verdict.rule == rule


def test_a_rule_for_names_is_not_one_for_groups() -> None:
    assert POLICY.may_connect("branch-1", "office", "tunnel")
    assert not POLICY.may_connect("branch-1", "group:servers", "tunnel")


def test_looking_up() -> None:
    for target, groups in (
        ("office", ()),
        ("offshore", ()),
        ("other", ("spare",)),
        ("other", ("servers",)),
        ("group:spare", ()),
        ("group:servers", ()),
    ):
        assert POLICY.may_look_up("laptop", target, groups), target
    for target in ("other", "group:others"):
        assert not POLICY.may_look_up("laptop", target)


def test_groups() -> None:
    assert POLICY.groups_of("office", Resource("tunnel"))[0] == {"servers"}
    assert POLICY.groups_of("office", Resource("tunnel", groups=()))[0] == frozenset()
    assert POLICY.groups_of("office", Resource("tunnel", groups=("servers",)))[1]
    assert not POLICY.groups_of("office", Resource("tunnel", groups=("servers", "x")))[1]
    assert POLICY.groups_of("stranger", Resource("tunnel"))[0] == frozenset()


def test_administrators() -> None:
    assert POLICY.may_administrate("branch-1").rule == "clients.branch-* admin = true"
    assert not POLICY.may_administrate("office")


def test_what_becomes_of_a_browser() -> None:
    assert POLICY.kind_of("site.example") == "pass"
    assert POLICY.kind_of("a.wild.example") == "pass"
    assert POLICY.kind_of("app.example") == "web"
    for host in ("wild.example", "a.b.wild.example", "other.example", "example"):
        assert POLICY.kind_of(host) is None


def test_where_browsers_may_come_from() -> None:
    assert POLICY.may_enter("pass:site.example", "203.0.113.1")
    for address in ("192.0.2.9", "::ffff:192.0.2.9", "2001:db8::1"):
        assert POLICY.may_enter("web:app.example", address), address
    for address in ("203.0.113.1", "2001:db9::1", "::ffff:203.0.113.1"):
        assert not POLICY.may_enter("web:app.example", address), address


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Site.Example", "site.example"),
        ("site.example.", "site.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("*.example", "*.example"),
        ("192.0.2.1", None),
        ("[2001:db8::1]", None),
        ("2001:db8::1", None),
        ("site..example", None),
        ("site.example..", None),
        ("", None),
        (".", None),
        ("a b", None),
        ("ü" * 70, None),
    ],
)
def test_hosts_are_compared_as_lower_case_a_labels(text: str, host: str | None) -> None:
    assert normal_host(text) == host


def test_a_table_of_hosts() -> None:
    table: HostTable[int] = HostTable()
    table.put("*.a.example", 1)
    table.put("b.a.example", 2)
    assert [table.find(host) for host in ("b.a.example", "c.a.example", "a.example")] == [
        2,
        1,
        None,
    ]
    assert (table.get("c.a.example"), table.find("*.a.example")) == (None, 1)
    table.remove("b.a.example")
    assert table.find("b.a.example") == 1
    assert list(table) == ["*.a.example"]
