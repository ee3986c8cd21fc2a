"""The access log: an event for each channel once it is open, and one once it is over (rows O1, O8).

Both have the same ``id``, so that a channel leaves a trace even if this process is killed while
it is open. Channels that lead to many places have one for each of these as well: `log_datagrams`
for UDP, `log_questions` for names that were asked for.

An `AccessLog` is what a tunnel is given to report its channels to. The events' fields are for log
observers that write structures, such as the JSON lines of ``--log-json`` and the file of
``--audit``; their text is for people. The values in them that the far side chose are escaped, cut
at 256 bytes, and quoted where they have blanks (rule X14).
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from functools import lru_cache
from time import time
from typing import Any

from twisted.logger import Logger, LogLevel

from tunnelkit.net.channels.contracts import ChannelEvent, ChannelOpening, ChannelRecord
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.policy.printable import SHOWN_BYTES, printable

_log = Logger()

AT_ONCE = 9
"""Refusals of one peer within `WINDOW` that get a line each; one more line sums up the others."""
WINDOW = 1.0
"""Seconds."""
REMEMBERED = 256
"""Texts that need not be looked at again: the same names and rules are in line after line."""
MOST_PEERS = 1000
"""Peers whose refusals are told apart at a time."""

_ENVELOPE = {
    # Formatted already, once; observers that write fields leave out what begins with log_.
    "log_format": "{log_text}",
    "log_logger": _log,
    "log_level": LogLevel.info,
    "log_namespace": _log.namespace,
    "log_source": None,
}
_ADDRESS = re.compile(r"[0-9A-Za-z.:\[\]]{1,64}").fullmatch
"""What can be shown as it is: origins do not come again, so remembering them gains nothing."""
_OTHERS = "(other peers)"
_ATTRIBUTE = "_tunnelkit_access_log"
_RUN = secrets.token_hex(3)
"""Tells the ids of this process from those of the next one."""


class AccessLog:
    """Logs channels; one per reactor, see `of`.

    Fields of ``opened``: ``event``, ``id``, ``direction`` (``in``: the far side asked for it),
    ``peer``, ``destination``, ``rule`` (that allowed it), ``origin`` (the address that it came
    from). Of ``channel``, when it is over: those, and ``sent`` and ``received`` (bytes to and from
    the far side), ``seconds``, ``outcome``, ``reason``. A refused one was never open. Of
    ``refused``, where a peer is refused very often: ``direction``, ``peer``, ``count``,
    ``seconds``, and ``destination`` and ``outcome`` of the last.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._floods: dict[tuple[str, bool], _Flood] = {}
        self._timer = Timer(reactor, self._sum_up)

    @staticmethod
    def of(reactor: Any) -> AccessLog:
        """The one of ``reactor``."""
        log: AccessLog | None = getattr(reactor, _ATTRIBUTE, None)
        if log is None:
            log = AccessLog(reactor)
            setattr(reactor, _ATTRIBUTE, log)
        return log

    def __call__(self, event: ChannelEvent) -> None:
        """Log it."""
        if type(event) is ChannelOpening:
            fields = _opening(event)
        elif isinstance(event, ChannelRecord) and not (event.refused and self._floods_with(event)):
            fields = _record(event)
        else:
            return
        # What `Logger.info` does, in a third of the calls: this is done twice for every channel.
        _log.observer({**fields, **_ENVELOPE, "log_time": time()})

    def close(self) -> None:
        """Tell what has not been told yet."""
        if self._timer.running:
            self._sum_up()
            self._timer.stop()
            self._floods.clear()

    def _floods_with(self, record: ChannelRecord) -> bool:
        """Whether a refusal is one of so many that it is only counted."""
        key = (record.peer, record.inbound)
        flood = self._floods.get(key)
        if flood is None:
            if len(self._floods) >= MOST_PEERS:
                key = (_OTHERS, record.inbound)
            flood = self._floods.setdefault(key, _Flood())
        now: float = self._reactor.seconds()
        if not self._timer.running:
            self._timer.start(WINDOW)
        told = flood.told
        if len(told) < AT_ONCE or now - told[0] >= WINDOW:
            told.append(now)
            return False
        if not flood.count:
            flood.since = now
        flood.count += 1
        flood.last = record
        return True

    def _sum_up(self) -> None:
        now: float = self._reactor.seconds()
        floods, self._floods = self._floods, {}
        for key, flood in floods.items():
            if flood.last is not None:
                _log_flood(key[0], flood.last, flood.count, now - flood.since)
                flood.count, flood.last = 0, None
            if now - flood.told[-1] < WINDOW:
                self._floods[key] = flood
        if self._floods:
            self._timer.start(WINDOW)


class _Flood:
    """What one peer has been refused lately."""

    __slots__ = ("count", "last", "since", "told")

    def __init__(self) -> None:
        self.told: deque[float] = deque(maxlen=AT_ONCE)
        """When it had a line."""
        self.since = 0.0
        self.count = 0
        self.last: ChannelRecord | None = None


def outcome_of(record: ChannelRecord) -> str:
    """``done``, or ``refused-``, ``ended-`` with the wire's code, e.g. ``refused-not-allowed``."""
    if record.code is None:
        return "done"
    return f"{'refused' if record.refused else 'ended'}-{record.code}"


