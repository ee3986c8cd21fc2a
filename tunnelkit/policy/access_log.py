"""The access log: one event for each channel once it is over (row O1, rule X14).

Channels that lead to many places have one for each of these as well: `log_datagrams` for UDP,
`log_questions` for names that were asked for.

`log_channel` is what a tunnel is given to report finished channels to. The
event's fields are for log observers that write structures, such as the JSON
lines of ``--log-json``; its text is for people. The values in it that the far
side chose are escaped, cut at 256 bytes, and quoted where they have blanks.
"""

from __future__ import annotations

from twisted.logger import Logger

from tunnelkit.net.channels.contracts import ChannelRecord
from tunnelkit.policy.printable import SHOWN_BYTES, printable

_log = Logger()


def outcome_of(record: ChannelRecord) -> str:
    """``done``, or ``refused-``, ``ended-`` with the wire's code, e.g. ``refused-not-allowed``."""
    if record.code is None:
        return "done"
    return f"{'refused' if record.refused else 'ended'}-{record.code}"


def log_channel(record: ChannelRecord) -> None:
    """Log one finished channel.

    Fields: ``event`` (``channel``), ``direction`` (``in``: the far side asked for it), ``peer``,
    ``destination``, ``sent`` and ``received`` (bytes to and from the far side), ``seconds``,
    ``outcome``, ``reason``.
    """
    peer = printable(record.peer)
    destination = printable(record.destination)
    reason = printable(record.reason)
    direction = "in" if record.inbound else "out"
    seconds = round(record.seconds, 3)
    outcome = outcome_of(record)
    text = (
        f"channel {direction} peer={_quoted(peer)} destination={_quoted(destination)}"
        f" sent={record.bytes_sent} received={record.bytes_received} seconds={seconds}"
        f" outcome={outcome}" + (f" reason={_quoted(reason)}" if reason else "")
    )
    # Formatted here, once, because this is done for every channel.
    _log.info(
        "{log_text}",
        event="channel",
        direction=direction,
        peer=peer,
        destination=destination,
        sent=record.bytes_sent,
        received=record.bytes_received,
        seconds=seconds,
        outcome=outcome,
        reason=reason,
        # Observers that write fields leave out what begins with log_.
        log_text=text,
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
    _log.info(
        "{log_text}",
        event="datagrams",
        direction="in",
        peer=peer,
        destination=destination,
        meant=meant,
        sent=sent,
        received=received,
        seconds=round(seconds, 3),
        log_text=text,
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
    _log.info(
        "{log_text}",
        event="questions",
        direction="in",
        peer=peer,
        name=name,
        count=count,
        outcome=outcome,
        seconds=round(seconds, 3),
        log_text=text,
    )


def _quoted(text: str) -> str:
    """``text`` as one word: as it is, or in quotes if it could be taken for several fields."""
    if text and not (" " in text or '"' in text or "=" in text):
        return text
    inner = text.replace('"', "'")
    return f'"{inner[: SHOWN_BYTES - 2]}"'
