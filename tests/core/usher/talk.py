"""One mux, and a peer that is written down record by record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunnelkit.core.mux import contract as t
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.core.usher.receiver import UsherConfig
from tunnelkit.wire.usher import HEADER, HEADER_SIZE, Record, UsherSettings, Version, decode, encode

FAR = 77
"""The peer's id of the session that a test is about."""


class Got(NamedTuple):
    """A `Data` whose bytes can be kept."""

    channel: int
    data: bytes


class Talk:
    """``hears`` gives the mux records, ``said`` is what it has sent since."""

    def __init__(self, version: Version = Version.V1, config: UsherConfig | None = None) -> None:
        self.version = version
        self.now = 0.0
        self.mux = UsherMux(version, config or UsherConfig(), 0.0)
        if version is Version.V1:
            assert self.mux.next_deadline() == 0.0
            assert self.mux.deadline_passed(0.0) == [t.TunnelUp()]
        else:
            self.hears((UsherSettings(), 0))
            self.said()

    def hears(self, *records: tuple[Record, int]) -> list[t.Event | Got]:
        """The events that the peer's records lead to."""
        data = b"".join(encode(record, session, self.version) for record, session in records)
        return self.hears_bytes(data)

    def hears_bytes(self, data: bytes) -> list[t.Event | Got]:
        """The same for bytes."""
        return kept(self.mux.receive(memoryview(data), self.now))

    def said(self) -> list[tuple[Record, int]]:
        """Records with their SESSION."""
        return records_in(self.mux.data_to_send(), self.version)


def kept(events: Sequence[t.Event]) -> list[t.Event | Got]:
    """Events whose data outlives the next ``receive``."""
    return [
        Got(event.channel, bytes(event.data)) if isinstance(event, t.Data) else event
        for event in events
    ]


def records_in(data: bytes, version: Version) -> list[tuple[Record, int]]:
    """All records in ``data``, which ends with a whole one."""
    records: list[tuple[Record, int]] = []
    while data:
        length, kind, session = HEADER.unpack_from(data)
        records.append((decode(kind, data[HEADER_SIZE : HEADER_SIZE + length], version), session))
        data = data[HEADER_SIZE + length :]
    return records
