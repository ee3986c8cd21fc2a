"""Names of hosts: lower-case A-labels, owners, and ``*`` for one label (row S10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import idna

from tunnelkit.wire.secureproxy import is_host

Value = TypeVar("Value")


def normal_host(text: str) -> str | None:
    """The host as it is compared: lower-case A-labels without the last dot; None if it is none.

    Names with other letters are encoded (IDNA 2008). An IP address is no host's name.
    """
    host = text.removesuffix(".")
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError:
            return None
    host = host.lower()
    return host if is_host(host) else None


def covers(resource: str, kind: str, host: str) -> bool:
    """Whether ``resource`` (``pass:a.example``, ``pass:*.example``) is about ``host``."""
    parent = host.partition(".")[2]
    return resource in (f"{kind}:{host}", f"{kind}:*.{parent}")


class HostTable(Generic[Value]):
    """Hosts with a value each; an exact name goes before a wildcard."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def put(self, host: str, value: Value) -> None:
        """``host`` is a normal name, perhaps with ``*.`` in front."""
        self._values[host] = value

    def get(self, host: str) -> Value | None:
        """What is there under exactly this name."""
        return self._values.get(host)

    def remove(self, host: str) -> None:
        """Take it out."""
        del self._values[host]

    def find(self, host: str) -> Value | None:
        """What a browser gets that asks for ``host``."""
        exact = self._values.get(host)
        if exact is not None or host.startswith("*."):
            return exact
        _, dot, parent = host.partition(".")
        return self._values.get(f"*.{parent}") if dot else None
