"""The far side's answer to ``listen`` requests: ports opened for the other end (rows P5, F2)."""

from __future__ import annotations

import socket

from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.errors import ChannelClosed, Code, NotAuthorized
from tunnelkit.net.channels.contracts import END, ChannelHandle
from tunnelkit.net.channels.socket_side import SocketSide
from tunnelkit.net.sockets.linger import reset
from tunnelkit.net.sockets.tcp import BindError, Listener, bind_tcp, format_address
from tunnelkit.policy.destination import LISTEN, TCP, Destination
from tunnelkit.policy.printable import printable

_log = Logger()

LISTENERS_PER_PEER = 64
"""Ports that one peer may have open here at once."""

_REASONS = {
    Code.REFUSED: "the port is in use there",
    Code.NOT_ALLOWED: "the far side's user may not open that port",
    Code.UNREACHABLE: "the far side does not have that address",
}


class ListenEgress(Service):
    """Opens ports for the peers of ``egress``, if ``--allow listen:ADDRESS:PORTS`` says so;
    closes them when it is stopped."""

    def __init__(self, egress: Egress) -> None:
        self.egress = egress
        self._listening: dict[str, set[PeerListener]] = {}
        self._stopped = False
        egress.answer_with(LISTEN, self.take)

    def take(self, request: EgressRequest, destination: Destination) -> None:
        """Answer a request for ``listen:tcp:ADDRESS:PORT``."""
        try:
            if self._stopped:
                request.refuse(Code.SHUTDOWN, "the far side is shutting down")
            elif len(self._listening.get(request.peer, ())) >= LISTENERS_PER_PEER:
                request.refuse(Code.LIMIT, f"{LISTENERS_PER_PEER} ports are open there")
            elif not destination.is_address:
                request.refuse(Code.NOT_ALLOWED, "a port is opened on an address, not on a name")
            else:
                listener = PeerListener(self, request.peer, destination)
                request.attach(listener, f"{TCP}:{listener.address}", listener.rule)
        except NotAuthorized as error:
            self.egress.denials.not_authorized(request.peer, error)
            request.refuse(Code.NOT_ALLOWED, "not allowed there")
        except BindError as error:
            _log.warn("For {peer}: {why}", peer=printable(request.peer), why=str(error))
            request.refuse(error.code, _REASONS.get(error.code, str(error.code)))

    def stopService(self) -> None:
        """Close all ports; connections that have come in over them go on."""
        Service.stopService(self)
        self._stopped = True
        for listeners in list(self._listening.values()):
            for listener in list(listeners):
                listener.abort(Code.SHUTDOWN, "the far side is shutting down")

    def began(self, listener: PeerListener) -> None:
        """A port is open."""
        self._listening.setdefault(listener.peer, set()).add(listener)

    def forget(self, listener: PeerListener) -> None:
        """It is closed."""
        listeners = self._listening.get(listener.peer, set())
        listeners.discard(listener)
        if not listeners:
            self._listening.pop(listener.peer, None)


class PeerListener:
    """One port for one peer, open as long as its channel is; the `LocalSide` of that channel.

    Raises `NotAuthorized` and `BindError`.
    """

    def __init__(self, owner: ListenEgress, peer: str, destination: Destination) -> None:
        self.peer = peer
        self._owner = owner
        self._egress = owner.egress
        self._asked = (destination.host, destination.port)
        self._channel: ChannelHandle | None = None
        self._closing = False
        decision = self._egress.policy.authorize(peer, "bind", TCP, *self._asked)
        self.rule = decision.rule
        sock = bind_tcp(decision)
        self._own = (TCP, destination.host, int(sock.getsockname()[1]))
        self._listener = Listener(self._egress.poller, sock, self._accepted)
        self.address = self._listener.address
        """``HOST:PORT`` with the real port."""
        self._egress.policy.listeners.add(*self._own)
        owner.began(self)
        _log.info("Listening on {address} for {peer}", address=self.address, peer=printable(peer))

    def abort(self, code: Code, reason: str) -> None:
        """Close it, and tell the peer why."""
        self._close()
        if self._channel is not None:
            self._channel.abort(code, reason)

    def _accepted(self, sock: socket.socket, client: tuple[str, int]) -> None:
        channel = self._channel
        policy = self._egress.policy
        if channel is None:
            reset(sock)
            return
        if not policy.admits(client[0]):
            _log.warn(
                "Not admitted to {address}: {client} (--from)",
                address=self.address,
                client=format_address(client),
            )
            reset(sock)
            return
        try:
            policy.authorize(self.peer, "bind", TCP, *self._asked)
        except NotAuthorized as error:
            # The rule has been withdrawn since.
            _log.warn("Not allowed any more: {why}", why=str(error))
            reset(sock)
            self.abort(Code.NOT_ALLOWED, "not allowed there any more")
            return
        side = SocketSide(self._egress.poller, sock)
        opening = channel.open_accepted(f"{TCP}:{format_address(client)}", side)
        opening.addErrback(self._refused)

    def _refused(self, failure: Failure) -> None:
        # The client has been reset.
        failure.trap(ChannelClosed)
        why = printable(str(failure.value))
        _log.info("{address} for {peer}: {why}", address=self.address, peer=self.peer, why=why)

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self._listener.close()
            self._egress.policy.listeners.discard(*self._own)
            self._owner.forget(self)

    # -- LocalSide --------------------------------------------------------

    def attach(self, channel: ChannelHandle) -> None:
        """See `LocalSide`."""
        self._channel = channel

    def pull_into(self, view: memoryview) -> int:
        """See `LocalSide`: nothing but the end."""
        return END if self._closing else 0

    def push(self, view: memoryview) -> int:
        """See `LocalSide`: nothing is expected."""
        return len(view)

    def finish(self) -> None:
        """See `LocalSide`: the peer closes the port."""
        self._close()
        if self._channel is not None:
            self._channel.ready()

    def close(self) -> None:
        """See `LocalSide`."""
        self._close()

    def reset(self, code: Code, reason: str) -> None:
        """See `LocalSide`."""
        self._close()
