"""What rules allow, and what nothing allows by accident (rows P2 to P5; X1, X2)."""

from __future__ import annotations

import attrs
import pytest

from tunnelkit.core.decision import Decision
from tunnelkit.errors import ConfigError, NotAuthorized
from tunnelkit.policy import acl
from tunnelkit.policy.acl import (
    OwnListeners,
    Policy,
    PolicyHolder,
    Prospect,
    parse_network,
    parse_rule,
)
from tunnelkit.policy.destination import parse_destination


def policy(*rules: str) -> Policy:
    return Policy(map(parse_rule, rules))


def allowed(
    rules: str | tuple[str, ...],
    address: str,
    port: int,
    host: str | None = None,
    *,
    protocol: str = "tcp",
    action: str = "connect",
    peer: str = "gate",
) -> bool:
    texts = (rules,) if isinstance(rules, str) else rules
    try:
        policy(*texts).authorize(peer, action, protocol, address, port, host)
    except NotAuthorized:
        return False
    return True


def test_a_decision_says_everything_that_was_decided() -> None:
    decision = policy("tcp:10.0.0.0/8:22").authorize("gate", "connect", "tcp", "10.1.2.3", 22)
    assert decision == Decision("gate", "connect", "tcp", "10.1.2.3", 22, "tcp:10.0.0.0/8:22")


def test_without_rules_nothing_is_allowed() -> None:
    with pytest.raises(NotAuthorized, match=r"no rule allows gate to connect tcp \[192.0.2.1\]:80"):
        Policy().authorize("gate", "connect", "tcp", "192.0.2.1", 80)


@pytest.mark.parametrize(
    ("rule", "address", "port", "host", "expected"),
    [
        ("tcp:127.0.0.1:9000", "127.0.0.1", 9000, None, True),
        ("tcp:127.0.0.1:9000", "127.0.0.1", 9001, None, False),
        ("tcp:127.0.0.1:9000", "127.0.0.2", 9000, None, False),
        ("tcp:127.0.0.1:9000", "127.0.0.1", 9000, "localhost", True),
        ("tcp:127.0.0.0/8:9000", "127.1.2.3", 9000, None, True),
        ("tcp:*.corp.example:80,443", "10.0.0.1", 443, "a.b.corp.example", True),
        ("tcp:*.corp.example:80,443", "10.0.0.1", 443, "A.CORP.example.", True),
        ("tcp:*.corp.example:80,443", "10.0.0.1", 81, "a.corp.example", False),
        ("tcp:*.corp.example:80,443", "10.0.0.1", 80, "corp.example", False),
        ("tcp:*.corp.example:80,443", "10.0.0.1", 80, "acorp.example", False),
        ("tcp:*.corp.example:80,443", "10.0.0.1", 80, "a.corp.example.evil", False),
        ("tcp:*.corp.example:80,443", "10.0.0.1", 80, "a.corpxexample", False),
        ("tcp:*.corp.example:80,443", "10.0.0.1", 80, None, False),
        ("tcp:*.corp.example:80", "127.0.0.1", 80, "a.corp.example", False),
        ("tcp:*.corp.example:80@127.0.0.0/8", "127.0.0.1", 80, "a.corp.example", True),
        ("tcp:*.corp.example@127.0.0.0/8:80", "127.0.0.1", 80, "a.corp.example", True),
        ("tcp:*.corp.example@[::1]:80", "::1", 80, "a.corp.example", True),
        ("tcp:*.corp.example:80@127.0.0.1,::1", "::1", 80, "a.corp.example", True),
        ("tcp:*.corp.example:80@127.0.0.1,::1", "127.0.0.2", 80, "a.corp.example", False),
        ("tcp:*.corp.example:80@127.0.0.0/8", "10.0.0.1", 80, "a.corp.example", True),
        ("tcp:*.corp.example:80@127.0.0.0/8", "127.0.0.1", 80, "other.example", False),
        ("tcp:*.corp.example:80@0.0.0.0/0", "127.0.0.1", 80, "a.corp.example", False),
        ("tcp:web:80", "192.168.1.1", 80, "web", True),
        ("tcp:web.:80", "192.168.1.1", 80, "WEB.", True),
        ("tcp:*.bücher.example:80", "192.0.2.1", 80, "a.xn--bcher-kva.example", True),
        ("tcp:*:443", "192.0.2.1", 443, None, True),
        ("tcp:*:443", "fd00::1", 443, None, True),
        ("tcp:*:443", "10.0.0.1", 443, "any.example", True),
        ("tcp:*:443", "127.0.0.1", 443, "any.example", False),
        ("tcp:host:1000-2000", "192.0.2.1", 1000, "host", True),
        ("tcp:host:1000-2000", "192.0.2.1", 2000, "host", True),
        ("tcp:host:1000-2000", "192.0.2.1", 2001, "host", False),
        ("tcp:host:*", "192.0.2.1", 65535, "host", True),
        ("tcp:[::1]:22", "::1", 22, None, True),
        ("tcp:[2001:db8::/32]:22", "2001:db8:1::2", 22, None, True),
        ("tcp:10.0.0.0/8:53", "10.9.9.9", 53, "inside.example", True),
        ("udp:10.0.0.0/8:53", "10.9.9.9", 53, None, False),
        ("tcp:0.0.0.0/0:80", "192.0.2.1", 80, None, True),
        ("tcp:0.0.0.0/0:80", "127.0.0.1", 80, None, False),
        ("tcp:[::/0]:80", "::1", 80, None, False),
        ("tcp:169.254.0.0/16:80", "169.254.1.1", 80, None, True),
        ("tcp:169.254.0.0/16:80", "169.254.169.254", 80, None, False),
        ("tcp:169.254.169.254:80", "169.254.169.254", 80, None, True),
        ("tcp:[::ffff:0:0/96]:80", "::ffff:192.0.2.1", 80, None, True),
        ("tcp:[::ffff:0:0/96]:80", "::ffff:127.0.0.1", 80, None, False),
        ("tcp:[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", 80, None, True),
        ("tcp:127.0.0.1:80", "::ffff:127.0.0.1", 80, None, False),
    ],
)
def test_a_rule_allows_what_it_says(
    rule: str, address: str, port: int, host: str | None, expected: bool
) -> None:
    assert allowed(rule, address, port, host) is expected


