"""Names to addresses with the system's resolver, telling 'there is none' from 'not now'.

Twisted's ``reactor.nameResolver`` answers both with no addresses; who opened
the channel is to be told the right one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from tunnelkit.errors import Code, DialError

Resolver = Callable[[str], Deferred[Sequence[str]]]
"""Gives the addresses of a host name, best first, or fails with a `DialError`."""

MAX_ADDRESSES = 16
"""Addresses of one name that are tried."""

_NONE = frozenset({socket.EAI_NONAME, socket.EAI_FAIL, getattr(socket, "EAI_NODATA", -5)})


class SystemResolver:
    """getaddrinfo in the reactor's thread pool, in the order of RFC 6724."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __call__(self, host: str) -> Deferred[Sequence[str]]:
        """The addresses of ``host``; fails with NO_SUCH_HOST, or UNREACHABLE if asking failed."""
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, look_up, host)


def look_up(host: str) -> Sequence[str]:
    """Ask the system; blocks. Raises `DialError`."""
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        code = Code.NO_SUCH_HOST if error.errno in _NONE else Code.UNREACHABLE
        raise DialError(f"{host}: {error.strerror}", hop=host, code=code) from None
    except UnicodeError:
        raise DialError(f"{host}: not a name", hop=host, code=Code.NO_SUCH_HOST) from None
    return interleaved([str(sockaddr[0]) for *_, sockaddr in answers])


def interleaved(addresses: Sequence[str]) -> Sequence[str]:
    """Without repetitions, families in turn beginning with the first one's (RFC 8305), capped."""
    unique = list(dict.fromkeys(addresses))
    if not unique:
        return ()
    leads = ":" in unique[0]
    first = [address for address in unique if (":" in address) is leads]
    second = [address for address in unique if (":" in address) is not leads]
    mixed: list[str] = []
    for place in range(max(len(first), len(second))):
        mixed += first[place : place + 1] + second[place : place + 1]
    return mixed[:MAX_ADDRESSES]
