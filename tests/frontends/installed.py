"""The installed front ends as their options configure them, for tests."""

from __future__ import annotations

from typing import Any

from tunnelkit.frontends.registry import front_ends
from tunnelkit.interfaces import IFrontEnd
from tunnelkit.policy.settings import Given, Settings


def front_end(name: str) -> IFrontEnd:
    """The plug-in of this name."""
    return next(found for found in front_ends() if found.name == name)


def configured(name: str, text: str) -> Any:
    """What the front end makes of ``--NAME TEXT``."""
    settings = Settings({name: [Given(text, f"--{name}")]})
    (config,) = front_end(name).configure(settings)
    return config