WIDE = (
    "tcp:*:*",
    "tcp:0.0.0.0/0:*",
    "tcp:[::/0]:*",
    "tcp:*.example:*@10.0.0.0/8",
)

SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "127.0.0.1.",
    "127.0.0.01",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "00",
    "0.0.0.1",
    "0x0",
    "169.254.169.254",
    "169.254.1.1",
    "0251.0376.0251.0376",
    "2852039166",
    "0xa9fea9fe",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "0:0:0:0:0:0:0:1",
    "::1%lo",
    "fe80::1",
    "fe80::1%lo",
    "ff02::1",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:169.254.169.254",
    "::ffff:192.0.2.1",
    "::127.0.0.1",
    "::7f00:1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "64:ff9b::192.0.2.1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:c000:201::",
    "2001:0:7f00:1::",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "127.0.0.1%25lo",
    "::ffff:127.1",
    "localhost\0.example",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_wide_rule_leads_to_a_special_address_however_it_is_spelled(spelling: str) -> None:
    """Whether it comes as a destination, or as what a resolver says about a name."""
    text = f"tcp:[{spelling}]:80" if ":" in spelling else f"tcp:{spelling}:80"
    try:
        destination = parse_destination(text)
    except ConfigError:
        pass
    else:
        assert destination.is_address
        assert not allowed(WIDE, destination.host, 80)
    assert not allowed(WIDE, spelling, 80)
    assert not allowed(WIDE, spelling, 80, "a.example")


@pytest.mark.parametrize(
    "name", ["localhost", "localhost.", "LOCALHOST", "a.localhost", "ip6-loopback"]
)
@pytest.mark.parametrize("resolved", ["127.0.0.1", "::1"])
def test_a_name_that_leads_to_loopback_is_refused_whatever_the_name(
    name: str, resolved: str
) -> None:
    destination = parse_destination(f"tcp:{name}:80")
    assert not destination.is_address
    assert not allowed((*WIDE, f"tcp:{name}:80"), resolved, 80, destination.host)
    assert allowed(f"tcp:{name}:80@127.0.0.1,::1", resolved, 80, destination.host)


