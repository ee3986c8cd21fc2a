"""The oldest versions of libraries that are safe to run with (X22)."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import metadata

from tunnelkit.errors import ConfigError

FLOORS: dict[str, tuple[int, ...]] = {"Twisted": (26, 4), "pyOpenSSL": (26, 1)}
"""Older releases have known security holes in what tunnelkit uses of them."""


def check_libraries(version_of: Callable[[str], str] = metadata.version) -> None:
    """Raise `ConfigError` naming the first library that is too old."""
    for name, floor in FLOORS.items():
        try:
            found = version_of(name)
        except metadata.PackageNotFoundError:
            raise ConfigError(
                f"{name} is not installed: expected {_text(floor)} or newer"
            ) from None
        numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
        if numbers < floor:
            raise ConfigError(
                f"{name} {found} has known security holes: expected {_text(floor)} or newer"
            )


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
