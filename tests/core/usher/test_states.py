"""Every input in every state of an Usher session does what the table says (FIG. 7, row U6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.core.usher.talk import FAR, Talk
from tunnelkit.core.mux import contract as t
from tunnelkit.core.table import reachable
from tunnelkit.core.usher.session import TABLE, Action, Input, State
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.wire.usher import (
    AddressType,
    Direction,
    Record,
    UsherAck,
    UsherClose,
    UsherCredit,
    UsherEnd,
    UsherOpen,
    UsherOpenReply,
    UsherRst,
    UsherSend,
    Version,
)

V1, V1_1 = Version.V1, Version.V1_1
OVER = (State.FREE, State.RESET)
READ = UsherClose(Direction.READ)
EARLY = (State.DIALLING, State.DIALLING_ENDED)
"""States in which the peer can name the session only in usher/1.1."""

RECORDS: dict[Input, Callable[[Version], Record]] = {
    Input.REPLY: lambda version: UsherOpenReply(FAR, None if version is V1 else ""),
    Input.REFUSAL: lambda version: UsherOpenReply(-1, "no"),
    Input.SEND: lambda version: UsherSend(b"data"),
    Input.ACK: lambda version: UsherAck(4) if version is V1 else UsherCredit(4, 262148),
    Input.CLOSE_READ: lambda version: READ,
    Input.CLOSE_WRITE: lambda version: UsherClose(Direction.WRITE),
    Input.CLOSE_BOTH: lambda version: UsherClose(Direction.BOTH),
    Input.RST: lambda version: UsherRst("reset"),
    Input.END: lambda version: UsherEnd("reset"),
}
VERBS: dict[Input, Callable[[Talk, int], Sequence[t.Event]]] = {
    Input.OWN_REPLY: lambda talk, number: talk.mux.opened(number, ""),
    Input.OWN_REFUSAL: lambda talk, number: talk.mux.refuse(number, Code.REFUSED, ""),
    Input.OWN_EOF: lambda talk, number: talk.mux.finish(number, 0.0),
}


def in_state(version: Version, state: State) -> tuple[Talk, int, int]:
    """A mux with one session in ``state``, the session's number, the peer's name for it."""
    talk = Talk(version)
    if state in EARLY:
        talk.hears((UsherOpen(AddressType.NAME, "web", 80), FAR))
        if state is State.DIALLING_ENDED:
            talk.hears((READ, -FAR))
        return talk, 1, -FAR
    number = talk.mux.open("tcp:web:80", 0.0)
    if state is State.ABANDONED:
        talk.mux.abort(number, Code.RESET, "", 0.0)
    elif state is State.PENDING_ENDED:
        talk.mux.finish(number, 0.0)
    elif state is not State.PENDING:
        talk.hears((RECORDS[Input.REPLY](version), number))
        talk.mux.send(number, b"0123456789", 0.0)
        if state in (State.WRITER_ACTIVE, State.INACTIVE):
            talk.mux.finish(number, 0.0)
        if state in (State.SESSION_ACTIVE, State.INACTIVE):
            talk.hears((READ, number))
    talk.said()
    return talk, number, number


STATES = [
    (version, state)
    for version in Version
    for state in State
    if state not in (*OVER, State.DATAGRAMS)
    and not (version is V1 and state in EARLY)
    and not (version is V1_1 and state is State.ABANDONED)
]


@pytest.mark.parametrize("happened", RECORDS)
@pytest.mark.parametrize(("version", "state"), STATES)
def test_a_record_does_what_the_table_says_or_ends_the_tunnel(
    version: Version, state: State, happened: Input
) -> None:
    talk, number, name = in_state(version, state)
    events = talk.hears((RECORDS[happened](version), name))
    kinds = [type(event) for event in events]
    entry = TABLE.get((state, happened))
    if entry is None:
        last = events[-1]
        assert isinstance(last, t.TunnelEnded)
        assert last.code is Code.PROTOCOL
        assert isinstance(talk.said()[-1][0], UsherEnd)
        return
    action, after = entry
    assert t.TunnelEnded not in kinds
    heard_of_end = t.ChannelEnded in kinds or state is State.ABANDONED
    assert heard_of_end == (after in (*OVER, State.ABANDONED))
    assert (number in talk.mux.channels()) == (not heard_of_end)
    assert (t.Finished in kinds) == (action is Action.NOTE_FAR_END)
    assert (t.ChannelOpened in kinds) == (action is Action.ESTABLISH)
    if not heard_of_end:
        sends = talk.mux.sendable(number) > 0
        early = version is V1_1 and after is State.PENDING
        assert sends == (after in (State.ACTIVE, State.SESSION_ACTIVE) or early)


@pytest.mark.parametrize("happened", RECORDS)
@pytest.mark.parametrize("version", Version)
def test_a_session_of_datagrams_is_an_id_and_nothing_more(
    version: Version, happened: Input
) -> None:
    talk = Talk(version)
    asked = UsherOpen(AddressType.IPV4, "10.0.0.53", 53, protocol=17)
    assert talk.hears((asked, FAR)) == []
    assert talk.said() == [(UsherOpenReply(1, None if version is V1 else ""), FAR)]
    assert list(talk.mux.channels()) == []
    entry = TABLE.get((State.DATAGRAMS, happened))
    events = talk.hears((RECORDS[happened](version), 1))
    if entry is None:
        assert isinstance(events[-1], t.TunnelEnded)
        assert events[-1].code is Code.PROTOCOL
        return
    assert events == []
    assert talk.said() == ([(UsherRst("reset"), FAR)] if entry[1] is State.RESET else [])
    # The peer's id is its own again, and the one here is late.
    assert talk.hears((READ, 1)) == []
    assert talk.hears((asked, FAR)) == []
    assert talk.said() == [(UsherOpenReply(2, None if version is V1 else ""), FAR)]


@pytest.mark.parametrize("happened", VERBS)
@pytest.mark.parametrize(
    ("version", "state"), [case for case in STATES if case[1] is not State.ABANDONED]
)
def test_a_verb_does_what_the_table_says_or_is_misuse(
    version: Version, state: State, happened: Input
) -> None:
    talk, number, _ = in_state(version, state)
    entry = TABLE.get((state, happened))
    if entry is None:
        with pytest.raises(LocalProtocolError):
            VERBS[happened](talk, number)
        assert number in talk.mux.channels()
        return
    events = VERBS[happened](talk, number)
    assert any(isinstance(event, t.ChannelEnded) for event in events) == (entry[1] in OVER)


@pytest.mark.parametrize(
    ("version", "state"), [case for case in STATES if case[1] is not State.ABANDONED]
)
def test_an_abort_ends_a_session_in_any_state(version: Version, state: State) -> None:
    talk, number, _ = in_state(version, state)
    (event,) = talk.mux.abort(number, Code.LIMIT, "enough", 0.0)
    assert isinstance(event, t.ChannelEnded)
    assert (event.channel, event.code, event.reason) == (number, Code.LIMIT, "enough")
    assert number not in talk.mux.channels()
    said = talk.said()
    if state in EARLY:
        assert said == [(UsherOpenReply(-1, "limit: enough"), FAR)]
    elif state in (State.PENDING, State.PENDING_ENDED):
        assert said == ([] if version is V1 else [(UsherRst("limit: enough"), -number)])
    else:
        assert said == [(UsherRst("limit: enough"), FAR)]


@pytest.mark.parametrize("start", [State.PENDING, State.DIALLING])
def test_every_session_can_come_to_an_end(start: State) -> None:
    for state in reachable(TABLE, start):
        if state not in OVER:
            assert set(OVER) & set(reachable(TABLE, state))


def test_the_table_has_what_fig_7_of_the_seed_has() -> None:
    """The transitions of the seed's figure, in its words."""
    figure = [
        (State.PENDING, Input.REPLY, State.ACTIVE),
        (State.PENDING, Input.REFUSAL, State.FREE),
        (State.ACTIVE, Input.OWN_EOF, State.WRITER_ACTIVE),
        (State.ACTIVE, Input.CLOSE_READ, State.SESSION_ACTIVE),
        (State.ACTIVE, Input.RST, State.RESET),
        (State.ACTIVE, Input.OWN_ABORT, State.RESET),
        (State.WRITER_ACTIVE, Input.CLOSE_READ, State.INACTIVE),
        (State.WRITER_ACTIVE, Input.OWN_ABORT, State.RESET),
        (State.WRITER_ACTIVE, Input.RST, State.RESET),
        (State.SESSION_ACTIVE, Input.OWN_ABORT, State.RESET),
        (State.SESSION_ACTIVE, Input.OWN_EOF, State.INACTIVE),
        (State.SESSION_ACTIVE, Input.RST, State.RESET),
    ]
    for state, happened, after in figure:
        assert TABLE[state, happened][1] is after
