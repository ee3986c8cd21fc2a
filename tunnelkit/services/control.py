"""A running role's control socket: status, connect and disconnect for `tunnelkit` (rows L14, O2).

A unix socket that only its owner can enter. One request a connection, one
line each way: the request is a command's name, the answer a JSON object, with
``error`` in it if there is no such command. Every role also answers ``resources``.

An end also answers ``bench PEER``: if there is no ``error`` in the answer, the connection is a
channel to the service ``@bench`` of that peer from then on. PEER may be left out.
``unlock BASE64`` brings the passphrase of an identity to an end that waits for it (K6).
``pair-again`` renews its key and those of the ends that it is connected to (Q2).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tunnelkit.errors import ChannelClosed, ChannelRefused, Code, ConfigError
from tunnelkit.interfaces import IRenewsKeys, ITunnel, IUnlocks
from tunnelkit.local.stream import SocketStream
from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import Listener, bind_unix, remove_socket
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.acl import Policy
from tunnelkit.policy.destination import BENCH_SERVICE

Commands = Mapping[str, Callable[[], Mapping[str, object]]]
"""What a role can be told, by name; each returns what is answered."""
OpenBench = Callable[[str, LocalSide], Deferred[str]]
"""Opens a channel to `BENCH_SERVICE` of a peer (empty: whoever is there) for a side; fails with
`ChannelClosed`."""

BENCH = "bench"
_REQUEST_LIMIT = 5.0
"""Seconds to ask."""
_LONGEST_REQUEST = 2048
UNLOCK = "unlock"
"""A passphrase in base64 is behind it."""
PAIR_AGAIN = "pair-again"


def bench_through(tunnel: Any) -> OpenBench:
    """Through an `ITunnel`, if it is up: a measurement does not wait for it."""

    def open_bench(peer: str, side: LocalSide) -> Deferred[str]:
        whole: ITunnel = tunnel
        leads = whole.to(peer) if peer else whole
        if not leads.connections:
            why = f": {leads.last_error}" if leads.last_error else ""
            raise ChannelRefused(Code.UNREACHABLE, f"the tunnel is down{why}")
        return leads.open(BENCH_SERVICE, side)

    return open_bench


class ControlService(Service):
    """Listens at ``path``; the socket is bound when it is made (`ConfigError` if it cannot be).

    ``open_bench``, ``unlocks`` and ``renews`` are for roles that are ends.
    """

    def __init__(
        self,
        reactor: Any,
        path: str,
        commands: Commands,
        open_bench: OpenBench | None = None,
        unlocks: IUnlocks | None = None,
        renews: IRenewsKeys | None = None,
    ) -> None:
        self.poller = Poller.of(reactor)
        self._path = path
        self._socket = bind_unix(Policy().own(path, 0, "unix"))
        self.commands: Commands = {**commands, "resources": partial(resources, reactor)}
        self.open_bench = open_bench
        self.unlocks = unlocks
        self.renews = renews
        self._listener: Listener | None = None
        self.link: str | None = None
        """A link to the socket, which goes when it does."""

    def startService(self) -> None:
        """Answer."""
        Service.startService(self)
        # Twisted's own unix port would let everybody in.
        self._listener = Listener(self.poller, self._socket, self._accept)

    def stopService(self) -> None:
        """Answer no more, and remove the socket."""
        Service.stopService(self)
        if self._listener is not None:
            self._listener.close()
        remove_socket(self._path)
        if self.link is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.link)

    def _accept(self, sock: socket.socket, address: object) -> None:
        _Asking(self, sock)


def resources(reactor: Any) -> dict[str, object]:
    """What the process holds: memory in bytes (resident), descriptors, timers that are due.

    0 where the operating system does not tell.
    """
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        # Since Linux 6.2 the directory's size is their number; listing 10,000 takes 7 ms.
        descriptors = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        memory = descriptors = 0
    return {
        "memory": memory,
        "descriptors": descriptors,
        "timers": len(reactor.getDelayedCalls()),
    }


class _Asking:
    """One request and its answer (a `StreamOwner`)."""

    def __init__(self, control: ControlService, sock: socket.socket) -> None:
        self._control = control
        self._request = b""
        self._limit = Timer(control.poller.reactor, self._too_late)
        self._stream = SocketStream(control.poller, sock, self)
        self._limit.start(_REQUEST_LIMIT)

    # -- StreamOwner ------------------------------------------------------

    def stream_received(self, data: bytes) -> None:
        """Part of the request."""
        self._request += data
        line, newline, rest = self._request.partition(b"\n")
        if newline:
            self._limit.stop()
            self._request = b""
            self._answer(line.decode("utf-8", "replace"), rest)
        elif len(self._request) > _LONGEST_REQUEST:
            self._too_late()

    def stream_ended(self) -> None:
        """Nothing was asked for."""
        self._too_late()

    def stream_lost(self) -> None:
        """The same."""
        self._limit.stop()

    def stream_drained(self) -> None:
        """The answer is gone."""

    # -- answers ----------------------------------------------------------

    def _answer(self, asked: str, rest: bytes) -> None:
        name, _, whom = asked.partition(" ")
        unlocks = self._control.unlocks
        command = self._control.commands.get(asked)
        if command is not None:
            self._say(command())
        elif name == UNLOCK and unlocks is not None:
            self._say(_unlocked(unlocks, whom))
        elif asked == PAIR_AGAIN and self._control.renews is not None:
            self._renew(self._control.renews)
        elif name == BENCH and self._control.open_bench is not None:
            self._open(self._control.open_bench, whom, rest)
        else:
            known = ", ".join(sorted(self._control.commands))
            self._say({"error": f"this role has no command {asked!a}: expected {known}"})

    def _renew(self, renews: IRenewsKeys) -> None:
        try:
            renewed = renews.pair_again()
        except ConfigError as error:
            self._say({"error": str(error)})
        else:
            renewed.addCallback(self._say)

    def _open(self, open_bench: OpenBench, peer: str, rest: bytes) -> None:
        sock = self._stream.detach()
        side = SocketSide(self._control.poller, sock, leftover=rest, hold=True)
        try:
            opening = open_bench(peer, side)
        except ChannelRefused as error:
            self._refused(Failure(error), side)
            return
        opening.addCallbacks(_opened, self._refused, callbackArgs=(sock, side), errbackArgs=(side,))

    def _refused(self, failure: Failure, side: SocketSide) -> None:
        failure.trap(ChannelClosed)
        error = failure.value
        assert isinstance(error, ChannelClosed)
        self._stream = SocketStream(self._control.poller, side.detach(), self)
        self._say({"error": error.reason or str(error.code), "code": str(error.code)})

    def _say(self, answer: Mapping[str, object]) -> None:
        self._stream.write(json.dumps(answer).encode("ascii") + b"\n")
        self._stream.finish()

    def _too_late(self) -> None:
        self._limit.stop()
        self._stream.close()


def _unlocked(unlocks: IUnlocks, passphrase: str) -> Mapping[str, object]:
    try:
        answer: Mapping[str, object] = unlocks.unlock(base64.b64decode(passphrase, validate=True))
    except binascii.Error:
        return {"error": "the passphrase is not in base64"}
    except ConfigError as error:
        return {"error": str(error)}
    return answer


def _opened(bound: str, sock: socket.socket, side: SocketSide) -> None:
    with contextlib.suppress(OSError):  # the channel finds out as soon as it uses the socket
        sock.send(b"{}\n")  # a few bytes into an empty buffer: it takes all
    side.release()