def _opening(opening: ChannelOpening) -> dict[str, object]:
    peer, said_peer = _shown(opening.peer)
    destination, said_destination = _shown(opening.destination)
    origin = said_origin = opening.origin
    if _ADDRESS(origin) is None:
        origin, said_origin = _shown(origin)
    direction = "in" if opening.inbound else "out"
    number = f"{_RUN}.{opening.serial}"
    text = (
        f"opened {direction} peer={said_peer} destination={said_destination} id={number}"
        + (f" rule={_quoted(opening.rule)}" if opening.rule else "")
        + (f" origin={said_origin}" if origin else "")
    )
    return {
        "log_text": text,
        "event": "opened",
        "id": number,
        "direction": direction,
        "peer": peer,
        "destination": destination,
        "rule": opening.rule,
        "origin": origin,
    }


def _record(record: ChannelRecord) -> dict[str, object]:
    peer, said_peer = _shown(record.peer)
    destination, said_destination = _shown(record.destination)
    reason, said_reason = _shown(record.reason)
    origin = said_origin = record.origin
    if _ADDRESS(origin) is None:
        origin, said_origin = _shown(origin)
    direction = "in" if record.inbound else "out"
    number = f"{_RUN}.{record.serial}"
    seconds = round(record.seconds, 3)
    outcome = "done" if record.code is None else outcome_of(record)
    text = (
        f"channel {direction} peer={said_peer} destination={said_destination}"
        f" sent={record.bytes_sent} received={record.bytes_received} seconds={seconds}"
        f" outcome={outcome} id={number}"
        + (f" rule={_quoted(record.rule)}" if record.rule else "")
        + (f" origin={said_origin}" if origin else "")
        + (f" reason={said_reason}" if reason else "")
    )
    return {
        "log_text": text,
        "event": "channel",
        "id": number,
        "direction": direction,
        "peer": peer,
        "destination": destination,
        "sent": record.bytes_sent,
        "received": record.bytes_received,
        "seconds": seconds,
        "outcome": outcome,
        "rule": record.rule,
        "origin": origin,
        "reason": reason,
    }


def _log_flood(peer: str, last: ChannelRecord, count: int, seconds: float) -> None:
    peer, said_peer = _shown(peer)
    destination, said_destination = _shown(last.destination)
    direction = "in" if last.inbound else "out"
    outcome = outcome_of(last)
    text = (
        f"refused {direction} peer={said_peer} count={count} seconds={seconds:.3f}"
        f" destination={said_destination} outcome={outcome}"
    )
    _emit(
        text,
        {
            "event": "refused",
            "direction": direction,
            "peer": peer,
            "count": count,
            "seconds": round(seconds, 3),
            "destination": destination,
            "outcome": outcome,
        },
    )


def log_datagrams(
    peer: str, destination: str, meant: str, sent: int, received: int, seconds: float
) -> None:
    """Log what has passed between a peer and one destination of UDP, once that is over.

    Fields: ``event`` (``datagrams``), ``direction`` (``in``), ``peer``, ``destination`` as the peer
    named it, ``meant`` (where that was; empty: there), ``sent`` and ``received`` (bytes to and from
    the peer), ``seconds`` from the first datagram to the last.
    """
    peer, destination, meant = printable(peer), printable(destination), printable(meant)
    text = (
        f"datagrams in peer={_quoted(peer)} destination={_quoted(destination)}"
        + (f" meant={_quoted(meant)}" if meant else "")
        + f" sent={sent} received={received} seconds={seconds:.3f}"
    )
    _emit(
        text,
        {
            "event": "datagrams",
            "direction": "in",
            "peer": peer,
            "destination": destination,
            "meant": meant,
            "sent": sent,
            "received": received,
            "seconds": round(seconds, 3),
        },
    )


def log_questions(peer: str, name: str, count: int, outcome: str, seconds: float) -> None:
    """Log how often a peer has asked this end's resolvers for one name within a while.

    Fields: ``event`` (``questions``), ``direction`` (``in``), ``peer``, ``name`` (with the type of
    record), ``count``, ``outcome`` (of the last), ``seconds`` (of the while).
    """
    peer, name = printable(peer), printable(name)
    text = (
        f"questions in peer={_quoted(peer)} name={_quoted(name)} count={count}"
        f" outcome={outcome} seconds={seconds:.3f}"
    )
    _emit(
        text,
        {
            "event": "questions",
            "direction": "in",
            "peer": peer,
            "name": name,
            "count": count,
            "outcome": outcome,
            "seconds": round(seconds, 3),
        },
    )


def _emit(text: str, fields: dict[str, object]) -> None:
    _log.observer({**fields, "log_text": text, **_ENVELOPE, "log_time": time()})


@lru_cache(maxsize=REMEMBERED)
def _shown(text: str) -> tuple[str, str]:
    """What of a text that the far side chose may be shown, and the same as one word."""
    safe = printable(text)
    return safe, _quoted(safe)


@lru_cache(maxsize=REMEMBERED)
def _quoted(text: str) -> str:
    """``text`` as one word: as it is, or in quotes if it could be taken for several fields."""
    if text and not (" " in text or '"' in text or "=" in text):
        return text
    inner = text.replace('"', "'")
    return f'"{inner[: SHOWN_BYTES - 2]}"'