def test_udp_may_be_sent_and_connected_by_a_udp_rule() -> None:
    for action in ("sendto", "connect"):
        assert allowed("udp:10.0.0.0/8:53", "10.0.0.1", 53, protocol="udp", action=action)
    assert not allowed("tcp:10.0.0.0/8:53", "10.0.0.1", 53, protocol="udp", action="sendto")


def test_a_unix_rule_allows_exactly_its_path() -> None:
    assert allowed("unix:/run/x.sock", "/run/x.sock", 0, protocol="unix")
    assert not allowed("unix:/run/x.sock", "/run/x.sock2", 0, protocol="unix")


def test_a_service_rule_allows_the_names_it_matches() -> None:
    assert allowed("service:git-*", "git-main", 0, protocol="service")
    assert not allowed("service:git", "git-main", 0, protocol="service")
    assert not allowed("service:*", "git/main", 0, protocol="tcp")


def test_an_x11_rule_leads_to_the_display_s_socket() -> None:
    decision = policy("x11::0-3").authorize("gate", "connect", "x11", "", 2)
    assert (decision.protocol, decision.address) == ("unix", "/tmp/.X11-unix/X2")
    decision = policy("x11:desk:1").authorize("gate", "connect", "x11", "10.0.0.1", 1, "desk")
    assert (decision.protocol, decision.address, decision.port) == ("tcp", "10.0.0.1", 6001)
    assert not allowed("x11::0", "", 1, protocol="x11")
    assert not allowed("x11::0", "10.0.0.1", 0, protocol="x11")
    assert not allowed("x11:desk:0", "", 0, protocol="x11")
    assert not allowed("x11:desk:0", "127.0.0.1", 0, "desk", protocol="x11")


@pytest.mark.parametrize(
    ("rule", "protocol", "address", "port", "expected"),
    [
        ("listen:127.0.0.1:8000-8010", "tcp", "127.0.0.1", 8010, True),
        ("listen:127.0.0.1:8000-8010", "udp", "127.0.0.1", 8010, True),
        ("listen:127.0.0.1:8000-8010", "tcp", "0.0.0.0", 8010, False),
        ("listen:127.0.0.1:8000-8010", "tcp", "127.0.0.1", 0, False),
        ("listen:127.0.0.1:*", "tcp", "127.0.0.1", 0, True),
        ("listen:tcp:127.0.0.1:1", "udp", "127.0.0.1", 1, False),
        ("listen:udp:127.0.0.1:1", "udp", "127.0.0.1", 1, True),
        ("listen:*:8080", "tcp", "192.168.1.1", 8080, True),
        ("listen:*:8080", "tcp", "0.0.0.0", 8080, False),
        ("listen:0.0.0.0:8080", "tcp", "0.0.0.0", 8080, True),
        ("listen:[::]:8080", "tcp", "::", 8080, True),
        ("tcp:127.0.0.1:*", "tcp", "127.0.0.1", 8080, False),
    ],
)
def test_the_far_side_listens_here_only_by_a_listen_rule(
    rule: str, protocol: str, address: str, port: int, expected: bool
) -> None:
    assert allowed(rule, address, port, protocol=protocol, action="bind") is expected
    assert not allowed(rule, address, port, protocol="unix", action="bind")


def test_a_rule_for_a_peer_is_for_no_other() -> None:
    rules = ("alice,ops-*=tcp:10.0.0.0/8:22", "spiffe://a/b=tcp:10.0.0.0/8:22")
    assert allowed(rules, "10.0.0.1", 22, peer="alice")
    assert allowed(rules, "10.0.0.1", 22, peer="ops-7")
    assert allowed(rules, "10.0.0.1", 22, peer="spiffe://a/b")
    assert not allowed(rules, "10.0.0.1", 22, peer="alice2")
    assert not allowed(rules, "10.0.0.1", 22, peer="bob")
    assert not allowed(rules, "10.0.0.1", 22, peer="")


