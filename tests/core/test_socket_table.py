"""Tables of trusted sockets (rows T1 to T3): what is announced, what is valid, what has ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.core.socket_table import (
    LONGEST_TTL,
    SocketTable,
    TrustedSocket,
    is_trusted_socket,
)
from tunnelkit.errors import LocalProtocolError
from tunnelkit.wire import lstp
from tunnelkit.wire.lstp import Service

NAMES = st.text("abcdefg-.", min_size=1, max_size=8)
ENTRIES = st.lists(
    st.builds(
        TrustedSocket,
        name=NAMES,
        until=st.none() | st.floats(0, 2000),
        listen=st.none() | st.integers(1, 65535),
        destination=st.just("tcp:10.0.0.1:80"),
    ),
    max_size=12,
    unique_by=lambda entry: entry.name,
)


def table_of(*entries: TrustedSocket) -> SocketTable:
    table = SocketTable()
    for entry in entries:
        table.add(entry)
    return table


def test_the_announcement_has_names_ports_and_the_time_left_and_no_destination() -> None:
    table = table_of(
        TrustedSocket("web", until=130.0, listen=8080, destination="tcp:10.0.0.1:80"),
        TrustedSocket("git", destination="unix:/run/git.sock"),
    )
    assert table.announcement(100.0, Service) == (Service("web", 30.0, 8080), Service("git"))
    said = lstp.encode(lstp.PropertyExchange(services=table.announcement(100.0, Service)))
    assert b"10.0.0.1" not in said
    assert b"/run" not in said


def test_an_entry_is_valid_until_its_time_and_not_at_it() -> None:
    table = table_of(TrustedSocket("web", until=130.0))
    assert table.get("web", 129.9) is not None
    assert table.get("web", 130.0) is None
    assert table.announcement(130.0, Service) == ()
    assert table.next_deadline() == 130.0
    assert not table.expire(129.9)
    assert table.expire(130.0)
    assert len(table) == 0
    assert table.next_deadline() is None


def test_an_entry_is_replaced_and_withdrawn_by_name() -> None:
    table = table_of(TrustedSocket("web", listen=1), TrustedSocket("web", listen=2))
    assert [entry.listen for entry in table] == [2]
    assert table.withdraw("web")
    assert not table.withdraw("web")
    assert table.get("web", 0.0) is None


def test_the_copy_counts_validity_from_the_arrival_by_its_own_clock() -> None:
    copy = SocketTable()
    assert copy.take([Service("web", 30.0, 8080), Service("git")], 5000.0)
    assert copy.get("web", 5029.9) == TrustedSocket("web", 5030.0, 8080)
    assert copy.get("web", 5030.0) is None
    assert copy.get("git", 1e9) == TrustedSocket("git")
    assert copy.next_deadline() == 5030.0


def test_a_new_table_replaces_the_old_one_and_says_whether_more_than_times_changed() -> None:
    copy = SocketTable()
    assert not copy.take([], 0.0)
    assert copy.take([Service("web", 30.0)], 0.0)
    assert not copy.take([Service("web", 60.0)], 10.0)
    assert copy.get("web", 65.0) is not None
    assert copy.take([Service("web", 60.0, 8080)], 10.0)
    assert copy.take([Service("git")], 10.0)
    assert copy.get("web", 10.0) is None
    # What arrives with no time left was never valid.
    assert copy.take([Service("git", 0.0)], 10.0)
    assert len(copy) == 0


def test_a_table_is_never_larger_than_one_message_can_carry() -> None:
    table = SocketTable()
    for number in range(128):
        name = f"{number:03}" + "é" * 30 if number % 2 else f"{number:03}"
        table.add(TrustedSocket(name, until=1e9 + 0.123, listen=65535))
    lstp.encode(
        lstp.PropertyExchange(software="x" * 255, services=table.announcement(0.0, Service))
    )
    with pytest.raises(LocalProtocolError, match="more than 128"):
        table.add(TrustedSocket("one-more"))
    table.add(TrustedSocket("001" + "é" * 30, listen=1))
    with pytest.raises(LocalProtocolError, match="longer than 8192"):
        table_of(*(TrustedSocket(f"{number:03}" + "x" * 100) for number in range(80)))


def test_names_of_the_protocol_cannot_be_published() -> None:
    assert not is_trusted_socket("@dns")
    with pytest.raises(LocalProtocolError, match="@dns"):
        table_of(TrustedSocket("@dns"))


def test_what_is_valid_for_very_long_is_announced_for_as_long_as_a_message_can_say() -> None:
    table = table_of(TrustedSocket("web", until=1e12))
    said = lstp.PropertyExchange(services=table.announcement(0.0, Service))
    assert said.services == (Service("web", LONGEST_TTL),)
    assert lstp.decode(lstp.MessageType.PROPERTY_EXCHANGE, 0, said.body()) == said


@given(ENTRIES, st.floats(0, 2000), st.floats(-1e6, 1e6), st.floats(0, 2000))
def test_the_copy_is_valid_exactly_as_long_as_the_table_whatever_the_clocks_say(
    entries: list[TrustedSocket], sent: float, apart: float, later: float
) -> None:
    table = table_of(*entries)
    said = lstp.PropertyExchange(services=table.announcement(sent, Service))
    heard = lstp.decode(lstp.MessageType.PROPERTY_EXCHANGE, 0, said.body())
    assert isinstance(heard, lstp.PropertyExchange)
    copy = SocketTable()
    copy.take(heard.services or (), sent + apart)
    for entry in entries:
        # A thousandth of a second is the unit of what travels.
        near_its_end = entry.until is not None and abs(entry.until - (sent + later)) < 0.002
        if entry.is_valid(sent) and not near_its_end:
            known = copy.get(entry.name, sent + later + apart)
            assert (known is not None) == entry.is_valid(sent + later)
        elif not entry.is_valid(sent):
            assert copy.get(entry.name, sent + apart) is None
