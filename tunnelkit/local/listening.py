"""What front ends that accept sockets have in common: the port, who may enter, and refusing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelkit.net.channels.contracts import LocalSide
from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import Listener, bind_tcp, bind_unix, format_address, remove_socket
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import TCP, UNIX

_log = Logger()


class ChannelOpener(Protocol):
    """What front ends need of a tunnel."""

    def open(self, destination: str, side: LocalSide) -> Deferred[str]:
        """Open a channel and join ``side`` to it.

        Gives the far socket's own address; fails with `ChannelRefused`, and
        then the side has been reset, unless it is held.
        """


class ListeningService(Service):
    """A port or unix socket of this end's own.

    It is bound at once, so that whoever configures it learns of a taken port
    (`BindError`), and accepts from ``startService`` on. While it is bound the
    far side cannot have this end connect to it.
    """

    def __init__(
        self,
        reactor: Any,
        policy: PolicyHolder,
        protocol: str,
        address: str,
        port: int,
        on_accept: Callable[[socket.socket, tuple[str, int]], object],
        *,
        admits: Callable[[str], bool] | None = None,
        option: str = "--from",
    ) -> None:
        """``on_accept`` is given each socket, and the client's address and port (a unix socket's
        are ``("", 0)``).

        ``admits`` says which addresses may enter, as ``option`` has it (default: the policy).
        """
        self.poller = Poller.of(reactor)
        self.policy = policy
        self._protocol = protocol
        self._on_accept = on_accept
        self._admits = admits
        self._option = option
        self._listener: Listener | None = None
        decision = policy.own(address, port, protocol)
        self._socket = bind_unix(decision) if protocol == UNIX else bind_tcp(decision)
        name = self._socket.getsockname()
        self.address = format_address(name)
        """``HOST:PORT`` with the real port, or the path."""
        self._own = () if protocol == UNIX else (TCP, address, int(name[1]))
        if self._own:
            policy.listeners.add(*self._own)

    def startService(self) -> None:
        """Accept."""
        Service.startService(self)
        if self._listener is None:
            self._listener = Listener(self.poller, self._socket, self._accepted)

    def stopService(self) -> None:
        """Stop listening; what has been accepted goes on."""
        Service.stopService(self)
        if self._listener is not None:
            self._listener.close()
        elif self._socket.fileno() >= 0:
            self._socket.close()
            if self._protocol == UNIX:
                remove_socket(self.address)
        if self._own:
            self.policy.listeners.discard(*self._own)
            self._own = ()

    def _accepted(self, sock: socket.socket, client: tuple[str, int]) -> None:
        admits = self._admits or self.policy.current.admits
        if self._protocol != UNIX and not admits(client[0]):
            _log.warn(
                "Not admitted to {address}: {client} ({option})",
                address=self.address,
                client=format_address(client),
                option=self._option,
            )
            reset(sock)
        else:
            self._on_accept(sock, client)
