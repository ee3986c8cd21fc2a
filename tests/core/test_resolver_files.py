"""What resolv.conf and hosts say."""

from __future__ import annotations

import pytest

from tunnelkit.core.resolver_files import ResolverSettings, parse_hosts, parse_resolv_conf


def test_an_empty_resolv_conf_means_the_resolver_of_this_machine() -> None:
    assert parse_resolv_conf("") == ResolverSettings()
    assert ResolverSettings().servers == (("127.0.0.1", 53),)


def test_everything_that_resolv_conf_says() -> None:
    settings = parse_resolv_conf(
        "; comment\n# nameserver 192.0.2.9\nnameserver 192.0.2.1\nnameserver  2001:db8::1 # x\n"
        "nameserver ns.example\nnameserver fe80::1%eth0\nnameserver 192.0.2.4\n"
        "domain first.example\nsearch Corp.example. b.example\nnonsense\nnameserver\n"
        "options ndots:2 timeout:3 attempts:4 rotate use-vc debug\n"
    )
    assert settings == ResolverSettings(
        servers=(("192.0.2.1", 53), ("2001:db8::1", 53), ("fe80::1%eth0", 53)),
        search=("corp.example", "b.example"),
        ndots=2,
        timeout=3,
        attempts=4,
        rotate=True,
        over_tcp=True,
    )


@pytest.mark.parametrize(
    ("options", "timeout", "attempts", "ndots"),
    [
        ("timeout:0 attempts:0 ndots:0", 1, 1, 0),
        ("timeout:99999999999999999999 attempts:99 ndots:99", 30, 5, 15),
        ("timeout:x attempts:-1 ndots:", 1.5, 3, 1),
        ("ndots:1 ndots:5", 1.5, 3, 5),
    ],
)
def test_options_have_bounds(options: str, timeout: float, attempts: int, ndots: int) -> None:
    settings = parse_resolv_conf(f"options {options}\n")
    assert (settings.timeout, settings.attempts, settings.ndots) == (timeout, attempts, ndots)


def test_without_a_domain_this_machine_s_is_searched() -> None:
    assert parse_resolv_conf("", "host.corp.example").search == ("corp.example",)
    assert parse_resolv_conf("", "host").search == ()
    assert parse_resolv_conf("search .\n", "host.corp.example").search == ()
    assert parse_resolv_conf("domain x.example y.example\n").search == ("x.example",)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("web", ["web.corp.example", "web.b.example", "web"]),
        ("web.x", ["web.x.corp.example", "web.x.b.example", "web.x"]),
        ("a.b.example", ["a.b.example", "a.b.example.corp.example", "a.b.example.b.example"]),
        ("web.", ["web"]),
    ],
)
def test_the_names_that_a_name_may_mean(host: str, expected: list[str]) -> None:
    settings = parse_resolv_conf("search corp.example b.example\noptions ndots:2\n")
    assert settings.candidates(host) == expected


def test_a_hosts_file() -> None:
    hosts = parse_hosts(
        "127.0.0.1 localhost # me\n::1\tlocalhost ip6-localhost\n\n# 192.0.2.1 no\n"
        "192.0.2.7  Web.Example. web\n192.0.2.8 web\n192.0.2.7 web\nfe80::1%lo0 localhost\n"
        "192.0.2 bad\n192.0.2.9\n"
    )
    assert hosts == {
        "localhost": ("127.0.0.1", "::1"),
        "ip6-localhost": ("::1",),
        "web.example": ("192.0.2.7",),
        "web": ("192.0.2.7", "192.0.2.8"),
    }
