"""Names to addresses: what a resolver is, and the system's own (row P2).

Twisted's ``reactor.nameResolver`` answers 'there is none' and 'not now' both with
no addresses; who opened the channel is to be told the right one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from tunnelkit.errors import Code, DialError

Resolver = Callable[[str], Deferred[Sequence[str]]]
"""Gives the addresses of a host name, best first, or fails with a `DialError`."""

MAX_ADDRESSES = 16
"""Addresses of one name that are tried."""
THREADS = 16
"""Threads of the system's resolver."""

_NONE = frozenset({socket.EAI_NONAME, socket.EAI_FAIL, getattr(socket, "EAI_NODATA", -5)})


class _Thread(Thread):
    """A thread that the end of the process does not wait for."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more, daemon=True)


class _Threads(ThreadPool):
    threadFactory = _Thread


class SystemResolver:
    """getaddrinfo in threads of its own, in the order of RFC 6724: whatever nsswitch.conf names,
    LDAP and mDNS included. Nothing can end a look-up that has begun."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = _Threads(0, THREADS, "names")
        reactor.callWhenRunning(self._pool.start)

    def __call__(self, host: str) -> Deferred[Sequence[str]]:
        """The addresses of ``host``; fails with NO_SUCH_HOST, or UNREACHABLE if asking failed."""
        return deferToThreadPool(self._reactor, self._pool, look_up, host)


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
