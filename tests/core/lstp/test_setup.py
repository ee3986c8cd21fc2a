"""The setup dialogue of an LSTP end, in clear and inside TLS."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.core.lstp.setup import (
    SETUP_TABLE,
    VERIFICATION_TABLE,
    Action,
    Input,
    Partner,
    Setup,
    State,
    Verification,
    Verified,
    complementary,
    new_nonce,
)
from tunnelkit.core.prologue import Refused
from tunnelkit.core.table import as_markdown, reachable, step
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.lstp import (
    HEADER_SIZE,
    CommonUniqueInfo,
    Error,
    Hop,
    PropertyExchange,
    ServiceData,
    Shutdown,
    TopologyExchange,
    decode,
    derive_common,
    encode,
    encode_body,
)

COMMON = derive_common(b"r" * 32, "office")
LOW, HIGH, OWN = "0" * 32, "f" * 32, "8" * 32
MIDDLES = (
    Hop("m2", "middle", "192.0.2.2:1", "2" * 32),
    Hop("m1", "middle", "192.0.2.1:1", "1" * 32),
)
KEEPALIVE = encode(PropertyExchange())


def make_setup(**changes: Any) -> Setup:
    settings: dict[str, Any] = {
        "common": COMMON,
        "unique": "alice",
        "role": "client-end",
        "address": "here",
        "now": 0.0,
        "nonce": OWN,
    }
    return Setup(**{**settings, **changes})


def far_info(**changes: Any) -> bytes:
    # A peer may write its JSON another way, with fields that nobody here knows.
    fields = {"later": [1], "version": 1, "common": COMMON, "unique": "bob", "role": "server-end"}
    return json.dumps({**fields, **changes}, indent=1).encode()


def far_hops(nonce: str = HIGH) -> tuple[Hop, ...]:
    return (Hop("bob", "server-end", "there", nonce), *MIDDLES)


def far_setup(nonce: str = HIGH, **changes: Any) -> bytes:
    return encode_body(1, far_info(**changes)) + encode(TopologyExchange(far_hops(nonce)))


def error_in(data: bytes) -> Error:
    message = decode(data[4], data[5], data[HEADER_SIZE:])
    assert isinstance(message, Error)
    assert message.fatal
    return message


def meet(nonce: str = HIGH) -> tuple[Setup, Partner]:
    setup = make_setup()
    setup.data_to_send()
    (event,) = setup.receive(far_setup(nonce), 1.0)
    assert isinstance(event, Partner)
    return setup, event


# -- in clear -------------------------------------------------------------


def test_an_end_sends_its_setup_and_then_waits() -> None:
    setup = make_setup(admission="let me in")
    hop = Hop("alice", "client-end", "here", OWN)
    assert setup.data_to_send() == encode(CommonUniqueInfo(COMMON, "alice", "client-end")) + encode(
        TopologyExchange((hop,), "let me in")
    )
    assert setup.data_to_send() == b""
    assert setup.next_deadline() == 45.0


@pytest.mark.parametrize(("nonce", "master"), [(HIGH, True), (LOW, False)])
def test_the_end_with_the_smaller_nonce_is_master(nonce: str, master: bool) -> None:
    setup, partner = meet(nonce)
    assert partner.master is master
    assert partner.info == CommonUniqueInfo(COMMON, "bob", "server-end")
    assert partner.raw_info == far_info()
    assert partner.hops == far_hops(nonce)
    assert partner.leftover == b""
    assert setup.next_deadline() is None


def test_two_ends_elect_exactly_one_master() -> None:
    near, far = make_setup(nonce=""), make_setup(unique="bob", role="both", nonce="")
    to_far, to_near = near.data_to_send(), far.data_to_send()
    (one,), (other,) = near.receive(to_near, 0.0), far.receive(to_far, 0.0)
    assert isinstance(one, Partner)
    assert isinstance(other, Partner)
    assert one.master is not other.master


def test_bytes_behind_the_partners_setup_are_left_for_tls() -> None:
    hello = bytes(range(256)) * 8
    (event,) = make_setup().receive(far_setup() + hello, 1.0)
    assert isinstance(event, Partner)
    assert event.leftover == hello


def test_a_long_wait_may_bring_any_number_of_keepalives_and_none_is_answered() -> None:
    setup = make_setup()
    setup.data_to_send()
    for minute in range(1, 10_000):
        assert setup.receive(KEEPALIVE, 15.0 * minute) == []
        assert setup.next_deadline() == 15.0 * minute + 45
    assert setup.data_to_send() == b""
    (event,) = setup.receive(far_setup(), 150_000.0)
    assert isinstance(event, Partner)


def test_45_seconds_of_silence_end_the_wait() -> None:
    setup = make_setup()
    setup.receive(KEEPALIVE, 10.0)
    # Half a message is not a sign of life.
    setup.receive(KEEPALIVE[:5], 40.0)
    assert setup.deadline_passed(54.9) == []
    (event,) = setup.deadline_passed(55.0)
    assert event == Refused(Code.TIMED_OUT, "nothing came from the middle for 45 seconds")
    assert setup.deadline_passed(60.0) == []


@pytest.mark.parametrize("before", [b"", KEEPALIVE, encode_body(1, far_info())])
def test_an_error_from_the_middle_is_reported(before: bytes) -> None:
    setup = make_setup()
    (event,) = setup.receive(before + encode(Error(Code.LIMIT, "full", fatal=True)), 1.0)
    assert event == Refused(Code.LIMIT, "full")
    with pytest.raises(LocalProtocolError):
        setup.receive(b"", 1.0)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (far_setup(common=derive_common(b"s" * 32, "office")), Code.SETUP_MISMATCH),
        (far_setup(role="client-end"), Code.SETUP_MISMATCH),
        (far_setup(nonce=OWN), Code.ROLE_CONFLICT),
        (far_setup(version=2), Code.PROTOCOL),
        (encode_body(1, far_info(), channel=1), Code.PROTOCOL),
        (encode_body(1, far_info()) * 2, Code.PROTOCOL),
        (encode_body(1, far_info()) + KEEPALIVE, Code.PROTOCOL),
        (encode(TopologyExchange(far_hops())), Code.PROTOCOL),
        (encode(PropertyExchange(window=1)), Code.PROTOCOL),
        (encode(ServiceData(b"x"), 1), Code.PROTOCOL),
        (encode(Shutdown()), Code.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\n", Code.PROTOCOL),
        (
            encode_body(1, far_info()) + encode(TopologyExchange(far_hops() + MIDDLES * 3)),
            Code.LIMIT,
        ),
        (encode_body(1, far_info()) + encode(TopologyExchange(MIDDLES)), Code.PROTOCOL),
        (encode_body(1, far_info()) + encode(TopologyExchange(far_hops() * 2)), Code.PROTOCOL),
    ],
)
def test_anything_else_in_clear_is_fatal_and_answered_by_error(data: bytes, code: Code) -> None:
    setup = make_setup()
    setup.data_to_send()
    with pytest.raises(RemoteProtocolError) as caught:
        setup.receive(data, 1.0)
    assert caught.value.code is code
    assert caught.value.state in {"WAITING", "NAMED"}
    assert error_in(setup.data_to_send()).code is code
    assert setup.next_deadline() is None
    with pytest.raises(LocalProtocolError):
        setup.receive(far_setup(), 1.0)


def test_eight_hops_are_accepted() -> None:
    hops = (*far_hops(), *(Hop(f"n{i}", "middle", "", "3" * 32) for i in range(5)))
    data = encode_body(1, far_info()) + encode(TopologyExchange(hops))
    (event,) = make_setup().receive(data, 1.0)
    assert isinstance(event, Partner)
    assert event.hops == hops


def test_a_nonce_is_fresh_each_time() -> None:
    assert new_nonce() != new_nonce()
    assert make_setup(nonce="").hop != make_setup(nonce="").hop


def test_both_complements_any_role() -> None:
    roles = ("client-end", "server-end", "both")
    refused = [(one, two) for one in roles for two in roles if not complementary(one, two)]
    assert refused == [("client-end", "client-end"), ("server-end", "server-end")]


@given(st.lists(st.integers(0, 1000)))
def test_any_split_of_the_input_gives_the_same_event(cuts: list[int]) -> None:
    data = KEEPALIVE * 3 + far_setup()
    whole = make_setup().receive(data, 1.0)
    setup = make_setup()
    events = []
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in itertools.pairwise(edges):
        events += setup.receive(data[start:end], 1.0)
    assert events == whole


# -- inside TLS -----------------------------------------------------------


def verification(nonce: str = HIGH, **changes: Any) -> Verification:
    setup, partner = meet(nonce)
    settings: dict[str, Any] = {
        "certificate_name": "bob",
        "allowed": {"bob", "carol"},
        "now": 10.0,
    }
    return Verification(setup, partner, **{**settings, **changes})


PATH = (Hop("alice", "client-end", "here", OWN), *reversed(far_hops()))


def far_proof() -> bytes:
    return encode_body(1, far_info()) + encode(TopologyExchange(tuple(reversed(PATH))))


def test_both_send_their_setup_again_and_find_it_unchanged() -> None:
    check = verification()
    sent = check.data_to_send()
    assert sent == encode(CommonUniqueInfo(COMMON, "alice", "client-end")) + encode(
        TopologyExchange(PATH)
    )
    assert [hop.name for hop in PATH] == ["alice", "m1", "m2", "bob"]
    (event,) = check.receive(far_proof() + b"mux", 11.0)
    assert event == Verified("bob", b"mux", PATH)
    assert check.next_deadline() is None


def test_two_ends_behind_two_middles_verify_each_other() -> None:
    near, far = make_setup(nonce=""), make_setup(unique="bob", role="server-end", nonce="")
    one, two = reversed(MIDDLES)

    def forward(setup: Setup, *middles: Hop) -> bytes:
        setup.data_to_send()
        return encode_body(1, setup.raw_info) + encode(TopologyExchange((setup.hop, *middles)))

    (to_near,) = near.receive(forward(far, two, one), 0.0)
    (to_far,) = far.receive(forward(near, one, two), 0.0)
    assert isinstance(to_near, Partner)
    assert isinstance(to_far, Partner)
    near_check = Verification(near, to_near, "bob", ["bob"], 0.0)
    far_check = Verification(far, to_far, "alice", ["alice"], 0.0)
    (near_event,) = near_check.receive(far_check.data_to_send(), 0.0)
    (far_event,) = far_check.receive(near_check.data_to_send(), 0.0)
    assert near_event == Verified("bob", b"", (near.hop, one, two, far.hop))
    assert far_event == Verified("alice", b"", (far.hop, two, one, near.hop))


def fails(check: Verification, data: bytes, code: Code = Code.SETUP_MISMATCH) -> None:
    check.data_to_send()
    with pytest.raises(RemoteProtocolError) as caught:
        check.receive(data, 11.0)
    assert caught.value.code is code
    assert error_in(check.data_to_send()).code is code


@pytest.mark.parametrize(
    "changes",
    [
        {"unique": "carol"},
        {"unique": "mallory"},
        {"role": "both"},
        {"role": "client-end"},
        {"common": derive_common(b"s" * 32, "office")},
        {"later": 1},
    ],
)
def test_any_change_of_common_unique_info_is_a_mismatch(changes: dict[str, Any]) -> None:
    fails(verification(), encode_body(1, far_info(**changes)))


def test_the_same_information_written_in_other_bytes_is_a_mismatch() -> None:
    fails(verification(), encode(CommonUniqueInfo(COMMON, "bob", "server-end")))


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "eve"), ("role", "both"), ("address", "elsewhere"), ("nonce", "9" * 32)],
)
def test_any_change_of_any_hop_is_a_mismatch(position: int, field: str, value: str) -> None:
    hops = [hop.fields() for hop in reversed(PATH)]
    hops[position][field] = value
    body = json.dumps({"hops": hops}).encode()
    fails(verification(), encode_body(1, far_info()) + encode_body(2, body))


@pytest.mark.parametrize(
    "hops",
    [PATH, PATH[:1], far_hops(), tuple(reversed(PATH))[:-1], (*reversed(PATH), MIDDLES[0])],
)
def test_another_path_is_a_mismatch(hops: tuple[Hop, ...]) -> None:
    fails(verification(), encode_body(1, far_info()) + encode(TopologyExchange(hops)))


@pytest.mark.parametrize(
    "changes",
    [{"certificate_name": "carol"}, {"allowed": {"carol"}}, {"allowed": ()}],
)
def test_a_name_that_is_not_the_certificates_or_not_allowed_is_a_mismatch(
    changes: dict[str, Any],
) -> None:
    fails(verification(**changes), far_proof())


def test_a_middle_that_changed_common_for_both_is_found_inside_tls() -> None:
    setup, partner = meet()
    other = make_setup(common=derive_common(b"s" * 32, "lab"))
    fails(Verification(other, partner, "bob", {"bob"}, 10.0), far_proof())
    assert setup.info.common == COMMON


def test_the_own_key_at_the_other_end_is_a_role_conflict() -> None:
    fails(verification(same_key=True), far_proof(), Code.ROLE_CONFLICT)


@pytest.mark.parametrize(
    "data",
    [
        KEEPALIVE,
        encode(TopologyExchange(PATH)),
        encode_body(1, far_info()) * 2,
        encode(ServiceData(b""), 1),
        encode_body(1, far_info(), channel=7),
    ],
)
def test_any_other_order_inside_tls_is_fatal(data: bytes) -> None:
    fails(verification(), data, Code.PROTOCOL)


def test_the_other_ends_refusal_is_reported() -> None:
    error = Error(Code.SETUP_MISMATCH, "paths differ", fatal=True)
    (event,) = verification().receive(encode_body(1, far_info()) + encode(error), 11.0)
    assert event == Refused(Code.SETUP_MISMATCH, "paths differ")


def test_an_end_that_says_nothing_inside_tls_is_given_up() -> None:
    check = verification()
    assert check.next_deadline() == 20.0
    (event,) = check.deadline_passed(20.0)
    assert event == Refused(Code.TIMED_OUT, "no setup came over TLS for 10 seconds")


# -- the tables -----------------------------------------------------------


@pytest.mark.parametrize("table", [SETUP_TABLE, VERIFICATION_TABLE])
def test_every_state_can_be_reached_and_only_the_listed_inputs_are_allowed(
    table: dict[tuple[State, Input], tuple[Action, State]],
) -> None:
    assert set(reachable(table, State.WAITING)) == set(State)
    for state in State:
        for happened in Input:
            if (state, happened) in table:
                assert step(table, state, happened) == table[state, happened]
            else:
                with pytest.raises(RemoteProtocolError) as caught:
                    step(table, state, happened, Code.INTERNAL)
                assert caught.value.code is Code.INTERNAL
                assert caught.value.state == state.name


def test_a_table_prints_one_row_per_entry() -> None:
    text = as_markdown(SETUP_TABLE)
    assert "| WAITING | KEEPALIVE | GO_ON_WAITING | WAITING |\n" in text
    assert text.count("\n") == 2 + len(SETUP_TABLE)
