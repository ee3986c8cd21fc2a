"""The table of a channel's life, walked: every input in every state (rows L3, L5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.core.lstp.ends import End
from tunnelkit.core.lstp.channel import (
    DISCARDING,
    SENDING,
    TABLE,
    Action,
    Input,
    State,
)
from tunnelkit.core.mux import contract as t
from tunnelkit.core.table import reachable
from tunnelkit.errors import Code, LocalProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import Message

LAST = lstp.ServiceData(b"", last=True)
UNTAKEN = lstp.ServiceData(b"kept", last=True)
ABORT = lstp.ServiceFreeRequest(Code.RESET, "gone")

MESSAGES: dict[Input, Message] = {
    Input.CONNECTION_ACK: lstp.ConnectionAck(),
    Input.CONNECTION_NACK: lstp.ConnectionNack(Code.REFUSED, "no"),
    Input.SERVICE_BEGIN_REQUEST: lstp.ServiceBeginRequest(),
    Input.SERVICE_BEGIN_ACK: lstp.ServiceBeginAck("tcp:b:2"),
    Input.SERVICE_BEGIN_NACK: lstp.ServiceBeginNack(Code.REFUSED, "no"),
    Input.SERVICE_DATA: lstp.ServiceData(b"hello"),
    Input.LAST_DATA: UNTAKEN,
    Input.SERVICE_DATA_PAUSE: lstp.ServiceDataPause(),
    Input.SERVICE_DATA_RESUME: lstp.ServiceDataResume(0, 262144),
    Input.SERVICE_FREE_REQUEST: lstp.ServiceFreeRequest(),
    Input.ABORT: ABORT,
    Input.SERVICE_FREE_ACK: lstp.ServiceFreeAck(),
    Input.ERROR: lstp.Error(Code.INTERNAL, "oops"),
    Input.MISPLACED: lstp.Shutdown(),
}
VERBS: dict[Input, Callable[[End, int], Sequence[t.Event]]] = {
    Input.OWN_ANSWER: lambda end, channel: end.mux.opened(channel, ""),
    Input.OWN_REFUSAL: lambda end, channel: end.mux.refuse(channel, Code.REFUSED, "no"),
    Input.OWN_END: lambda end, channel: end.mux.finish(channel, end.now),
}
LIVE = [state for state in State if state is not State.OVER]


def in_state(state: State, opener: bool) -> tuple[End, int]:
    """An end with a channel in ``state``, for which it asked (``opener``) or was asked."""
    end = End(True)
    end.hears(lstp.PropertyExchange())
    mux = end.mux
    if opener:
        channel = mux.open("tcp:a:1", end.now)
        if state in (State.REQUESTED, State.REQUESTED_ENDED):
            if state is State.REQUESTED_ENDED:
                mux.finish(channel, end.now)
            return ready(end, channel, state)
        end.hears(lstp.ConnectionAck(), channel)
        if state in (State.BEGINNING, State.BEGINNING_ENDED):
            if state is State.BEGINNING_ENDED:
                mux.finish(channel, end.now)
            return ready(end, channel, state)
        end.hears(lstp.ServiceBeginAck(), channel)
    else:
        channel = 2
        end.hears(lstp.ConnectionRequest(destination="tcp:a:1"), channel)
        if state is State.ADMITTED:
            return ready(end, channel, state)
        end.hears(lstp.ServiceBeginRequest(), channel)
        if state is State.DIALLING_ENDED:
            end.hears(LAST, channel)
        elif state is State.REFUSED:
            mux.refuse(channel, Code.REFUSED, "")
        if state in (State.DIALLING, State.DIALLING_ENDED, State.REFUSED):
            return ready(end, channel, state)
        mux.opened(channel, "")
    if state in (State.NEAR_ENDED, State.ENDED, State.CLOSING, State.LINGERING):
        mux.finish(channel, end.now)
    if state in (State.FAR_ENDED, State.ENDED, State.CLOSING, State.LINGERING):
        # What is not taken keeps the channel from being settled.
        end.eager = state is State.CLOSING
        end.hears(UNTAKEN, channel)
    if state is State.LINGERING:
        end.hears(lstp.ServiceFreeRequest(), channel)
    elif state is State.ABORTING:
        mux.abort(channel, Code.RESET, "", end.now)
    return ready(end, channel, state)


def ready(end: End, channel: int, state: State) -> tuple[End, int]:
    assert end.mux.live.by_id[channel].state is state
    end.says()
    end.events.clear()
    return end, channel


def state_of(end: End, channel: int) -> State:
    ch = end.mux.live.by_id.get(channel)
    return State.OVER if ch is None else ch.state


OPENERS = frozenset(
    {
        State.REQUESTED,
        State.REQUESTED_ENDED,
        State.BEGINNING,
        State.BEGINNING_ENDED,
        State.CLOSING,
    }
)
"""States in which only the opener can be."""
EITHERS = frozenset({State.OPEN, State.NEAR_ENDED, State.FAR_ENDED, State.ENDED, State.ABORTING})
CASES = [
    pytest.param(state, opener, id=f"{state.name}-{'opener' if opener else 'asked'}")
    for state in LIVE
    for opener in (True, False)
    if state in EITHERS or (state in OPENERS) is opener
]


@pytest.mark.parametrize("happened", MESSAGES)
@pytest.mark.parametrize(("state", "opener"), CASES)
def test_a_message_does_what_the_table_says_or_ends_the_channel(
    state: State, opener: bool, happened: Input
) -> None:
    end, channel = in_state(state, opener)
    end.eager = False
    end.hears(MESSAGES[happened], channel)
    entry = TABLE.get((state, happened))
    said = [(number, type(message)) for number, message in end.says()]
    assert end.all_of(t.TunnelEnded) == []
    if entry is None and state in DISCARDING:
        assert (said, end.events, state_of(end, channel)) == ([], [], state)
        return
    if entry is not None and entry[0] is Action.NOTE_FREE and opener:
        entry = None  # only the opener may ask, and it does not ask itself
    if entry is None:
        assert said == [(channel, lstp.Error)]
        assert state_of(end, channel) is State.OVER
        return
    action, after = entry
    assert state_of(end, channel) is after
    assert (lstp.Error not in dict(said).values(), t.Finished in map(type, end.events)) == (
        True,
        action is Action.NOTE_FAR_END,
    )
    assert ((channel, lstp.ServiceFreeAck) in said) == (action is Action.ACKNOWLEDGE)
    assert bool(end.all_of(t.ChannelOpened)) == (action is Action.REPORT_OPEN)
    assert bool(end.all_of(t.ChannelRequested)) == (action is Action.REPORT_REQUEST)
    if after is not State.OVER:
        may = end.mux.sendable(channel) > 0
        assert may == (after in SENDING and action is not Action.STOP_SENDING)


@pytest.mark.parametrize("wanted", VERBS)
@pytest.mark.parametrize(("state", "opener"), CASES)
def test_a_verb_does_what_the_table_says_or_is_misuse(
    state: State, opener: bool, wanted: Input
) -> None:
    end, channel = in_state(state, opener)
    entry = TABLE.get((state, wanted))
    if entry is None:
        with pytest.raises(LocalProtocolError):
            VERBS[wanted](end, channel)
        assert end.says() == []
        assert state_of(end, channel) is state
        return
    end.note(VERBS[wanted](end, channel))
    assert state_of(end, channel) is entry[1]
    assert bool(end.all_of(t.ChannelEnded)) == (wanted is Input.OWN_REFUSAL)


@pytest.mark.parametrize(("state", "opener"), CASES)
def test_an_abort_ends_a_channel_in_any_state(state: State, opener: bool) -> None:
    end, channel = in_state(state, opener)
    end.note(end.mux.abort(channel, Code.LIMIT, "enough", end.now))
    said = [type(message) for _, message in end.says()]
    if state in DISCARDING:
        assert (said, end.events) == ([], [])
        return
    known = state is not State.ADMITTED
    assert [(e.code, e.reason) for e in end.all_of(t.ChannelEnded)] == [
        (Code.LIMIT, "enough")
    ] * known
    assert state_of(end, channel) in DISCARDING
    if (state, Input.OWN_REFUSAL) in TABLE:
        assert said == [lstp.ServiceBeginNack]
    elif state is State.LINGERING:
        assert said == [lstp.ServiceFreeRequest, lstp.ServiceFreeAck]
    else:
        assert said == [lstp.ServiceFreeRequest]


@pytest.mark.parametrize(("state", "opener"), CASES)
def test_data_may_be_sent_where_the_table_says(state: State, opener: bool) -> None:
    end, channel = in_state(state, opener)
    assert (end.mux.sendable(channel) > 0) == ((state, Input.OWN_DATA) in TABLE)


@pytest.mark.parametrize(
    ("state", "opener", "action"),
    [
        (State.ENDED, True, Action.SEND_FREE),
        (State.LINGERING, False, Action.SEND_FREE_ACK),
    ],
)
def test_a_channel_is_settled_once_everything_is_taken(
    state: State, opener: bool, action: Action
) -> None:
    end, channel = in_state(state, opener)
    assert TABLE[state, Input.SETTLED][0] is action
    end.note(end.mux.consumed(channel, 3, end.now))
    assert (end.says(), state_of(end, channel)) == ([], state)
    end.note(end.mux.consumed(channel, 1, end.now))
    ((_, said),) = end.says()
    assert said == (lstp.ServiceFreeRequest() if opener else lstp.ServiceFreeAck())
    assert state_of(end, channel) is TABLE[state, Input.SETTLED][1]


@pytest.mark.parametrize("start", [State.REQUESTED, State.ADMITTED])
def test_every_channel_can_come_to_an_end(start: State) -> None:
    for state in reachable(TABLE, start):
        assert State.OVER in reachable(TABLE, state)


def test_every_input_and_action_is_in_the_table_and_tested() -> None:
    inputs = {happened for _, happened in TABLE}
    assert inputs == set(Input) - {Input.MISPLACED}
    assert {action for action, _ in TABLE.values()} == set(Action)
    assert set(MESSAGES) | set(VERBS) | {Input.OWN_ABORT, Input.OWN_DATA, Input.SETTLED} == set(
        Input
    )
    assert {case.values[0] for case in CASES} == set(LIVE)
