"""What a Communication Server is doing, as numbers and as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from tunnelkit.core.secureproxy.server import CommunicationServer
from tunnelkit.net.role_status import metric, metric_by
from tunnelkit.net.secureproxy.joined import JoinedSessions
from tunnelkit.net.traffic import BROWSER, Traffic


@attrs.frozen
class ServerStatus:
    """What a server is doing, at one moment."""

    nameless: int = metric("nameless_open", "Connections that have not said what they want")
    clients: int = metric("clients_present", "Clients that are present")
    sessions: int = metric("sessions_open", "Sessions that have begun and are not over")
    bytes_relayed: int = metric("relayed_bytes_total", "Bytes passed on, both directions")
    rejected: Mapping[str, int] = metric_by(
        "reason", "handshakes_rejected_total", "Connections that came to nothing"
    )


def rows(core: CommunicationServer, joined: JoinedSessions) -> Iterator[Traffic]:
    """A row for each client that is present, and for each session."""
    for registration in tuple(core.registry):
        yield Traffic(
            id=f"client-{registration.name}",
            kind="client",
            who=registration.name,
            what=", ".join(registration.offers),
            origin=registration.connection.observed,
            seconds=None,
            sent=0,
            received=0,
            state="present",
        )
    for session in tuple(core.sessions.values()):
        sent, received = joined.flowed(session)
        target = session.peer or session.target
        yield Traffic(
            id=f"session-{session.id}",
            kind="session",
            who=session.origin or BROWSER,
            what=f"{target}/{session.resource}",
            origin=session.initiator.observed,
            seconds=None,
            sent=sent,
            received=received,
            state=session.state.name.lower(),
        )
