"""Answers that come from the address that was asked, at UDP ports of all addresses (RFC 1122).

A machine with several addresses would answer from whichever leads to the asker; who asked another
one drops that, or takes it for somebody else's.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address

Control = tuple[int, int, bytes]
"""One control message, as `socket.sendmsg` takes it."""

# Of <linux/in.h>; Python has no name for it before 3.14.
_IP_PKTINFO = 8
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_IPV6_RECVPKTINFO = getattr(socket, "IPV6_RECVPKTINFO", 49)
# Interface, own address, destination in the header; and address, interface.
_IN_PKTINFO = struct.Struct("=i4s4s")
_IN6_PKTINFO = struct.Struct("=16si")
SPACE = socket.CMSG_SPACE(_IN6_PKTINFO.size)
"""Bytes for the control messages of one datagram."""


def tell_what_is_asked(sock: socket.socket) -> bool:
    """Whether ``sock`` is bound to all addresses, and tells with each datagram which was asked."""
    if not ip_address(sock.getsockname()[0].partition("%")[0]).is_unspecified:
        return False
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    except OSError:
        return False  # there is no such thing here: the system chooses
    return True


def answering(messages: Iterable[tuple[int, int, bytes]]) -> Control | None:
    """What to send an answer with, given the control messages that came with the datagram."""
    for level, kind, data in messages:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) == _IN_PKTINFO.size:
            _, own, _ = _IN_PKTINFO.unpack(data)
            return level, kind, _IN_PKTINFO.pack(0, own, bytes(4))
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO) and len(data) == _IN6_PKTINFO.size:
            return level, kind, data
    return None
