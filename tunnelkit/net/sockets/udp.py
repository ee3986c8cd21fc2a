"""Raw UDP sockets, only with a `Decision` (X1); the twin of `tunnelkit.net.sockets.tcp`."""

from __future__ import annotations

import socket

from tunnelkit.core.decision import Decision
from tunnelkit.errors import DialError, LocalProtocolError
from tunnelkit.net.sockets.tcp import BindError, code_of, format_address


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


def open_udp(decision: Decision) -> socket.socket:
    """A non-blocking socket of the decision's family, to use with `send_udp`.

    The kernel chooses its port at random, with the first datagram. It takes datagrams from
    anybody, so whoever reads has to look at where they come from (X18). Raises `DialError`.
    """
    _demand(decision, "sendto")
    try:
        sock = socket.socket(_family(decision), socket.SOCK_DGRAM)
        sock.setblocking(False)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    except OSError as error:
        raise _dial_error(decision, error) from None
    return sock


def send_udp(sock: socket.socket, decision: Decision, data: bytes | memoryview) -> None:
    """Send one datagram to the decision's address and port.

    Raises `DialError`, and BlockingIOError if the kernel has no room for it now.
    """
    _demand(decision, "sendto")
    try:
        sock.sendto(data, (decision.address, decision.port))
    except BlockingIOError:
        raise
    except OSError as error:
        raise _dial_error(decision, error) from None


def _demand(decision: Decision, action: str) -> None:
    if decision.action != action or decision.protocol != "udp":
        raise LocalProtocolError(
            f"a decision for {decision.action} {decision.protocol} used for {action} udp"
        )


def _family(decision: Decision) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in decision.address else socket.AF_INET


def _dial_error(decision: Decision, error: OSError) -> DialError:
    where = format_address((decision.address, decision.port))
    return DialError(f"{where}: {error.strerror or error}", hop=where, code=code_of(error))


def _opened(decision: Decision, action: str) -> socket.socket:
    _demand(decision, action)
    address = (decision.address, decision.port)
    family = _family(decision)
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
        if action == "bind":
            where, why = format_address(address), error.strerror or str(error)
            raise BindError(f"cannot listen on UDP {where}: {why}", code_of(error)) from None
        raise _dial_error(decision, error) from None
    return sock
