"""How the end of a TCP connection looks from the other side: a reset, or in order."""

from __future__ import annotations

import socket
import struct

# struct linger: whether, and for how many seconds.
_RESET = struct.pack("ii", 1, 0)
_IN_ORDER = struct.pack("ii", 0, 0)
_READ = 65536


def close_resets(sock: socket.socket, resets: bool) -> None:
    """From now on a close, also that by the system when the process dies, is a reset, or not."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET if resets else _IN_ORDER)
    except OSError:
        pass  # not connected any more, or a unix socket, which has no such thing on some systems


def reset(sock: socket.socket) -> None:
    """Close so that the other side sees 'connection reset', never a clean end (X11).

    What is unsent is dropped.
    """
    close_resets(sock, True)
    sock.close()


def close_in_order(sock: socket.socket) -> None:
    """Close in order: unread bytes would turn the end into a reset, so they go first."""
    try:
        sock.shutdown(socket.SHUT_WR)
        while len(sock.recv(_READ)) == _READ:
            pass
    except OSError:
        pass  # nothing there, or broken already
    sock.close()
