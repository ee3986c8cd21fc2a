"""Every LSTP message in every state of a channel, and on ids that are no channel's (row L3).

`EXPECTED` was written from the description of the protocol, not from the code. Each line is a
state, each column a message; the letters say what the peer sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.core.lstp.ends import End
from tunnelkit.core.mux import contract as t
from tunnelkit.errors import Code
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import Message

COMMON = "A" * 43
HOP = lstp.Hop("a", "both", "", "0" * 32)
ABORT = lstp.ServiceFreeRequest(Code.RESET, "gone")
ORDERLY = lstp.ServiceFreeRequest()

MESSAGES: list[Message] = [
    lstp.CommonUniqueInfo(COMMON, "a", "both"),
    lstp.TopologyExchange((HOP,)),
    lstp.PropertyExchange(),
    lstp.ConnectionRequest(destination="tcp:a:1"),
    lstp.ConnectionAck(),
    lstp.ConnectionNack(Code.REFUSED, "no"),
    lstp.ServiceBeginRequest(),
    lstp.ServiceBeginAck("tcp:b:2"),
    lstp.ServiceBeginNack(Code.REFUSED, "no"),
    lstp.ServiceData(b"hello"),
    lstp.ServiceDataPause(),
    lstp.ServiceDataResume(0, 262144),
    lstp.ServiceFreeRequest(),
    ABORT,
    lstp.ServiceFreeAck(),
    lstp.Shutdown(60),
    lstp.Error(Code.INTERNAL, "oops"),
]

# .  nothing is answered, the tunnel goes on     E  ERROR on that channel, which is over
# A  SERVICE_FREE_ACK                            F  ERROR with `fatal` on channel 0: all is over
# R  SERVICE_FREE_REQUEST                        K  CONNECTION_ACK
#
# Columns: COMMON_UNIQUE_INFO, TOPOLOGY_EXCHANGE, PROPERTY_EXCHANGE; CONNECTION_REQUEST, ACK, NACK;
# SERVICE_BEGIN_REQUEST, ACK, NACK; SERVICE_DATA, PAUSE, RESUME; SERVICE_FREE_REQUEST orderly,
# aborting, its ACK; SHUTDOWN, ERROR.
EXPECTED = {
    # The side that asked for the channel.
    "requested":                     "EEE F.. EEE EEE EEE E.",
    "begun here":                    "EEE FEE E.R E.. EAE E.",
    "begun here, finished":          "EEE FEE E.R E.. EAE E.",
    "open":                          "EEE FEE EEE ... EAE E.",
    "open, finished":                "EEE FEE EEE ... EAE E.",
    "open, far finished":            "EEE FEE EEE E.. EAE E.",
    "ended, not all taken here":     "EEE FEE EEE E.. EAE E.",
    "closing":                       "EEE FEE EEE E.. EA. E.",
    "aborting":                      "... F.. ... ... AA. ..",
    "aborted before its ACK":        "... F.. ... ... AA. ..",
    "aborting, crossed":             "... F.. ... ... AA. ..",
    "refused there":                 "... F.. ... ... AA. ..",
    "not admitted":                  "EEE FEE EEE E.. EE. E.",
    "over, opened here":             "EEE FEE EEE E.. EE. E.",
    "failed, opened here":           "... F.. ... ... ... ..",
    # A further connection was asked for.
    "joining":                       "EEE F.. EEE EEE EEE E.",
    # The side that was asked.
    "admitted":                      "EEE FEE .EE EEE EAE E.",
    "dialling":                      "EEE FEE EEE ... EAE E.",
    "dialling, far finished":        "EEE FEE EEE E.. EAE E.",
    "asked, open":                   "EEE FEE EEE ... EAE E.",
    "asked, finished":               "EEE FEE EEE ... EAE E.",
    "asked, far finished":           "EEE FEE EEE E.. EAE E.",
    "asked, ended":                  "EEE FEE EEE E.. AAE E.",
    "asked, ended, not all taken":   "EEE FEE EEE E.. .AE E.",
    "lingering":                     "EEE FEE EEE E.. EAE E.",
    "asked, aborting":               "... F.. ... ... AA. ..",
    "lingering, aborting":           "... F.. ... ... AA. ..",
    "refused here":                  "... F.. ... ... AA. ..",
    "not admitted here":             "... K.. ... ... ... ..",
    "freed":                         "... K.. ... ... ... ..",
    "asked, aborted there":          "EEE KEE EEE E.. EE. E.",
    "failed, asked":                 "... K.. ... ... ... ..",
    # No channel at all.
    "never used, theirs":            "EEE KEE EEE E.. EE. E.",
    "never used, ours":              "EEE FEE EEE E.. EE. E.",
    "the tunnel":                    "FF. FFF FFF FFF FFF ..",
    "the tunnel, not up":            "FF. FFF FFF FFF FFF F.",
    "any channel, not up":           "FFF FFF FFF FFF FFF FF",
}  # fmt: skip

UNTOLD = {"admitted"}
"""States in which the layer above does not know of the channel yet."""


def up(master: bool = True) -> tuple[End, int]:
    """An end whose tunnel is up, with one open channel that is a bystander."""
    end = End(master)
    end.hears(lstp.PropertyExchange())
    bystander = 2 if master else 1
    end.hears(lstp.ConnectionRequest(destination="tcp:bystander:1"), bystander)
    end.hears(lstp.ServiceBeginRequest(), bystander)
    end.note(end.mux.opened(bystander, "tcp:c:3"))
    return end, bystander


def opener(*messages: Message, finished: bool = False) -> End:
    """An end that asked for channel 1, and what it heard of it since."""
    end, _ = up()
    assert end.mux.open("tcp:a:1", end.now) == 1
    if finished:
        end.note(end.mux.finish(1, end.now))
    for message in messages:
        end.hears(message, 1)
    return end


def asked(*messages: Message) -> End:
    """An end that is asked for channel 3, and what it heard of it since."""
    end, _ = up(False)
    for message in (lstp.ConnectionRequest(destination="tcp:a:1"), *messages):
        end.hears(message, 3)
    return end


ACK, BEGIN, BEGUN = lstp.ConnectionAck(), lstp.ServiceBeginRequest(), lstp.ServiceBeginAck()
LAST = lstp.ServiceData(b"", last=True)
UNTAKEN = lstp.ServiceData(b"kept", last=True)


def lazy(end: End, message: Message, channel: int) -> End:
    """``message`` comes, and the application takes nothing of it."""
    end.eager = False
    end.hears(message, channel)
    return end


def connected(end: End, *, finished: bool = False) -> End:
    """LstpChannel 3 of one who was asked is connected."""
    end.note(end.mux.opened(3, ""))
    if finished:
        end.note(end.mux.finish(3, end.now))
    return end


def aborted(end: End, channel: int) -> End:
    end.note(end.mux.abort(channel, Code.RESET, "enough", end.now))
    return end


def hearing(end: End, message: Message, channel: int) -> End:
    end.hears(message, channel)
    return end


def joining() -> End:
    end, _ = up()
    assert end.mux.further.request(COMMON, end.now) == 1
    return end


def refused() -> End:
    end = asked(BEGIN)
    end.note(end.mux.refuse(3, Code.REFUSED, "no"))
    return end


def not_admitted() -> End:
    end, _ = up(False)
    end.hears(lstp.ConnectionRequest(destination="one", service="too many"), 3)
    return end


def ended_untaken() -> End:
    return lazy(connected(asked(BEGIN), finished=True), UNTAKEN, 3)


REACH: dict[str, Callable[[], tuple[End, int]]] = {
    "requested": lambda: (opener(), 1),
    "begun here": lambda: (opener(ACK), 1),
    "begun here, finished": lambda: (opener(ACK, finished=True), 1),
    "open": lambda: (opener(ACK, BEGUN), 1),
    "open, finished": lambda: (opener(ACK, BEGUN, finished=True), 1),
    "open, far finished": lambda: (opener(ACK, BEGUN, LAST), 1),
    "ended, not all taken here": lambda: (
        lazy(opener(ACK, BEGUN, finished=True), UNTAKEN, 1),
        1,
    ),
    "closing": lambda: (opener(ACK, BEGUN, LAST, finished=True), 1),
    "aborting": lambda: (aborted(opener(ACK, BEGUN), 1), 1),
    "aborted before its ACK": lambda: (aborted(opener(), 1), 1),
    "aborting, crossed": lambda: (opener(ACK, BEGUN, LAST, ABORT, finished=True), 1),
    "refused there": lambda: (opener(ACK, lstp.ServiceBeginNack(Code.REFUSED)), 1),
    "not admitted": lambda: (opener(lstp.ConnectionNack(Code.REFUSED)), 1),
    "over, opened here": lambda: (
        opener(ACK, BEGUN, LAST, lstp.ServiceFreeAck(), finished=True),
        1,
    ),
    "failed, opened here": lambda: (opener(BEGIN), 1),
    "joining": lambda: (joining(), 1),
    "admitted": lambda: (asked(), 3),
    "dialling": lambda: (asked(BEGIN), 3),
    "dialling, far finished": lambda: (asked(BEGIN, LAST), 3),
    "asked, open": lambda: (connected(asked(BEGIN)), 3),
    "asked, finished": lambda: (connected(asked(BEGIN), finished=True), 3),
    "asked, far finished": lambda: (connected(asked(BEGIN, LAST)), 3),
    "asked, ended": lambda: (connected(asked(BEGIN, LAST), finished=True), 3),
    "asked, ended, not all taken": lambda: (ended_untaken(), 3),
    "lingering": lambda: (hearing(ended_untaken(), ORDERLY, 3), 3),
    "asked, aborting": lambda: (aborted(connected(asked(BEGIN)), 3), 3),
    "lingering, aborting": lambda: (aborted(hearing(ended_untaken(), ORDERLY, 3), 3), 3),
    "refused here": lambda: (refused(), 3),
    "not admitted here": lambda: (not_admitted(), 3),
    "freed": lambda: (hearing(connected(asked(BEGIN, LAST), finished=True), ORDERLY, 3), 3),
    "asked, aborted there": lambda: (connected_and(ABORT), 3),
    "failed, asked": lambda: (connected_and(ACK), 3),
    "never used, theirs": lambda: (asked(), 5),
    "never used, ours": lambda: (asked(), 2),
    "the tunnel": lambda: (asked(), 0),
    "the tunnel, not up": lambda: (End(True), 0),
    "any channel, not up": lambda: (End(True), 2),
}


def connected_and(message: Message) -> End:
    return hearing(connected(asked(BEGIN)), message, 3)


ANSWERS = {
    "A": lstp.ServiceFreeAck,
    "R": lstp.ServiceFreeRequest,
    "K": lstp.ConnectionAck,
    "E": lstp.Error,
}


def cases() -> Iterator[tuple[str, Message, str]]:
    for state, line in EXPECTED.items():
        yield from (
            (state, message, seen)
            for message, seen in zip(MESSAGES, line.replace(" ", ""), strict=True)
        )


@pytest.mark.parametrize(
    ("state", "message", "seen"),
    [
        pytest.param(*case, id=f"{case[0]}-{case[1].type.name}-{index % len(MESSAGES)}")
        for index, case in enumerate(cases())
    ],
)
def test_what_the_peer_sees(state: str, message: Message, seen: str) -> None:
    end, channel = REACH[state]()
    open_before = set(end.mux.channels())
    bystander = next(iter(sorted(open_before - {channel})), None)
    told_before = {event.channel for event in end.all_of(t.ChannelEnded)}
    end.says()
    if seen == "K":
        end.now += 1
    end.events.clear()

    end.hears(message, channel)

    said = end.says()
    if seen == "F":
        assert [number for number, _ in said] == [0]
        assert isinstance(said[0][1], lstp.Error)
        assert (said[0][1].code, said[0][1].fatal) == (Code.PROTOCOL, True)
        assert isinstance(end.events[-1], t.TunnelEnded)
        assert end.events[-1].code is Code.PROTOCOL
        assert end.mux.channels() == []
        end.hears(lstp.Shutdown())
        assert (end.says(), end.mux.next_deadline()) == ([], None)
        return

    assert end.all_of(t.TunnelEnded) == []
    if seen == ".":
        assert said == []
    else:
        assert [(number, type(answer)) for number, answer in said] == [(channel, ANSWERS[seen])]
    if seen == "E":
        answer = said[0][1]
        assert isinstance(answer, lstp.Error)
        assert (answer.code, answer.fatal) == (Code.PROTOCOL, False)
        assert channel not in end.mux.channels()
        told = channel in open_before and state not in UNTOLD and channel not in told_before
        if told or state == "joining":
            assert [(e.channel, e.code) for e in end.all_of(t.ChannelEnded)] == [
                (channel, Code.PROTOCOL)
            ]
        else:
            assert end.all_of(t.ChannelEnded) == []
        # One ERROR is enough.
        end.hears(message, channel)
        assert end.says() == []
    assert set(end.mux.channels()) - {channel} == open_before - {channel}
    if bystander is not None:
        still_works(end, bystander)


def still_works(end: End, channel: int) -> None:
    end.events.clear()
    before = end.got.get(channel, b"")
    end.hears(lstp.ServiceData(b"still here"), channel)
    assert end.got[channel] == before + b"still here"
    end.mux.send(channel, b"too", end.now)
    assert (channel, lstp.ServiceData(b"too")) in end.says()
    assert end.events == []


def test_every_state_has_its_line() -> None:
    assert list(REACH) == list(EXPECTED)
    assert {message.type for message in MESSAGES} == set(lstp.MessageType)


ENDINGS: list[tuple[str, Message, Code | None, bool]] = [
    ("requested", lstp.ConnectionNack(Code.LIMIT, "why"), Code.LIMIT, True),
    ("requested", lstp.Error(Code.INTERNAL, "why"), Code.INTERNAL, False),
    ("joining", lstp.ConnectionNack(Code.LIMIT, "why"), Code.LIMIT, True),
    ("joining", lstp.Error(Code.INTERNAL, "why"), Code.INTERNAL, True),
    ("begun here", lstp.ServiceBeginNack(Code.NO_SUCH_HOST, "why"), Code.NO_SUCH_HOST, True),
    ("begun here", lstp.ServiceFreeRequest(Code.TIMED_OUT, "why"), Code.TIMED_OUT, False),
    ("open", lstp.ServiceFreeRequest(Code.RESET, "why"), Code.RESET, False),
    ("open", lstp.Error(Code.PROTOCOL, "why"), Code.PROTOCOL, False),
    ("closing", lstp.ServiceFreeAck(), None, False),
    ("closing", lstp.ServiceFreeRequest(Code.RESET, "why"), Code.RESET, False),
    ("closing", lstp.Error(Code.PROTOCOL, "why"), Code.PROTOCOL, False),
    ("dialling", lstp.ServiceFreeRequest(Code.RESET, "why"), Code.RESET, False),
    ("dialling", lstp.Error(Code.RESET, "why"), Code.RESET, False),
    ("asked, open", lstp.ServiceFreeRequest(Code.RESET, "why"), Code.RESET, False),
    ("asked, ended", lstp.ServiceFreeRequest(), None, False),
    ("asked, ended", lstp.ServiceFreeRequest(Code.RESET, "why"), Code.RESET, False),
    ("lingering", lstp.ServiceFreeRequest(Code.RESET, "why"), Code.RESET, False),
    ("lingering", lstp.Error(Code.INTERNAL, "why"), Code.INTERNAL, False),
]


@pytest.mark.parametrize(("state", "message", "code", "refused_"), ENDINGS)
def test_what_the_application_learns_of_the_end(
    state: str, message: Message, code: Code | None, refused_: bool
) -> None:
    end, channel = REACH[state]()
    end.events.clear()
    end.hears(message, channel)
    reason = "" if code is None else "why"
    assert end.all_of(t.ChannelEnded) == [t.ChannelEnded(channel, code, reason, refused_)]


@pytest.mark.parametrize("state", ["admitted", "aborting", "refused there", "refused here"])
def test_the_application_hears_of_an_end_once_or_not_at_all(state: str) -> None:
    end, channel = REACH[state]()
    end.events.clear()
    end.hears(lstp.Error(Code.RESET), channel)
    assert end.all_of(t.ChannelEnded) == []
    assert channel not in end.mux.channels()


@pytest.mark.parametrize("state", ["requested", "open", "closing", "dialling", "joining"])
def test_a_broken_error_ends_its_channel_and_is_not_answered(state: str) -> None:
    end, channel = REACH[state]()
    end.says()
    frame = lstp.encode_body(lstp.MessageType.ERROR, b"{", channel)
    end.note(end.mux.receive(memoryview(frame), end.now))
    assert end.says() == []
    assert [event.code for event in end.all_of(t.ChannelEnded)] == [Code.PROTOCOL]


def test_a_broken_error_on_the_tunnel_ends_it_and_is_not_answered() -> None:
    end, _ = REACH["open"]()
    end.says()
    frame = lstp.encode_body(lstp.MessageType.ERROR, b"{", 0)
    end.note(end.mux.receive(memoryview(frame), end.now))
    assert end.says() == []
    assert end.all_of(t.TunnelEnded)[0].code is Code.PROTOCOL


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("open", lstp.MessageType.SERVICE_DATA_RESUME),
        ("open", lstp.MessageType.SERVICE_FREE_REQUEST),
        ("begun here", lstp.MessageType.SERVICE_BEGIN_ACK),
        ("begun here", lstp.MessageType.SERVICE_BEGIN_NACK),
        ("requested", lstp.MessageType.CONNECTION_NACK),
        ("closing", lstp.MessageType.SERVICE_FREE_ACK),
        ("joining", lstp.MessageType.CONNECTION_ACK),
    ],
)
def test_a_message_that_cannot_be_read_ends_its_channel_only(
    state: str, kind: lstp.MessageType
) -> None:
    end, channel = REACH[state]()
    end.says()
    frame = lstp.encode_body(kind, b"[]", channel)
    end.note(end.mux.receive(memoryview(frame), end.now))
    assert [(number, type(answer)) for number, answer in end.says()] == [(channel, lstp.Error)]
    assert [event.code for event in end.all_of(t.ChannelEnded)] == [Code.PROTOCOL]
    still_works(end, 2)


def test_a_request_that_cannot_be_read_is_refused() -> None:
    end, _ = up(False)
    end.says()
    for body in (b"{", b'{"resource":"castle"}', b'{"destination":"a","service":"b"}'):
        frame = lstp.encode_body(lstp.MessageType.CONNECTION_REQUEST, body, 3)
        end.note(end.mux.receive(memoryview(frame), end.now))
        ((number, answer),) = end.says()
        assert isinstance(answer, lstp.ConnectionNack)
        assert (number, answer.code) == (3, Code.PROTOCOL)
    still_works(end, 1)
