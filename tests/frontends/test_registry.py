"""Finding front ends: what is installed, and plug-ins that are not what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import pytest
from zope.interface import alsoProvides, implementer
from zope.interface.verify import verifyObject

from tests.frontends.installed import front_end
from tests.services.roles import options_class
from tunnelkit.errors import ConfigError
from tunnelkit.frontends import registry
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.policy.settings import Option, Settings


@implementer(IFrontEnd)
@attrs.frozen
class Mine:
    """A front end that opens nothing."""

    name: str = "mine"
    options: tuple[Option, ...] = (Option("mine", "PORT", "of mine"),)

    def configure(self, settings: Settings) -> Sequence[Any]:
        """See `IFrontEnd`."""
        return ()

    def needs(self, config: Any) -> Sequence[str]:
        """See `IFrontEnd`."""
        return ()

    def make_service(self, reactor: Any, tunnel: Any, policy: Any, config: Any) -> Any:
        """See `IFrontEnd`."""


class Half:
    """A front end whose author has stopped in the middle."""

    name = "half"


def install(monkeypatch: pytest.MonkeyPatch, plug_ins: Iterable[object]) -> None:
    """Let these be all that are found."""
    monkeypatch.setattr(registry, "getPlugins", lambda interface: iter(plug_ins))


@pytest.mark.parametrize("name", ["ask", "dns", "forward", "http-proxy", "reverse", "socks", "x11"])
def test_those_that_come_with_tunnelkit_are_found_like_any_other(name: str) -> None:
    found = front_end(name)
    assert verifyObject(IFrontEnd, found)
    assert list(found.configure(Settings({}))) == []


def test_the_order_is_that_of_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, [Mine("b"), Mine("a")])
    assert [found.name for found in registry.front_ends()] == ["a", "b"]


def test_one_that_lacks_something_is_named_with_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half: Any = Half()
    alsoProvides(half, IFrontEnd)
    install(monkeypatch, [half])
    with pytest.raises(ConfigError) as caught:
        registry.front_ends()
    said = str(caught.value)
    assert said.startswith("front end plug-in tests.frontends.test_registry.Half: ")
    assert "configure" in said
    assert said.endswith("expected what tunnelkit.interfaces.IFrontEnd says")


def test_two_of_one_name_are_named_both(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, [Mine("x"), registry.FrontEndMaker("x", "other.place", ())])
    with pytest.raises(ConfigError, match=r"named x, .*Mine and other\.place: expected one"):
        registry.front_ends()


@pytest.mark.parametrize("taken", ["peer", "config", "help"])
def test_an_option_that_is_there_already_is_refused(
    monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    install(monkeypatch, [Mine("mine", (Option(taken, "X", "of mine"),))])
    with pytest.raises(ConfigError, match=f"--{taken} is declared twice for usher-portal"):
        options_class("usher-portal")
