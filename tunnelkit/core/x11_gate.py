"""Who may enter a display that is shown elsewhere, and what of X cannot be shown elsewhere (F3)::

    client         near end                                   far end          X server
    setup     ->   CookieGate: is the cookie the tunnel's?
                   no: a refusal that the client prints
                   yes: setup without cookie             ->   with_cookie  ->  setup, real cookie
    requests  ->   HiddenExtensions                      ->                ->

So neither cookie leaves its machine (rule X20).
"""

from __future__ import annotations

import hmac
import struct
import sys

import attrs

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.x11 import MIT_MAGIC_COOKIE, Setup, SetupReader, encode_failed, encode_setup

SETUP_LIMIT = 10.0
"""Seconds from the connection to the complete setup packet (X7)."""

HIDDEN = frozenset({b"MIT-SHM", b"DRI2", b"DRI3", b"XFree86-DRI", b"XFree86-DGA"})
"""Extensions that need client and server to share memory, devices or descriptors."""

_QUERY_EXTENSION = 98
_LONGEST_HIDDEN = max(map(len, HIDDEN))


@attrs.frozen
class Admitted:
    """The client showed the cookie."""

    setup: bytes
    """Its setup packet without the cookie, for the far side."""
    leftover: bytes
    """What it sent behind the packet."""
    big_endian: bool


@attrs.frozen
class Refused:
    """The client may not enter: send ``reply`` and close."""

    reply: bytes
    """A refusal that X clients print; empty if it is none of them, or its byte order unknown."""
    reason: str


class CookieGate:
    """Looks at one client's first packet; ``cookie`` is what it has to show."""

    __slots__ = ("_cookie", "_reader")

    def __init__(self, cookie: bytes) -> None:
        self._cookie = cookie
        self._reader = SetupReader()

    def receive(self, data: bytes) -> Admitted | Refused | None:
        """Take bytes as they come; None: the packet is not complete. Not called after an answer."""
        reader = self._reader
        try:
            taken = reader.receive(data)
        except RemoteProtocolError as error:
            return self.refuse(str(error))
        setup = reader.setup
        if setup is None:
            return None
        if not setup.auth_name:
            return self.refuse("the client has no cookie for this display")
        if setup.auth_name != MIT_MAGIC_COOKIE:
            return self.refuse(f"expected {MIT_MAGIC_COOKIE.decode()} as authorization")
        if not hmac.compare_digest(setup.auth_data, self._cookie):
            return self.refuse("the client has a wrong cookie for this display")
        return Admitted(with_cookie(setup, None), data[taken:], setup.big_endian)

    def refuse(self, reason: str) -> Refused:
        """The refusal for ``reason``, in the client's byte order."""
        big_endian = self._reader.big_endian
        if big_endian is None:
            return Refused(b"", reason)
        return Refused(refusal(big_endian, reason), reason)


def refusal(big_endian: bool, reason: str) -> bytes:
    """A refusal that X clients print as one line and that says who refused."""
    return encode_failed(big_endian, f"tunnelkit: {reason}")


def with_cookie(setup: Setup, cookie: bytes | None) -> bytes:
    """The setup packet with ``cookie`` in place of what the client sent; None: without any."""
    name = b"" if cookie is None else MIT_MAGIC_COOKIE
    return encode_setup(attrs.evolve(setup, auth_name=name, auth_data=cookie or b""))


class HiddenExtensions:
    """Has the X server deny the extensions that cannot work through a tunnel.

    To the X server the far end of the tunnel looks like a client on its own
    machine, to which it offers shared memory and descriptors of its graphics
    devices. A client that takes these up fails or breaks off. So the names in
    QueryExtension requests, without which no client uses an extension, are
    changed on the way: the last letter becomes ``?``, and the server answers
    that there is no such extension.

    ``scan`` is given what the client sends, piece by piece, from its first
    request on. It keeps no data beyond the head of a request that was cut.
    """

    __slots__ = ("_head", "_length", "_long", "_skip", "_words")

    def __init__(self, big_endian: bool) -> None:
        order = ">" if big_endian else "<"
        self._length = struct.Struct(f"{order}H").unpack_from
        self._long = struct.Struct(f"{order}I").unpack_from
        self._words = sys.byteorder == "little" and not big_endian
        """The client's words are this machine's, on the kind of machine that most are."""
        self._skip = 0
        """Bytes to come of a request that has been looked at."""
        self._head = b""
        """The beginning of a request that was cut before it could be looked at."""

    def scan(self, view: memoryview) -> None:
        """Change, in place, the names in ``view`` that are to be hidden."""
        size = len(view)
        at = self._skip
        if self._head and size:
            at = self._continue(view)
        if self._words and at < size:
            at = _plain(view, at)
        while at < size:
            # Of most requests only the length is read.
            length = self._length(view, at + 2)[0] * 4 if size - at >= 4 else 0
            if not length or view[at] == _QUERY_EXTENSION:
                length = self._look(bytes(view[at : at + _MOST]), view, at)
                if not length:
                    self._head = bytes(view[at:])
                    self._skip = 0
                    return
            at += length
        self._skip = at - size

    def _continue(self, view: memoryview) -> int:
        """Look at the request that was cut; where it ends in ``view``, its end if not there."""
        before = len(self._head)
        head = self._head + bytes(view[:_MOST])
        length = self._look(head[:_MOST], view, -before)
        if length:
            self._head = b""
            return length - before
        self._head = head
        return len(view)

    def _look(self, request: bytes, view: memoryview, at: int) -> int:
        """Bytes of the request that begins with ``request`` and stands at ``view[at]``; 0 if more
        of it has to come. If it asks for a hidden extension its name is changed."""
        if len(request) < 4:
            return 0
        length: int = self._length(request, 2)[0] * 4
        start = 4
        if not length:
            # BIG-REQUESTS: the length stands behind the head, and counts itself.
            if len(request) < 8:
                return 0
            length = self._long(request, 4)[0] * 4
            start = 8
        if request[0] == _QUERY_EXTENSION and length >= start + 4:
            if len(request) < start + 2:
                return 0
            end = start + 4 + self._length(request, start)[0]
            if end <= min(length, start + 4 + _LONGEST_HIDDEN):
                if len(request) < end:
                    return 0
                if request[start + 4 : end] in HIDDEN:
                    view[at + end - 1] = ord("?")
        return max(length, start)


def _plain(view: memoryview, at: int) -> int:
    """Where the first request stands, from ``view[at]`` on, that `_look` has to see or that is
    cut; behind ``view`` if there is none. Half the time of a look at each length as such."""
    words = view[at : at + (len(view) - at & ~3)].cast("I")
    count = len(words)
    place = 0
    while place < count:
        word = words[place]
        length = word >> 16
        if not length or word & 0xFF == _QUERY_EXTENSION:
            break
        place += length
    return at + 4 * place


_MOST = 8 + 4 + _LONGEST_HIDDEN
"""Bytes of a request after which it is known what it asks for."""
