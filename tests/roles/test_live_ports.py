"""Ports that a person opens and closes while an end runs (row U15)."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.frontends.registry import Wanted
from tunnelkit.roles.live_ports import MOST, LivePort, LivePorts, parse_allowed

FORWARD = LivePort("forward", "8080=tcp:web.example:80")


class Ports:
    """Front ends that open nothing."""

    def __init__(self) -> None:
        self.wanted: tuple[Wanted, ...] = ()

    def replace(self, wanted: Iterable[Wanted]) -> tuple[list[str], list[str]]:
        before, self.wanted = self.wanted, tuple(wanted)
        return (
            [one.front_end.name for one in before if one not in self.wanted],
            [one.front_end.name for one in self.wanted if one not in before],
        )


def live(ports: Any, *allowed: str, file: str = "") -> LivePorts:
    return LivePorts(ports, {"server"}, tuple(map(parse_allowed, allowed)), file)


def test_ports_come_and_go_beside_those_of_the_configuration() -> None:
    ports = Ports()
    lived = live(ports)
    assert lived.open(FORWARD) == ["forward"]
    assert lived.open(LivePort("socks", "1080")) == ["socks"]
    assert lived.configure(()) == ([], [])
    assert len(ports.wanted) == 2
    with pytest.raises(ConfigError, match="open already"):
        lived.open(FORWARD)
    assert lived.close(FORWARD) == ["forward"]
    assert lived.ports == (LivePort("socks", "1080"),)
    with pytest.raises(ConfigError, match="was not added here"):
        lived.close(FORWARD)


@pytest.mark.parametrize(
    "value",
    [
        "0.0.0.0:8080=tcp:web:80",
        "[::]:8080=tcp:web:80",
        "192.0.2.1:8080=tcp:web:80",
        "unix:/tmp/x=tcp:web:80",
        "0.0.0.0:8080-8090=tcp:web:80-90",
        "no port",
        "",
    ],
)
def test_only_loopback_is_listened_on_unless_it_is_said(value: str) -> None:
    ports = Ports()
    lived = live(ports)
    with pytest.raises(ConfigError):
        lived.open(LivePort("forward", value))
    assert ports.wanted == ()
    assert lived.ports == ()


def test_what_may_be_opened_is_judged_by_address_and_port() -> None:
    lived = live(Ports(), "0.0.0.0:8000-8010")
    lived.open(LivePort("forward", "0.0.0.0:8000-8010=tcp:web:8000-8010"))
    for value in ("0.0.0.0:8005-8011=tcp:web:8005-8011", "0.0.0.0:80=tcp:web:80", "8005=web:80"):
        with pytest.raises(ConfigError, match="may not be opened from here"):
            lived.open(LivePort("forward", value))
    with pytest.raises(ConfigError, match="expected one of forward, socks, http-proxy"):
        lived.open(LivePort("reverse", "0=tcp:web:80"))


def test_there_is_an_end_to_how_many() -> None:
    lived = live(Ports())
    for number in range(MOST):
        lived.open(LivePort("socks", str(1080 + number)))
    with pytest.raises(ConfigError, match="have been added already"):
        lived.open(FORWARD)


def test_they_are_kept_in_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    live(Ports(), file=str(file)).open(FORWARD)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = live(Ports(), file=str(file))
    assert again.ports == (FORWARD,)
    again.close(FORWARD)
    assert live(Ports(), file=str(file)).ports == ()


@pytest.mark.parametrize(
    "text", ["", "{", "7", '[{"kind": "forward"}]', '[{"kind": "x", "value": "1"}]']
)
def test_a_file_that_is_something_else_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kept"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="--forwards-file"):
        live(Ports(), file=str(file))
