"""No input makes the codec or the setup dialogues raise anything but a protocol error (R8)."""

from __future__ import annotations

import contextlib
import time

import pytest

from tests.fuzz import CASES
from tests.wire.fuzzing import cases, pieces
from tests.wire.test_lstp_vectors import VECTORS
from tunnelkit.core.lstp.middle import Command, Lobby, MiddleConnection
from tunnelkit.core.lstp.setup import Event, Partner, Setup, Verification, Verified
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.buffer import Frame, FrameReader
from tunnelkit.wire.lstp import HEADER_SIZE, Hop, decode, derive_common, encode

pytestmark = pytest.mark.timeout(120 + CASES // 200)

COMMON = derive_common(bytes(32), "x")
SETUPS = [
    Setup(COMMON, "bob", role, "there", 0.0, nonce="5" * 32).data_to_send()
    for role in ("server-end", "both")
]
STREAMS = [*SETUPS, VECTORS["property-exchange-empty"] + SETUPS[0], VECTORS["error"]]


def test_every_body_is_decoded_or_refused() -> None:
    seeds = [data[HEADER_SIZE:] for data in VECTORS.values()]
    accepted = 0
    for number, body in enumerate(cases(seeds)):
        kind = number % 16 + 1
        try:
            message = decode(kind, 0, body)
        except RemoteProtocolError:
            continue
        accepted += 1
        assert decode(kind, 0, encode(message)[HEADER_SIZE:]) == message
    assert accepted > CASES // 20


def test_every_stream_is_cut_or_refused_the_same_way_however_it_comes() -> None:
    def read(data: bytes, seed: int) -> tuple[list[Frame], str]:
        reader = FrameReader()
        frames: list[Frame] = []
        try:
            for piece in pieces(data, seed) if seed else [data]:
                reader.feed(piece)
                frames += iter(reader.next_frame, None)
        except RemoteProtocolError as error:
            return frames, str(error)
        return frames, reader.leftover.hex()

    for number, data in enumerate(cases(list(VECTORS.values()), seed=2)):
        assert read(data, 0) == read(data, number + 1)


def test_no_stream_breaks_an_end_in_clear() -> None:
    partners = 0
    for data in cases(STREAMS, seed=3):
        events: list[Event] = []
        setup = Setup(COMMON, "alice", "client-end", "", 0.0, nonce="8" * 32)
        try:
            events = setup.receive(data, 1.0)
        except RemoteProtocolError:
            assert len(setup.data_to_send()) > HEADER_SIZE
        partners += any(isinstance(event, Partner) for event in events)
    assert partners


def test_no_stream_breaks_an_end_inside_tls_and_only_the_true_one_is_verified() -> None:
    setup = Setup(COMMON, "alice", "client-end", "", 0.0, nonce="8" * 32)
    far = Setup(COMMON, "bob", "server-end", "there", 0.0, nonce="5" * 32)
    (partner,) = setup.receive(far.data_to_send(), 0.0)
    assert isinstance(partner, Partner)
    back = Partner(setup.info, setup.raw_info, (setup.hop,), False, b"")
    truth = Verification(far, back, "alice", ["alice"], 0.0).data_to_send()
    path = (Hop("alice", "client-end", "", "8" * 32), Hop("bob", "server-end", "there", "5" * 32))
    verified = 0
    for data in cases([truth, *STREAMS], seed=4):
        check = Verification(setup, partner, "bob", ["bob"], 0.0)
        try:
            events = check.receive(data, 1.0)
        except RemoteProtocolError:
            continue
        for event in events:
            if isinstance(event, Verified):
                verified += 1
                assert (event.peer, event.path) == ("bob", path)
                assert far.raw_info in data
    assert verified


def test_no_stream_breaks_the_lobby() -> None:
    lobby = Lobby("m", "")
    commands: list[Command] = []
    for number, data in enumerate(cases(SETUPS, seed=5)):
        connection = MiddleConnection(str(number % 50))
        now = number / 100
        commands += lobby.connected(connection, now)
        for piece in pieces(data, number):
            if connection.partner is None:
                commands += lobby.receive(connection, piece, now)
        commands += lobby.deadline_passed(now)
        if number % 3 == 0:
            commands += lobby.lost(connection, now)
        commands = commands[-10:]
    lobby.deadline_passed(CASES / 100 + 20)
    lobby.shut_down()
    assert (lobby.in_setup, lobby.waiting, lobby.pairs) == (0, 0, 0)
    assert lobby.next_deadline() is None


@pytest.mark.parametrize(
    "body",
    [
        b'"' * 16384,
        b'\\"' * 8192,
        b"[" * 16384,
        b'{"a":' * 3276,
        b'{"a":"' + b"\\u0000" * 2700 + b'"}',
        b'{"a":' + b"1" * 16000 + b"}",
        b'{"a":1e' + b"9" * 16000 + b"}",
        b"{" + b",".join(b'"%d":1' % number for number in range(1900)) + b"}",
        b'{"a":[' + b"[]," * 5000 + b"[]]}",
        b" " * 16384,
    ],
)
def test_the_worst_body_takes_milliseconds(body: bytes) -> None:
    started = time.process_time()
    for kind in (1, 2, 3, 4, 16):
        with contextlib.suppress(RemoteProtocolError):
            decode(kind, 0, body)
    assert time.process_time() - started < 0.5
