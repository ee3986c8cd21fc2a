"""Settings that are read again: the command line wins, and nothing broken is taken over (O3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tests.services.roles import options_class
from tunnelkit.errors import ConfigError
from tunnelkit.services.reload import Reloader


class Role:
    """Remembers what it was told; refuses what admits one network."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def reload(self, config: object) -> list[str]:
        admit = [str(network) for network in getattr(config, "admit", ())]
        if admit == ["192.0.2.0/24"]:
            raise ConfigError("not this network")
        self.names.append(" ".join(admit))
        return [f"admits {self.names[-1]}"] if admit else []


@implementer(ILogObserver)
class World:
    """A middle with a configuration file, and what is logged."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.file = directory / "middle.toml"
        self.file.write_text('listen = "127.0.0.1:0"\n')
        options = options_class("lstp-middle")()
        options.parseOptions(["--config", str(self.file), *words])
        self.clock = Clock()
        self.role = Role()
        self.reloader = Reloader(self.clock, options, self.role)
        self.said: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        """See `ILogObserver`."""
        if event.get("log_namespace") == "tunnelkit.services.reload":
            self.said.append(str(event["log_format"]).format(**event))

    def write(self, text: str) -> list[str]:
        """Change the file and let a second pass; what was logged since."""
        before = len(self.said)
        self.file.write_text(text)
        self.clock.advance(1)
        return self.said[before:]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, "--name", "m")
    globalLogPublisher.addObserver(made)
    made.reloader.startService()
    try:
        yield made
    finally:
        made.reloader.stopService()
        globalLogPublisher.removeObserver(made)


def test_a_file_is_read_again_once_it_has_changed(world: World) -> None:
    world.clock.advance(1)
    assert world.said == []
    text = 'listen = "127.0.0.1:0"\nadmit = "10.0.0.0/8"\n'
    assert world.write(text) == ["Reloaded: admits 10.0.0.0/8"]
    world.clock.advance(1)
    assert world.role.names == ["10.0.0.0/8"]


def test_the_command_line_still_wins(world: World) -> None:
    assert world.write('listen = "127.0.0.1:0"\nname = "other"\n') == ["Reloaded: nothing new"]


def test_what_needs_a_restart_is_named_with_its_place(world: World) -> None:
    said = world.write('# \nlisten = "127.0.0.1:1"\nmax-waiting = 9\n')
    assert said == [
        f"{world.file}:2: key listen: has changed, which needs a restart",
        f"{world.file}:3: key max-waiting: has changed, which needs a restart",
        "Reloaded: nothing new",
    ]


def test_a_setting_that_is_given_no_more_needs_a_restart_too(world: World) -> None:
    text = 'listen = ["127.0.0.1:0", "127.0.0.2:0"]\nnext = "there:7000"\n'
    assert len(world.write(text)) == 3
    said = world.write('listen = "127.0.0.1:0"\n')
    assert said == ["Reloaded: nothing new"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("listen = ", ":1: not valid TOML"),
        ('listen = "127.0.0.1:0"\nadmitt = "10.0.0.0/8"\n', ":2: key admitt: not known"),
        ('listen = "127.0.0.1:0"\nadmit = "10.0.0.0/33"\n', ":2: key admit: "),
        ('admit = "10.0.0.0/8"\n', "--listen is missing"),
        ('listen = "127.0.0.1:0"\nadmit = "192.0.2.0/24"\n', "not this network"),
    ],
)
def test_a_broken_file_changes_nothing_and_is_told_in_one_line(
    world: World, text: str, why: str
) -> None:
    (said,) = world.write(text)
    assert said.startswith("Not reloaded, all is as before: ")
    assert why in said
    assert world.role.names == []
    world.clock.advance(1)
    assert len(world.said) == 1


def test_a_role_that_ends_reads_nothing_any_more(world: World) -> None:
    world.reloader.stopService()
    world.reloader.reload()
    assert world.write('listen = "127.0.0.1:0"\nadmit = "10.0.0.0/8"\n') == []
