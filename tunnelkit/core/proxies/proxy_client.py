"""What every client of a network proxy has in common: its events and its verbs.

`socks_client.SocksClient` and `http_connect.HttpConnectClient` meet `ProxyClient`,
so that one endpoint in `tunnelkit.net` drives them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from tunnelkit.errors import Code

HANDSHAKE_LIMIT = 30.0
"""Seconds from the connection to a proxy until its final answer; its own dialling is in them."""


@attrs.frozen
class Established:
    """The proxy has connected; everything that follows belongs to the inner protocol."""

    host: str
    """The proxy's own address for the connection, if it told; otherwise empty."""
    port: int


@attrs.frozen
class Refused:
    """The proxy said no; the connection to it is of no further use."""

    code: Code
    said: str
    """What it said, printable and at most 256 characters."""
    login: bool = False
    """True: because of the user name and password, or because it wants them."""


@attrs.frozen
class TimedOut:
    """The proxy has not answered in time."""

    seconds: float
    mute: bool = False
    """True: not even what needs no dialling on its side; it may be another kind of server."""


ProxyEvent = Established | Refused | TimedOut
NO_EVENTS: Sequence[ProxyEvent] = ()


class ProxyClient(Protocol):
    """The near side of one handshake with one proxy, sans-IO (N1).

    Times are seconds of one monotonic clock. After one event there are no more.
    """

    leftover: bytes
    """After `Established`: what came behind the proxy's answer; the inner protocol's."""

    def receive(self, data: bytes, now: float) -> Sequence[ProxyEvent]:
        """Take bytes as they come, cut anywhere; raises `RemoteProtocolError`."""

    def data_to_send(self) -> bytes:
        """What is to be sent to the proxy now; empties the queue."""

    def next_deadline(self) -> float | None:
        """When `deadline_passed` wants to be called."""

    def deadline_passed(self, now: float) -> Sequence[ProxyEvent]:
        """Give up if the time is over."""