def test_an_equals_sign_in_a_path_is_no_peer() -> None:
    assert allowed("unix:/run/a=b", "/run/a=b", 0, protocol="unix", peer="anybody")


def test_an_unknown_action_or_protocol_is_not_allowed() -> None:
    assert not allowed("tcp:*:*", "192.0.2.1", 80, action="listen")
    assert not allowed("tcp:*:*", "192.0.2.1", 80, protocol="sctp")
    assert not allowed("tcp:*:*", "192.0.2.1", 0)
    assert not allowed("tcp:*:*", "192.0.2.1", 65536)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected tcp:HOST:PORTS"),
        ("http:a:1", "expected tcp:HOST:PORTS"),
        ("tcp:a", "ports are missing"),
        ("udp:*", "ports are missing"),
        ("tcp:[::1]", "ports are missing"),
        ("tcp:a:", "not a port"),
        ("tcp:a:0", "not a port"),
        ("tcp:a:2-1", "not a port"),
        ("tcp:a:1,,2", "not a port"),
        ("tcp:a:65536", "not a port"),
        ("tcp:::1:22", "in brackets"),
        ("tcp:[::g]:22", "not a network"),
        ("tcp:10.0.0.1/8:22", "bits behind the prefix"),
        ("tcp:10.0.0.0/255.0.0.0:22", "not a network"),
        ("tcp:10.*:22", "looks like an address"),
        ("tcp:127.1:22", "looks like an address"),
        ("tcp:a b:22", "not a name"),
        ("tcp:*.a b:22", "not a name"),
        ("tcp:*.\u2028:22", "not a valid name"),
        ("tcp::22", "host is missing"),
        ("tcp:a:22@", "nothing behind '@'"),
        ("tcp:a:22@x", "not a network"),
        ("tcp:10.0.0.0/8:22@127.0.0.1", "only a rule for a host name"),
        ("x11::0@127.0.0.1", "only a rule for a host name"),
        ("listen:host:80", "not an address"),
        ("listen:80", "ports are missing"),
        ("unix:x", "not absolute"),
        ("service:a/b", "service's name"),
        ("alice,=tcp:a:1", "a peer's name is empty"),
        ("=tcp:a:1", "a peer's name is empty"),
        ("alice=", "expected tcp:HOST:PORTS"),
        ("tcp:" + "a," * 2000, "more than"),
    ],
)
def test_a_wrong_rule_gets_one_line_that_says_what_is_expected(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rule(text)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_a_refusal_says_about_names_is_one_printable_line() -> None:
    with pytest.raises(NotAuthorized) as caught:
        Policy().authorize("a\nb", "connect", "tcp", "127.0.0.1", 80, "x\r\n\x1b[31m")
    assert str(caught.value).isprintable()
    assert "loopback" in str(caught.value)


def test_own_listeners_are_not_dialled_unless_named_exactly() -> None:
    listeners = OwnListeners()
    wide = Policy([parse_rule("tcp:127.0.0.0/8:*")], listeners=listeners)
    exact = Policy([parse_rule("tcp:127.0.0.1:1080")], listeners=listeners)
    for either in (wide, exact):
        either.authorize("gate", "connect", "tcp", "127.0.0.1", 1080)
    listeners.add("tcp", "127.0.0.1", 1080)
    with pytest.raises(NotAuthorized, match="listener of this process"):
        wide.authorize("gate", "connect", "tcp", "127.0.0.1", 1080)
    exact.authorize("gate", "connect", "tcp", "127.0.0.1", 1080)
    wide.authorize("gate", "connect", "tcp", "127.0.0.2", 1080)
    listeners.discard("tcp", "127.0.0.1", 1080)
    listeners.discard("tcp", "127.0.0.1", 1080)
    wide.authorize("gate", "connect", "tcp", "127.0.0.1", 1080)


@pytest.mark.parametrize("own", ["0.0.0.0", "::"])
@pytest.mark.parametrize("target", ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::ffff:127.0.0.1"])
def test_a_listener_on_every_address_is_found_under_each_of_this_machine(
    own: str, target: str
) -> None:
    rules = ["tcp:127.0.0.0/8:*", "tcp:[::1]:*", "tcp:0.0.0.0:*", "tcp:[::ffff:127.0.0.1]:*"]
    listeners = OwnListeners()
    listeners.add("tcp", own, 1080)
    with pytest.raises(NotAuthorized, match="listener of this process"):
        Policy(map(parse_rule, rules), listeners=listeners).authorize(
            "gate", "connect", "tcp", target, 1080
        )


def test_a_listener_on_every_address_does_not_forbid_other_machines() -> None:
    listeners = OwnListeners()
    listeners.add("tcp", "0.0.0.0", 443)
    Policy([parse_rule("tcp:*:443")], listeners=listeners).authorize(
        "gate", "connect", "tcp", "192.0.2.1", 443
    )


def test_own_configuration_needs_no_rule() -> None:
    decision = Policy().own("127.0.0.1", 1080, "tcp")
    assert (decision.peer, decision.action, decision.port) == ("", "bind", 1080)


def test_a_withdrawn_rule_counts_at_once_and_own_listeners_stay_known() -> None:
    holder = PolicyHolder(policy("tcp:192.0.2.1:80"))
    holder.listeners.add("tcp", "192.0.2.1", 81)
    holder.authorize("gate", "connect", "tcp", "192.0.2.1", 80)
    holder.replace([parse_rule("tcp:192.0.2.1:*")], [parse_network("10.0.0.0/8")])
    assert holder.admits("10.1.1.1")
    with pytest.raises(NotAuthorized):
        holder.authorize("gate", "connect", "tcp", "192.0.2.1", 81)
    holder.replace([])
    with pytest.raises(NotAuthorized):
        holder.authorize("gate", "connect", "tcp", "192.0.2.1", 80)
    assert holder.own("127.0.0.1", 0, "udp").protocol == "udp"


def test_answers_stay_right_when_more_is_asked_than_is_remembered() -> None:
    some = policy("tcp:10.0.0.0/8:80")
    for number in range(5000):
        some.authorize("gate", "connect", "tcp", f"10.0.{number >> 8}.{number & 255}", 80)
    with pytest.raises(NotAuthorized):
        some.authorize("gate", "connect", "tcp", "11.0.0.1", 80)
    some.authorize("gate", "connect", "tcp", "10.0.0.1", 80)


@pytest.mark.parametrize(
    ("networks", "source", "admitted"),
    [
        ([], "192.0.2.1", True),
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8", "[::1]"], "::1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["10.0.0.0/8"], "", False),
    ],
)
def test_local_listeners_admit_the_networks_given(
    networks: list[str], source: str, admitted: bool
) -> None:
    assert Policy(sources=map(parse_network, networks)).admits(source) is admitted


@pytest.mark.parametrize(
    "text", ["", "x", "10.0.0.1/8", "10.0.0.0/33", "1", "::1%lo", "10.0.0.0/+8"]
)
def test_a_wrong_network_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected one such as"):
        parse_network(text)


@pytest.mark.parametrize(
    "address",
    [
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fec0::1",
    ],
)
def test_metadata_and_site_local_addresses_have_to_be_named(address: str) -> None:
    assert not allowed(WIDE, address, 80)
    assert not allowed("tcp:[fc00::/7]:80", address, 80)
    assert allowed(f"tcp:[{address}]:80", address, 80)


@pytest.mark.parametrize(
    ("rule", "host", "expected"),
    [
        ("tcp:*:22", None, False),
        ("tcp:*:22", "here.example", False),
        ("tcp:192.0.2.0/24:22", None, False),
        ("tcp:192.0.2.0/24:22", "here.example", False),
        ("tcp:*.example:22", "here.example", False),
        ("tcp:*.example:22@192.0.2.0/24", "here.example", False),
        ("tcp:192.0.2.7:22", None, True),
        ("tcp:192.0.2.7:22", "here.example", True),
        ("tcp:*.example:22@192.0.2.7", "here.example", True),
        ("tcp:*.example:22@127.0.0.1,self", "here.example", True),
        ("tcp:*.example:22@self", "there.org", False),
        ("tcp:self:22", None, True),
        ("tcp:self:22", "here.example", True),
        ("tcp:self:23", None, False),
    ],
)
def test_this_machine_by_its_own_address_has_to_be_named(
    monkeypatch: pytest.MonkeyPatch, rule: str, host: str | None, expected: bool
) -> None:
    monkeypatch.setattr(acl, "is_own_address", lambda address: str(address) == "192.0.2.7")
    assert allowed(rule, "192.0.2.7", 22, host) is expected
    assert not allowed("tcp:self:22", "192.0.2.8", 22)
    assert allowed("tcp:192.0.2.0/24:22", "192.0.2.8", 22)


def test_self_does_not_stand_for_loopback_or_what_else_is_special() -> None:
    for address in ("127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "::ffff:127.0.0.1"):
        assert not allowed("tcp:self:22", address, 22)
        assert not allowed("tcp:host:22@self", address, 22, "host")


def test_an_address_that_this_machine_gets_later_counts_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    own: set[str] = set()
    monkeypatch.setattr(acl, "monotonic", lambda: now[0])
    monkeypatch.setattr(acl, "is_own_address", lambda address: str(address) in own)
    some = policy("tcp:192.0.2.0/24:22")
    some.authorize("gate", "connect", "tcp", "192.0.2.7", 22)
    own.add("192.0.2.7")
    now[0] += acl.REMEMBERED_FOR
    with pytest.raises(NotAuthorized, match="this machine's own address"):
        some.authorize("gate", "connect", "tcp", "192.0.2.7", 22)


@pytest.mark.parametrize(
    ("rule", "host", "port", "expected"),
    [
        ("tcp:*.corp.example:80", "a.corp.example", 80, Prospect.BY_NAME),
        ("tcp:*.corp.example:80", "A.Corp.Example.", 80, Prospect.BY_NAME),
        ("tcp:*.corp.example:80", "a.corp.example", 81, Prospect.NONE),
        ("tcp:*.corp.example:80", "a.example", 80, Prospect.NONE),
        ("tcp:*:80", "a.example", 80, Prospect.BY_NAME),
        ("tcp:127.0.0.1:9000", "a.example", 9000, Prospect.BY_ADDRESS),
        ("tcp:127.0.0.1:9000", "a.example", 80, Prospect.NONE),
        ("tcp:self:80", "a.example", 80, Prospect.BY_ADDRESS),
        ("udp:*:80", "a.example", 80, Prospect.NONE),
        ("other=tcp:*:80", "a.example", 80, Prospect.NONE),
        ("unix:/run/x", "a.example", 80, Prospect.NONE),
        ("listen:*:80", "a.example", 80, Prospect.NONE),
    ],
)
def test_what_can_come_of_a_name_is_known_before_it_is_looked_up(
    rule: str, host: str, port: int, expected: Prospect
) -> None:
    assert policy(rule).prospect("gate", "connect", "tcp", host, port) is expected
    assert PolicyHolder(policy(rule)).prospect("gate", "connect", "tcp", host, port) is expected


def test_of_several_rules_the_one_for_the_name_counts() -> None:
    some = policy("tcp:10.0.0.0/8:80", "tcp:web:80")
    assert some.prospect("gate", "connect", "tcp", "web", 80) is Prospect.BY_NAME


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("10.1.2.3:22", "tcp:10.1.2.3:22"),
        ("[2001:db8::1]:22", "tcp:[2001:db8::1]:22"),
        ("*.corp.example:80,443", "tcp:*.corp.example:80,443"),
        ("laptop=10.0.0.0/8:1000-2000", "laptop=tcp:10.0.0.0/8:1000-2000"),
        ("localhost:80@127.0.0.0/8", "tcp:localhost:80@127.0.0.0/8"),
        ("*:*", "tcp:*:*"),
    ],
)
def test_the_kind_of_a_rule_is_tcp_where_none_is_said(short: str, whole: str) -> None:
    assert attrs.evolve(parse_rule(short), text=whole) == parse_rule(whole)


@pytest.mark.parametrize("text", ["tpc:10.1.2.3:22", "10.1.2.3", "22", ":22", "a:b", "/tmp/x:1"])
def test_what_is_no_place_is_told_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match="expected tcp:HOST:PORTS"):
        parse_rule(text)
