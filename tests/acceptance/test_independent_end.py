"""An LSTP end that was written from the protocol description alone, against the real ones.

`tests.peers` shares no code with the package and checks every message it gets: if it can work
with the real ends, so can anybody else's; and what it does wrong must hurt nobody but itself.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.applications import Application, echo, expected, receive
from tests.acceptance.processes import Identities, Processes, Role
from tests.acceptance.tunnels import meeting
from tests.frontends.talk import BlackHole
from tests.peers.lstp_channel import Channel, ChannelFailed
from tests.peers.lstp_messages import LAST, MAX_EARLY, Json, Type, encode
from tests.peers.lstp_peer import LstpPeer
from tests.peers.lstp_serving import ServingEnd
from tests.peers.misbehaving import MisbehavingPeer

pytestmark = pytest.mark.timeout(60)

REFUSED = "tcp:127.0.0.1:1"
"""Allowed, and nobody listens there."""
UNRESOLVABLE = "tcp:nobody.invalid:80"
MIB = 1 << 20

ClientEnd = Callable[..., MisbehavingPeer]


@pytest.fixture(scope="module")
def echoes() -> Iterator[Application]:
    with Application(echo) as application:
        yield application


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """A destination that neither accepts nor refuses."""
    hole = BlackHole()
    yield f"tcp:127.0.0.1:{hole.port}"
    hole.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """One middle and one server end for all tests here: what one breaks, the next would notice."""
    processes = Processes(tmp_path_factory.mktemp("independent"))
    try:
        yield processes
    finally:
        try:
            processes.end()
        finally:
            print(processes.logs())


@pytest.fixture(scope="module")
def middle(running: Processes) -> Role:
    return running.role("lstp-middle", "--listen", "127.0.0.1:0")


@pytest.fixture(scope="module")
def server(
    running: Processes, identities: Identities, middle: Role, echoes: Application, silent: str
) -> Role:
    allowed = (echoes.destination, silent, REFUSED, UNRESOLVABLE)
    return running.role(
        "lstp-server-end", *meeting(middle), "--identity", identities("server"),
        "--peer", "client", "--peer", "other",
        *(word for rule in allowed for word in ("--allow", rule)),
    )  # fmt: skip


@pytest.fixture
def client_end(identities: Identities, middle: Role, server: Role) -> Iterator[ClientEnd]:
    """Makes independent client ends whose tunnel to the real server end is up."""
    made: list[MisbehavingPeer] = []

    def make(
        name: str = "client", nonce: str = "low", up: bool = True, properties: Json | None = None
    ) -> MisbehavingPeer:
        peer = MisbehavingPeer(
            identities(name),
            tunnel="test",
            name=name,
            peers={"server"},
            nonce=nonce,
            properties=properties,
        )
        made.append(peer)
        if up:
            peer.run_up("127.0.0.1", middle.port("listening on"))
        return peer

    yield make
    for peer in made:
        peer.cut()


def both_ways(channel: Channel, size: int) -> bytes:
    """Send ``size`` bytes of the test stream and read as they come back; the end of data too."""
    back = bytearray()
    sent = 0
    while sent < size:
        sent += channel.send_some(expected(sent, min(50_000, size - sent)))
        back += channel.take(len(channel.inbox))
        if not channel.credit:
            channel.peer.pump()
    channel.finish()
    return bytes(back + channel.receive_all())


def still_works(channel: Channel) -> bool:
    """Whether a channel echoes a few bytes."""
    channel.send(b"still there?")
    return channel.receive(12) == b"still there?"


# -- as client end ---------------------------------------------------------


@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize("nonce", ["low", "high"])
def test_a_client_end_opens_channels_as_master_or_not(
    client_end: ClientEnd, echoes: Application, nonce: str, pipelined: bool
) -> None:
    peer = client_end(nonce=nonce)
    assert peer.master is (nonce == "low")
    assert [hop["role"] for hop in peer.path] == ["client-end", "middle", "server-end"]
    channels = [peer.open(echoes.destination, pipelined=pipelined) for _ in range(3)]
    for number, channel in enumerate(channels):
        size = number * MIB + 1
        assert both_ways(channel, size) == expected(0, MIB)[:size] + b"".join(
            expected(at, min(MIB, size - at)) for at in range(MIB, size, MIB)
        )
        assert channel.bound.startswith("tcp:127.0.0.1:")
        channel.free()
    assert not peer.channels


def test_a_client_end_gets_an_answer_after_its_half_close(
    identities: Identities, client_end: ClientEnd, echoes: Application
) -> None:
    peer = client_end(properties={"window": 20_000})
    channel = peer.open(echoes.destination)
    channel.finish(b"x" * 100_000)
    # The near side has ended; five of its windows still come back.
    assert channel.receive_all() == b"x" * 100_000
    channel.free()


@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize(
    ("destination", "code"),
    [
        ("tcp:127.0.0.1:9", "not-allowed"),
        ("tcp:169.254.169.254:80", "not-allowed"),
        (REFUSED, "refused"),
        (UNRESOLVABLE, "no-such-host"),
        ("service:unheard-of", "no-such-service"),
        ("tcp:127.0.0.1:0", "protocol"),
        ("nonsense", "protocol"),
    ],
)
def test_a_refusal_says_why_and_leaves_the_other_channels(
    client_end: ClientEnd, echoes: Application, destination: str, code: str, pipelined: bool
) -> None:
    peer = client_end()
    other = peer.open(echoes.destination)
    channel = peer.request({"destination": destination})
    channel.begin()
    if pipelined:
        channel.send(b"sent before the answer, and ignored")
    with pytest.raises(ChannelFailed) as failed:
        channel.wait_open()
    assert failed.value.code == code
    channel.free()
    assert still_works(other)


def test_a_shutdown_lets_open_channels_finish(client_end: ClientEnd, echoes: Application) -> None:
    peer = client_end()
    channel = peer.open(echoes.destination)
    peer.shutdown(grace=20.0, reason="enough")
    assert both_ways(channel, 100_000) == expected(0, 100_000)
    channel.free()
    assert peer.wait_closed(), "the end of a drained tunnel is a clean one"


def test_a_shutdown_ends_what_does_not_finish_in_its_grace(
    client_end: ClientEnd, echoes: Application
) -> None:
    peer = client_end()
    channel = peer.open(echoes.destination)
    assert still_works(channel)
    began = time.monotonic()
    peer.shutdown(grace=0.5, reason="enough")
    peer.wait_closed()
    assert 0.4 < time.monotonic() - began < 5


# -- as server end ---------------------------------------------------------


@pytest.mark.parametrize("nonce", ["low", "high"])
def test_a_real_client_end_uses_an_independent_server_end(
    processes: Processes, identities: Identities, middle: Role, echoes: Application, nonce: str
) -> None:
    peer = LstpPeer(
        identities("server"),
        tunnel=f"other way round {nonce}",
        name="server",
        peers={"client"},
        role="server-end",
        nonce=nonce,
        properties={"window": 100_000},
    )
    served = ServingEnd(peer, ("127.0.0.1", echoes.port))
    over = threading.Event()

    def serve() -> None:
        peer.run_up("127.0.0.1", middle.port("listening on"))
        served.run(over.is_set)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = processes.role(
        "lstp-client-end", "--middle", middle.address("listening on"),
        "--tunnel", f"other way round {nonce}", "--identity", identities("client"),
        "--peer", "server", "--forward", "0=tcp:far.example:7",
    )  # fmt: skip
    try:
        for size in (1, 100, 3 * MIB):
            with socket.create_connection(("127.0.0.1", client.port("forward")), 20) as sock:
                sender = threading.Thread(target=send_and_finish, args=(sock, size))
                sender.start()
                for at in range(0, size, MIB):
                    piece = min(MIB, size - at)
                    assert receive(sock, piece) == expected(at, piece)
                assert sock.recv(1) == b""
                sender.join()
        assert served.destinations == ["tcp:far.example:7"] * 3
        assert client.process.stop() == 0
        assert peer.master is (nonce == "low")
    finally:
        over.set()
        thread.join(10)
        peer.cut()


def send_and_finish(sock: socket.socket, size: int) -> None:
    """Send so much of the test stream, and the end."""
    for at in range(0, size, MIB):
        sock.sendall(expected(at, min(MIB, size - at)))
    sock.shutdown(socket.SHUT_WR)


# -- who breaks the rules --------------------------------------------------

Break = Callable[[MisbehavingPeer, Channel], object]

FATAL: dict[str, Break] = {
    "length bomb": lambda peer, _: peer.send_length_bomb(),
    "length bomb in a structured message": lambda peer, _: peer.send_length_bomb(
        Type.CONNECTION_REQUEST
    ),
    "data one byte too long": lambda peer, _: peer.send_just_too_long(Type.SERVICE_DATA),
    "request one byte too long": lambda peer, _: peer.send_just_too_long(Type.CONNECTION_REQUEST),
    "unknown type": lambda peer, _: peer.send_unknown_type(),
    "type 0": lambda peer, _: peer.send_unknown_type(0),
    "setup once more": lambda peer, _: peer.send_bytes(peer.common_message),
    "an id of the other side": lambda peer, _: peer.send_wrong_parity_request(),
    "a live id": lambda peer, channel: peer.send_live_id_request(channel),
    "properties that are not JSON": lambda peer, _: peer.send_body(Type.PROPERTY_EXCHANGE, b"{"),
    "properties that are no object": lambda peer, _: peer.send_body(Type.PROPERTY_EXCHANGE, b"[]"),
    "properties that are not UTF-8": lambda peer, _: peer.send_body(
        Type.PROPERTY_EXCHANGE, b'{"software": "\xff"}'
    ),
}

FOR_ONE_CHANNEL: dict[str, Break] = {
    "more than the credit": lambda peer, channel: peer.send_beyond_credit(channel),
    "taken more than was sent": lambda peer, channel: peer.send_resume_beyond_sent(channel),
    "taken going back": lambda peer, channel: peer.send_taken_going_back(channel),
    "limit going back": lambda peer, channel: peer.send_limit_going_back(channel),
    "a window over 16 MiB": lambda peer, channel: peer.send_huge_window(channel),
    "compression that was not agreed": lambda peer, channel: peer.send_unagreed_compression(
        channel
    ),
    "begun twice": lambda peer, channel: peer.send(Type.SERVICE_BEGIN_REQUEST, channel.number),
    "an answer to nothing": lambda peer, channel: peer.send(Type.CONNECTION_ACK, channel.number),
    "freed before its end": lambda peer, channel: peer.send(
        Type.SERVICE_FREE_REQUEST, channel.number
    ),
    "acknowledged for nothing": lambda peer, channel: peer.send(
        Type.SERVICE_FREE_ACK, channel.number
    ),
    "data after the last data": lambda peer, channel: peer.send_bytes(
        encode(Type.SERVICE_DATA, channel.number, b"last", LAST)
        + encode(Type.SERVICE_DATA, channel.number, b"more")
    ),
}


@pytest.mark.parametrize("nonce", ["low", "high"])
@pytest.mark.parametrize("what", FATAL)
def test_who_breaks_the_tunnels_rules_is_thrown_out_and_nobody_else(
    client_end: ClientEnd, echoes: Application, what: str, nonce: str
) -> None:
    honest = client_end("other")
    kept = honest.open(echoes.destination)
    peer = client_end(nonce=nonce)
    channel = peer.open(echoes.destination)
    assert still_works(channel)
    FATAL[what](peer, channel)
    error = peer.expect_error()
    assert (error.code, error.secured) == ("protocol", True)
    assert still_works(kept)
    assert still_works(client_end().open(echoes.destination)), "it may come back and behave"


@pytest.mark.parametrize("what", FOR_ONE_CHANNEL)
def test_who_breaks_a_channels_rules_loses_that_channel(
    client_end: ClientEnd, echoes: Application, what: str
) -> None:
    peer = client_end()
    kept, channel = (peer.open(echoes.destination) for _ in range(2))
    assert still_works(kept)
    assert still_works(channel)
    FOR_ONE_CHANNEL[what](peer, channel)
    peer.pump_until(lambda: channel.failure is not None)
    assert channel.failure is not None
    assert channel.failure.code == "protocol"
    assert still_works(kept)


def test_an_opener_may_send_16_kib_before_its_channel_is_connected_and_no_more(
    client_end: ClientEnd, echoes: Application, silent: str
) -> None:
    peer = client_end()
    kept = peer.open(echoes.destination)
    moderate, greedy = peer.open(silent), peer.open(silent)
    peer.send_early(moderate, MAX_EARLY)
    peer.send_early(greedy, MAX_EARLY)
    peer.send_early(greedy, 1)
    peer.pump_until(lambda: greedy.failure is not None)
    assert greedy.failure is not None
    assert greedy.failure.code == "limit"
    assert moderate.failure is None
    assert still_works(kept)


def test_a_request_before_the_properties_is_fatal(client_end: ClientEnd, middle: Role) -> None:
    peer = client_end(up=False)
    peer.connect("127.0.0.1", middle.port("listening on"))
    peer.send_setup()
    peer.wait_for_partner()
    peer.elect()
    peer.start_tls()
    peer.repeat_setup()
    peer.send_before_properties()
    assert peer.next_message().type is Type.PROPERTY_EXCHANGE
    assert peer.expect_error().code == "protocol"


def test_who_speaks_before_a_partner_has_come_is_refused_by_the_middle(
    identities: Identities, middle: Role
) -> None:
    peer = MisbehavingPeer(identities("client"), tunnel="lonely", name="client", peers={"server"})
    peer.connect("127.0.0.1", middle.port("listening on"))
    peer.send_setup()
    peer.speak_before_partner()
    error = peer.expect_error()
    assert (error.code, error.secured) == ("protocol", False)


LIES_ABOUT_ITSELF: list[tuple[Json, tuple[int, Json] | None]] = [
    ({"unique": "other"}, None),
    ({"role": "both"}, None),
    ({"version": 2}, None),
    ({"common": "A" * 43}, None),
    ({"more": "fields"}, None),
    ({}, (0, {"name": "somebody"})),
    ({}, (0, {"nonce": "0" * 32})),
    ({}, (1, {"name": "another middle"})),
    ({}, (1, {"address": "elsewhere"})),
    ({}, (2, {"address": "elsewhere"})),
]


@pytest.mark.parametrize(("common", "hop"), LIES_ABOUT_ITSELF)
def test_an_end_that_says_one_thing_in_clear_and_another_over_tls_gets_no_tunnel(
    client_end: ClientEnd, middle: Role, common: Json, hop: tuple[int, Json] | None
) -> None:
    peer = client_end(up=False)
    peer.repeat_with = common
    peer.repeat_hop_with = hop
    peer.connect("127.0.0.1", middle.port("listening on"))
    peer.send_setup()
    peer.wait_for_partner()
    peer.elect()
    peer.start_tls()
    peer.send_bytes(peer.repeated_setup())
    error = peer.expect_error()
    assert error.code in ("setup-mismatch", "protocol")
    assert error.secured
    assert client_end().up, "it may come back and say the truth"


def test_a_connection_that_is_cut_resets_its_channels_only(
    client_end: ClientEnd, echoes: Application
) -> None:
    honest = client_end("other")
    kept = honest.open(echoes.destination)
    peer = client_end()
    channel = peer.open(echoes.destination)
    assert still_works(channel)
    peer.truncate(channel)
    assert still_works(kept)


@pytest.mark.parametrize("destination", ["tcp:127.0.0.1:9", REFUSED, "service:unheard-of", "?"])
def test_a_request_that_is_taken_back_at_once_disturbs_nothing(
    client_end: ClientEnd, echoes: Application, destination: str
) -> None:
    peer = client_end()
    kept = peer.open(echoes.destination)
    assert still_works(kept)
    number = kept.number + 2
    abort = encode(Type.SERVICE_FREE_REQUEST, number, {"code": "reset", "reason": "never mind"})
    opening = encode(Type.CONNECTION_REQUEST, number, {"destination": destination}) + encode(
        Type.SERVICE_BEGIN_REQUEST, number, {}
    )
    # All in one TLS record: the other end learns of request and end at the same time.
    peer.forget(Channel(peer, number, True, {}, 0, 0), ignore=True)
    peer.send_bytes((opening + abort) * 3)
    assert still_works(kept)


def test_a_flood_of_opens_that_are_aborted_leaves_other_tunnels_alone(
    client_end: ClientEnd, echoes: Application
) -> None:
    honest = client_end("other")
    kept = honest.open(echoes.destination)
    peer = client_end()
    for _ in range(3_000):
        channel = peer.request({"destination": echoes.destination})
        channel.begin()
        channel.abort()
        while peer.poll():
            pass
    began = time.monotonic()
    assert still_works(kept)
    assert time.monotonic() - began < 2
    peer.pump_until(lambda: not peer.channels)
    assert still_works(honest.open(echoes.destination))
