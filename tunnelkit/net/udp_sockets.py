"""Raw UDP sockets, only with a `Decision` (X1); the twin of `tunnelkit.net.sockets`."""

from __future__ import annotations

import socket

from tunnelkit.core.types import Decision
from tunnelkit.errors import DialError, LocalProtocolError
from tunnelkit.net.sockets import BindError, code_of, format_address


def bind_udp(decision: Decision) -> socket.socket:
    """A non-blocking socket bound to the decision's address and port (0: any free one).

    IPv6 sockets take IPv6 only. Raises `BindError`.
    """
    return _opened(decision, "bind")


def connect_udp(decision: Decision) -> socket.socket:
    """A non-blocking socket that sends to, and takes from, the decision's address and port only.

    The kernel chooses its port at random. Raises `DialError`.
    """
    return _opened(decision, "sendto")


def _opened(decision: Decision, action: str) -> socket.socket:
    if decision.action != action or decision.protocol != "udp":
        raise LocalProtocolError(
            f"a decision for {decision.action} {decision.protocol} used for {action} udp"
        )
    address = (decision.address, decision.port)
    family = socket.AF_INET6 if ":" in decision.address else socket.AF_INET
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if action == "sendto":
            sock.connect(address)
            return sock
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        if sock is not None:
            sock.close()
        where, why = format_address(address), error.strerror or str(error)
        if action == "bind":
            raise BindError(f"cannot listen on UDP {where}: {why}", code_of(error)) from None
        raise DialError(f"{where}: {why}", hop=where, code=code_of(error)) from None
    return sock
