"""The fast path for data does what the other way does, and only for what it is meant for."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests import fuzz
from tests.core.mux.test_work_per_byte import inputs, lstp_mux, usher_mux
from tunnelkit.core.lstp.mux import LstpMux
from tunnelkit.core.mux import contract as t
from tunnelkit.core.mux.framing import FrameCutter
from tunnelkit.core.usher.mux import UsherMux
from tunnelkit.wire import lstp, usher
from tunnelkit.wire.usher import UsherOpenReply, UsherSend, Version


class Slow:
    """Takes the fast paths out of a mux."""

    @staticmethod
    def takes(size: int, flags: int, channel: int) -> bool:
        return False


def received_fast(mux: LstpMux | UsherMux, view: memoryview) -> t.Data | None:
    """What `receive_data` says of ``view``, as `receive` would have."""
    channel = mux.receive_data(view, 1.0)
    return t.Data(channel, view[mux.header_size :]) if channel else None


def kept(events: object) -> list[object]:
    """Events that outlive the bytes they came from, with data of a channel joined."""
    found: list[object] = []
    assert isinstance(events, (list, tuple))
    for event in events:
        last = found[-1] if found else None
        if not isinstance(event, (t.Data, t.Datagram)):
            found.append(event)
        elif isinstance(event, t.Datagram):
            found.append((*event[:3], bytes(event.data)))
        elif isinstance(last, tuple) and last[0] == "data" and last[1] == event.channel:
            found[-1] = ("data", event.channel, last[2] + bytes(event.data))
        else:
            found.append(("data", event.channel, bytes(event.data)))
    return found


def frames(data: bytes, name: str) -> list[bytes]:
    """``data`` cut at the ends of its frames, as far as it has any."""
    form = lstp.HEADER if name == "lstp" else usher.HEADER
    found = []
    while len(data) >= form.size and 0 <= form.unpack_from(data)[0] <= 1 << 20:
        end = form.size + form.unpack_from(data)[0]
        found.append(data[:end])
        data = data[end:]
    return [*found, data] if data else found


def opened(make: Callable[[], LstpMux | UsherMux]) -> LstpMux | UsherMux:
    """Whose first channel is connected."""
    mux = make()
    if isinstance(mux, LstpMux):
        said = lstp.encode(lstp.ConnectionAck(), 2) + lstp.encode(lstp.ServiceBeginAck(), 2)
    else:
        said = usher.encode(UsherOpenReply(9, ""), 1, Version.V1_1)
    mux.receive(memoryview(said), 0.0)
    return mux


@pytest.mark.parametrize(("name", "make"), [("lstp", lstp_mux), ("usher_1_1", usher_mux)])
def test_all_ways_lead_to_the_same(
    name: str, make: Callable[[], LstpMux | UsherMux], monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(9)
    fast = 0
    for data in inputs(name, fuzz.CASES // 10):
        pieces = frames(data, name) if dice.random() < 0.8 else [data]
        outcomes = []
        for way in ("fast", "usual", "slow"):
            mux = opened(make)
            events: list[t.Event] = []
            with monkeypatch.context() as patch:
                if way == "slow":
                    sink = mux.receiver if isinstance(mux, LstpMux) else mux
                    patch.setattr(sink, "takes", Slow.takes)
                for piece in pieces:
                    view = memoryview(piece)
                    event = received_fast(mux, view) if way == "fast" else None
                    fast += event is not None
                    events += mux.receive(view, 1.0) if event is None else [event]
            outcomes.append((kept(events), mux.data_to_send(), mux.budget.queued))
        assert outcomes[0] == outcomes[1] == outcomes[2], data.hex()
    assert fast >= 20


@pytest.mark.parametrize(
    "said",
    [
        lstp.encode(lstp.ServiceData(b"hello"), 2) + b"\0",
        lstp.encode(lstp.ServiceData(b"hello"), 2)[:-1],
        lstp.encode(lstp.ServiceData(b"hello", last=True), 2),
        lstp.encode(lstp.ServiceData(b"hello"), 4),
        lstp.encode(lstp.ServiceData(bytes(4001)), 2),
        lstp.encode(lstp.ServiceData(b""), 2),
        lstp.encode(lstp.ServiceDataPause(), 2),
    ],
)
def test_what_is_something_else_is_left_alone(said: bytes) -> None:
    mux = opened(lstp_mux)
    mux.data_to_send()
    assert received_fast(mux, memoryview(said)) is None
    assert mux.budget.queued == 0
    assert mux.data_to_send() == b""


def test_what_follows_part_of_a_message_is_no_message_of_its_own() -> None:
    mux = opened(lstp_mux)
    whole = lstp.encode(lstp.ServiceData(b"hello"), 2)
    for cut in (1, 11, 12, 14):
        (first, rest) = (whole + whole)[:cut], (whole + whole)[cut:]
        assert received_fast(mux, memoryview(whole)) == t.Data(2, memoryview(b"hello"))
        events = list(mux.receive(memoryview(first), 1.0))
        assert received_fast(mux, memoryview(whole)) is None
        events += mux.receive(memoryview(rest), 1.0)
        assert kept(events) == [("data", 2, b"hellohello")]


def test_a_tunnel_that_is_over_takes_nothing() -> None:
    for mux, said in (
        (opened(lstp_mux), lstp.encode(lstp.ServiceData(b"hello"), 2)),
        (opened(usher_mux), usher.encode(UsherSend(b"hello"), 1, Version.V1_1)),
    ):
        assert received_fast(mux, memoryview(said)) is not None
        mux.connection_lost(False, 1.0)
        assert received_fast(mux, memoryview(said)) is None


def test_usher_1_says_first_that_it_is_up() -> None:
    mux = UsherMux(Version.V1, usher_mux().config, 0.0)
    number = mux.open("tcp:web:80", 0.0)
    said = usher.encode(UsherSend(b"hello"), number, Version.V1)
    assert received_fast(mux, memoryview(said)) is None
    assert isinstance(mux.deadline_passed(0.0)[0], t.TunnelUp)


def test_a_length_that_is_too_large_is_for_the_other_way() -> None:
    mux = lstp_mux()
    cutter = FrameCutter(lstp.HEADER, lstp.MessageType.SERVICE_DATA, 3, lstp.check_header)
    said = memoryview(lstp.encode(lstp.ServiceData(b"long"), 2))
    assert not cutter.only_data(said, mux.receiver)
