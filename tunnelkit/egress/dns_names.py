"""Which names a peer has asked for, for the access log: each once a minute (row O1)."""

from __future__ import annotations

from typing import Any

from tunnelkit.errors import RemoteProtocolError
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.access_log import log_questions
from tunnelkit.wire import dns
from tunnelkit.wire.dns_addresses import dotted, read_name

WINDOW = 60.0
"""Seconds that are summed up."""
NAMES = 256
"""Names that get a line each in that time; the rest have one together."""

_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA"}
_TYPES |= {33: "SRV", 64: "SVCB", 65: "HTTPS", 255: "ANY"}
_CODES = {0: "noerror", 1: "formerr", 2: "servfail", 3: "nxdomain", 4: "notimp", 5: "refused"}
_REST = "(other names)"


class AskedNames:
    """What one channel of ``peer`` asks for."""

    def __init__(self, reactor: Any, peer: str) -> None:
        self._reactor = reactor
        self._peer = peer
        self._counts: dict[str, tuple[int, str]] = {}
        self._since = 0.0
        self._timer = Timer(reactor, self.tell)

    def note(self, query: bytes, answer: bytes) -> None:
        """``query`` has been answered."""
        name = _shown(query)
        if name not in self._counts and len(self._counts) >= NAMES:
            name = _REST
        if not self._counts:
            self._since = self._reactor.seconds()
            self._timer.start(WINDOW)
        code = dns.code_of(answer)
        count, _ = self._counts.get(name, (0, ""))
        self._counts[name] = (count + 1, _CODES.get(code, f"code-{code}"))

    def tell(self) -> None:
        """Log what has been noted; the time is up, or the channel over."""
        self._timer.stop()
        seconds = self._reactor.seconds() - self._since
        counts, self._counts = self._counts, {}
        for name, (count, outcome) in counts.items():
            log_questions(self._peer, name, count, outcome, seconds)


def _shown(query: bytes) -> str:
    """Name and type of the first question."""
    try:
        section = dns.parse_question(query).section
        name = dotted(read_name(section, 0))
        kind = int.from_bytes(section[-4:-2], "big")
    except RemoteProtocolError:
        return "(no name)"
    return f"{name}/{_TYPES.get(kind, f'TYPE{kind}')}"
