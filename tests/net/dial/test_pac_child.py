"""The functions that a PAC script may call, and the script itself, without the process."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.net.dial import pac_child
from tunnelkit.net.dial.pac_process import interpreter


class Wednesday(datetime):
    """17 June 2026, 14:30:15 here; two hours less in Greenwich."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Wednesday:
        return cls(2026, 6, 17, 14 if tz is None else 12, 30, 15)


def resolver(found: Mapping[str, list[str]]) -> Any:
    def getaddrinfo(name: str, *_: object, **__: object) -> list[Any]:
        if name not in found:
            raise OSError("no such host")
        return [(0, 0, 0, "", (address, 0)) for address in found[name]]

    return getaddrinfo


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known day and known names."""
    monkeypatch.setattr(pac_child, "datetime", Wednesday)
    names = {"inside": ["2001:db8::1", "10.1.2.3"], "10.1.2.3": ["10.1.2.3"]}
    monkeypatch.setattr(pac_child, "NAMES", pac_child.Names())
    monkeypatch.setattr(socket, "getaddrinfo", resolver(names))


def says(expression: str) -> str:
    """What a script with ``host`` and ``url`` in it returns, as text."""
    script = f"function FindProxyForURL(url, host) {{ return String({expression}); }}"
    return pac_child.ask(script, "https://inside:7000/", "inside", interpreter())


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("url + host", "https://inside:7000/inside"),
        ("isPlainHostName(host)", "true"),
        ("isPlainHostName('a.b')", "false"),
        ("dnsDomainIs('www.Corp.example', '.corp.example')", "true"),
        ("dnsDomainIs('corp.example', '.corp.example')", "false"),
        ("localHostOrDomainIs('www', 'www.corp.example')", "true"),
        ("localHostOrDomainIs('www.other', 'www.corp.example')", "false"),
        ("localHostOrDomainIs('www.corp.example', 'www.corp.example')", "true"),
        ("dnsDomainLevels('a.b.c')", "2"),
        ("isResolvable(host)", "true"),
        ("isResolvable('nowhere')", "false"),
        ("isResolvableEx(host)", "true"),
        ("dnsResolve(host)", "10.1.2.3"),
        ("dnsResolve('nowhere')", "null"),
        ("dnsResolveEx(host)", "2001:db8::1;10.1.2.3"),
        ("isInNet(host, '10.0.0.0', '255.0.0.0')", "true"),
        ("isInNet('10.1.2.3', '10.1.2.3', '255.255.255.255')", "true"),
        ("isInNet(host, '11.0.0.0', '255.0.0.0')", "false"),
        ("isInNet('nowhere', '0.0.0.0', '0.0.0.0')", "false"),
        ("isInNetEx(host, '2001:db8::/32')", "true"),
        ("isInNetEx(host, '192.168.0.0/16')", "false"),
        ("convert_addr('10.0.0.1')", str((10 << 24) + 1)),
        ("/^[0-9.]+$/.test(myIpAddress())", "true"),
        ("typeof myIpAddressEx()", "string"),
        ("shExpMatch('http://home.example/x', '*/x')", "true"),
        ("shExpMatch('abc', 'a?c')", "true"),
        ("shExpMatch('abc', 'a*b')", "false"),
        ("alert('nobody sees this')", "undefined"),
        ("weekdayRange('WED')", "true"),
        ("weekdayRange('MON', 'FRI')", "true"),
        ("weekdayRange('THU', 'TUE')", "false"),
        ("weekdayRange('sat', 'wed', 'GMT')", "true"),
        ("dateRange(17)", "true"),
        ("dateRange(1, 15)", "false"),
        ("dateRange('JUN')", "true"),
        ("dateRange('NOV', 'FEB')", "false"),
        ("dateRange('MAY', 'AUG', 'GMT')", "true"),
        ("dateRange(2026)", "true"),
        ("dateRange(2020, 2025)", "false"),
        ("dateRange(17, 'JUN')", "true"),
        ("dateRange(17, 'JUN', 2025)", "false"),
        ("dateRange(24, 'DEC', 1, 'JAN')", "false"),
        ("dateRange(1, 'JUN', 17, 'JUN')", "true"),
        ("dateRange('JUN', 2026, 'JUL', 2026)", "true"),
        ("dateRange(1, 'JUN', 2026, 16, 'JUN', 2026)", "false"),
        ("timeRange(14)", "true"),
        ("timeRange(14, 'GMT')", "false"),
        ("timeRange(12, 'GMT')", "true"),
        ("timeRange(9, 14)", "true"),
        ("timeRange(22, 6)", "false"),
        ("timeRange(8, 30, 14, 29)", "false"),
        ("timeRange(8, 30, 14, 30)", "true"),
        ("timeRange(14, 30, 15, 14, 30, 20)", "true"),
        ("typeof require + typeof process + typeof std + typeof fetch", "undefined" * 4),
    ],
)
def test_what_a_script_can_ask(expression: str, value: str) -> None:
    # Their `alert` has no value, which is null where Python has none.
    assert says(expression) == value.replace("undefined", "null", expression.startswith("alert"))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("var x =", "SyntaxError"),
        ("1", "there is no function FindProxyForURL in it"),
        ("function FindProxyForURL() { throw new Error('boo'); }", "Error: boo"),
        ("function FindProxyForURL() {}", "returns something that is no text"),
        ("function FindProxyForURL() { return 7; }", "returns something that is no text"),
        ("function FindProxyForURL() { return 'x'.repeat(5000); }", "its answer is too long"),
        ("function FindProxyForURL() { return isInNet('inside', 'x', 'y'); }", "isInNet"),
        ("function FindProxyForURL() { return isInNet(); }", "isInNet"),
        ("function FindProxyForURL() { return dateRange(); }", "expected a date"),
        ("function FindProxyForURL() { return dateRange('XXX'); }", "dateRange"),
        ("function FindProxyForURL() { return timeRange(1, 2, 3); }", "expected an hour"),
        ("function FindProxyForURL() { return weekdayRange('X'); }", "weekdayRange"),
        (
            "function FindProxyForURL() { for (var i = 0; i < 99; i++) dnsResolve('n' + i); }",
            "looks up more than 32 names",
        ),
        (
            "function FindProxyForURL() { var a = []; for (;;) a.push(new Array(99999).fill(1)); }",
            "out of memory",
        ),
        ("function FindProxyForURL() { return FindProxyForURL(); }", "call stack"),
    ],
)
def test_why_a_script_has_no_answer(script: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pac_child.ask(script, "https://inside/", "inside", interpreter())


def test_null_means_directly() -> None:
    script = "const FindProxyForURL = (url, host) => null;"
    assert pac_child.ask(script, "https://inside/", "inside", interpreter()) == ""


def test_a_pattern_with_many_stars_is_no_work() -> None:
    assert not pac_child.sh_exp_match("a" * 2000, "*a" * 500 + "b")


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_patterns_are_the_shell_s(pattern: str, text: str) -> None:
    def matches(at: int, place: int) -> bool:
        if at == len(pattern):
            return place == len(text)
        if pattern[at] == "*":
            return any(matches(at + 1, rest) for rest in range(place, len(text) + 1))
        return (
            place < len(text) and pattern[at] in ("?", text[place]) and matches(at + 1, place + 1)
        )

    assert pac_child.sh_exp_match(text, pattern) == matches(0, 0)
