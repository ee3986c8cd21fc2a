"""The independent LSTP peer against itself, through an honest and a lying middle."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.peers.certificates import TestAuthority
from tests.peers.lstp_channel import Channel, ChannelFailed
from tests.peers.lstp_messages import MAX_DATA, Json, PeerViolation, Type, encode
from tests.peers.lstp_peer import LstpPeer, RoleConflict, SetupMismatch
from tests.peers.lstp_serving import ServingEnd
from tests.peers.lstp_stream import ConnectionEnded, PeerError
from tests.peers.lying_middle import Lies, LyingMiddle
from tests.peers.misbehaving import MisbehavingPeer

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    authority = TestAuthority()
    directory = tmp_path_factory.mktemp("keys")
    return {
        name: authority.issue(name, directory / f"{name}.pem")
        for name in ("alice", "bob", "mallory")
    }


class Pair:
    """A misbehaving client end and an honest server end, each in its own thread."""

    def __init__(self, identities: dict[str, Path]) -> None:
        self.identities = identities
        self.pool = ThreadPoolExecutor(4)
        self.client = self.make("alice", "client-end", "low")
        self.server = self.make("bob", "server-end", "high")

    def make(
        self, name: str, role: str, nonce: str, properties: Json | None = None, tunnel: str = "t"
    ) -> MisbehavingPeer:
        return MisbehavingPeer(
            self.identities[name],
            tunnel=tunnel,
            name=name,
            peers={"alice", "bob"} - {name},
            role=role,
            nonce=nonce,
            properties=properties,
        )

    def up(self, middle: LyingMiddle) -> None:
        """Bring both ends up; raises what the client end raises, then what the server does."""
        ends = [
            self.pool.submit(peer.run_up, middle.host, middle.port)
            for peer in (self.client, self.server)
        ]
        errors = [end.exception(30) for end in ends]
        for error in errors:
            if error is not None:
                raise error

    def outcomes(self, middle: LyingMiddle) -> list[BaseException | None]:
        """What bringing both ends up ends with, client end first."""

        def run(peer: LstpPeer) -> None:
            try:
                peer.run_up(middle.host, middle.port)
            finally:
                if not peer.up:
                    peer.cut()

        ends = [self.pool.submit(run, peer) for peer in (self.client, self.server)]
        return [end.exception(30) for end in ends]

    def serve(self, target: tuple[str, int] | None = None) -> Future[None]:
        """Let the server end serve until the connection ends."""
        return self.pool.submit(ServingEnd(self.server, target).run, lambda: False)

    def close(self) -> None:
        self.client.cut()
        self.server.cut()
        self.pool.shutdown()


@pytest.fixture
def pair(identities: dict[str, Path]) -> Iterator[Pair]:
    ends = Pair(identities)
    yield ends
    ends.close()


@pytest.mark.parametrize("client_is_master", [True, False])
def test_either_end_can_be_master_and_both_see_the_same_path(
    pair: Pair, client_is_master: bool
) -> None:
    if not client_is_master:
        pair.client = pair.make("alice", "client-end", "high")
        pair.server = pair.make("bob", "server-end", "low")
    with LyingMiddle(waiting_signs=2) as middle:
        pair.up(middle)
    assert pair.client.master is client_is_master
    assert pair.server.master is not client_is_master
    assert pair.client.peer_name == "bob"
    assert pair.server.peer_name == "alice"
    assert [hop["name"] for hop in pair.client.path] == ["alice", "lying-middle", "bob"]
    assert pair.client.path == pair.server.path[::-1]
    assert pair.client.waiting_signs + pair.server.waiting_signs == 2
    assert all(passed[:1] == b"\x16" for passed in middle.passed.values())


@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize("compression", ["none", "zlib"])
def test_a_channel_echoes_more_than_its_window_and_ends_in_order(
    pair: Pair, pipelined: bool, compression: str
) -> None:
    settings: Json = {"compression": [compression], "window": 50_000}
    pair.client = pair.make("alice", "client-end", "low", settings)
    pair.server = pair.make("bob", "server-end", "high", settings)
    data = b"".join(b"line %d\n" % number for number in range(40_000))
    with LyingMiddle() as middle:
        pair.up(middle)
        served = pair.serve()
        channel = pair.client.open("tcp:192.0.2.1:7", pipelined=pipelined)
        echoed = bytearray()
        sent = 0
        while sent < len(data):
            sent += channel.send_some(data[sent : sent + 20_000])
            echoed += channel.receive(len(channel.inbox))
            if not channel.credit:
                pair.client.pump()
        channel.finish()
        echoed += channel.receive_all()
        channel.free()
        pair.client.close()
        served.result(10)
    assert bytes(echoed) == data
    assert channel.bound == "tcp:192.0.2.1:7"
    assert not pair.server.channels


def test_a_server_end_joins_channels_to_a_tcp_server_with_half_close(pair: Pair) -> None:
    def answer_after_end(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            data = b"".join(iter(lambda: sock.recv(65_536), b""))
            sock.sendall(data[::-1])

    with socket.create_server(("127.0.0.1", 0)) as listener, LyingMiddle() as middle:
        thread = threading.Thread(target=answer_after_end, args=(listener,), daemon=True)
        thread.start()
        pair.up(middle)
        served = pair.serve(listener.getsockname())
        channel = pair.client.open("tcp:127.0.0.1:9")
        channel.send(b"forwards")
        channel.finish()
        assert channel.receive_all() == b"sdrawrof"
        channel.free()
        pair.client.close()
        served.result(10)
        thread.join(10)


def test_refusal_of_the_application_ends_the_channel_and_frees_its_id(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        unused = listener.getsockname()
    with LyingMiddle() as middle:
        pair.up(middle)
        served = pair.serve(unused)
        channel = pair.client.open("tcp:127.0.0.1:9")
        with pytest.raises(ChannelFailed) as refused:
            channel.wait_open()
        channel.free()
        pair.client.close()
        served.result(10)
    assert refused.value.code == "refused"
    assert not pair.server.channels


def test_what_was_pipelined_behind_a_refused_request_is_ignored(pair: Pair) -> None:
    def refuse_first() -> Channel:
        pair.server.next_request().refuse("not-allowed", "no")
        return pair.server.accept()

    with LyingMiddle() as middle:
        pair.up(middle)
        served = pair.pool.submit(refuse_first)
        channel = pair.client.open("tcp:192.0.2.1:7")
        channel.send(b"early")
        with pytest.raises(ChannelFailed, match="not-allowed"):
            channel.wait_open()
        pair.client.open("tcp:192.0.2.1:7").wait_open()
        assert served.result(10).number == channel.number + 2


def test_crossing_aborts_are_each_acknowledged(pair: Pair) -> None:
    with LyingMiddle() as middle:
        pair.up(middle)
        accepted = pair.pool.submit(pair.server.accept)
        channel = pair.client.open("tcp:192.0.2.1:7")
        channel.wait_open()
        other = accepted.result(10)
        channel.abort("reset", "enough")
        other.abort("reset", "enough here too")
        waiting = pair.pool.submit(other.wait_freed)
        channel.wait_freed()
        waiting.result(10)


def test_shutdown_and_close_notify_are_seen_as_a_clean_end(pair: Pair) -> None:
    with LyingMiddle() as middle:
        pair.up(middle)
        pair.client.shutdown(grace=1, reason="done")
        pair.client.close()
        assert pair.server.wait_closed() is True
    assert pair.server.peer_shutdown == {"grace": 1, "reason": "done"}


# -- a middle that lies --------------------------------------------------------------------

MIDDLE_ALTERS: list[Lies] = [
    Lies(common={"common": "A" * 43}),
    Lies(common={"unique": "mallory"}),
    Lies(common={"role": "both"}),
    Lies(common={"extra": 1}),
    Lies(common_body=lambda body: body.replace(b":", b": ")),
    Lies(own_hop={"name": "mallory"}),
    Lies(own_hop={"role": "both"}),
    Lies(own_hop={"address": "elsewhere"}),
    Lies(own_hop={"nonce": "8" * 32}),
    Lies(middle_hop={"name": "another"}),
    Lies(middle_hop={"address": "another"}),
    Lies(middle_hop={"nonce": "1" * 32}),
    Lies(hops=lambda hops: [*hops, {**hops[-1], "name": "one more"}]),
]


@pytest.mark.parametrize("victim", ["alice", "bob"])
@pytest.mark.parametrize("lie", range(len(MIDDLE_ALTERS)))
def test_a_setup_altered_on_the_way_is_found_inside_tls(pair: Pair, victim: str, lie: int) -> None:
    with LyingMiddle({victim: MIDDLE_ALTERS[lie]}) as middle:
        errors = pair.outcomes(middle)
    assert any(isinstance(error, SetupMismatch) for error in errors), errors
    for error in errors:
        told = isinstance(error, PeerError) and error.code == "setup-mismatch"
        assert isinstance(error, SetupMismatch) or told, errors


def test_a_middle_that_makes_both_ends_master_gets_no_tunnel(pair: Pair) -> None:
    # Each end is told that the other's nonce is the highest one.
    lies = {name: Lies(own_hop={"nonce": "f" * 32}) for name in ("alice", "bob")}
    with LyingMiddle(lies) as middle:
        errors = pair.outcomes(middle)
    assert any(isinstance(error, ssl.SSLError) for error in errors), errors
    assert None not in errors


def test_equal_nonces_are_a_role_conflict(pair: Pair) -> None:
    pair.client = pair.make("alice", "client-end", "7" * 32)
    pair.server = pair.make("bob", "server-end", "7" * 32)
    with LyingMiddle() as middle:
        errors = pair.outcomes(middle)
    assert any(isinstance(error, RoleConflict) for error in errors), errors


def test_ends_of_two_tunnels_that_are_joined_notice_it(pair: Pair) -> None:
    pair.server = pair.make("bob", "server-end", "high", tunnel="another")
    with LyingMiddle(pair_anyone=True) as middle:
        errors = pair.outcomes(middle)
    assert any(isinstance(error, SetupMismatch) for error in errors), errors
    assert None not in errors


def test_an_end_that_is_not_an_allowed_peer_is_refused(pair: Pair) -> None:
    pair.client = pair.make("mallory", "client-end", "low")
    with LyingMiddle() as middle:
        errors = pair.outcomes(middle)
    assert isinstance(errors[1], SetupMismatch)
    assert "not an allowed peer" in str(errors[1])


def test_an_end_that_meets_its_own_key_refuses(pair: Pair) -> None:
    pair.server = pair.make("alice", "server-end", "high")
    with LyingMiddle() as middle:
        errors = pair.outcomes(middle)
    assert any(isinstance(error, RoleConflict) for error in errors), errors


def test_bytes_injected_behind_the_setup_reach_only_tls(pair: Pair) -> None:
    request = encode(Type.CONNECTION_REQUEST, 1, {"destination": "tcp:127.0.0.1:22"})
    for lies in (Lies(after_setup=request), Lies(inject={0: request}), Lies(inject={40: request})):
        pair.client = pair.make("alice", "client-end", "low")
        pair.server = pair.make("bob", "server-end", "high")
        with LyingMiddle({"alice": lies}) as middle:
            errors = pair.outcomes(middle)
        assert isinstance(errors[1], ssl.SSLError), errors
        assert not pair.server.incoming


def test_a_client_hello_in_one_segment_with_the_setup_is_understood(pair: Pair) -> None:
    with LyingMiddle({"alice": Lies(with_first_bytes=True)}) as middle:
        pair.up(middle)
    assert pair.server.up


def test_a_message_in_clear_before_the_partners_setup_is_a_violation(pair: Pair) -> None:
    sign = encode(Type.PROPERTY_EXCHANGE, body={"window": 1})
    with LyingMiddle({"alice": Lies(before_setup=sign)}) as middle:
        errors = pair.outcomes(middle)
    assert isinstance(errors[1], PeerViolation)


@pytest.mark.parametrize("lies", [Lies(cut_at=6_000), Lies(finish_at=6_000)])
def test_a_connection_ended_by_the_middle_is_not_a_clean_end(pair: Pair, lies: Lies) -> None:
    def read_all() -> None:
        pair.server.accept().receive_all()

    def write_all() -> None:
        channel = pair.client.open("tcp:192.0.2.1:7")
        channel.send(bytes(50_000))
        channel.receive_all()

    with LyingMiddle({"alice": lies}) as middle:
        pair.up(middle)
        reading = pair.pool.submit(read_all)
        writing = pair.pool.submit(write_all)
        with pytest.raises(ConnectionEnded) as client_end:
            writing.result(10)
        with pytest.raises(ConnectionEnded) as server_end:
            reading.result(10)
    assert client_end.value.clean is False
    assert server_end.value.clean is False


def test_an_altered_byte_of_ciphertext_ends_the_session(pair: Pair) -> None:
    with LyingMiddle({"alice": Lies(flip={6_000: 1})}) as middle:
        pair.up(middle)
        accepted = pair.pool.submit(lambda: pair.server.accept().receive_all())
        pair.client.open("tcp:192.0.2.1:7").send(bytes(50_000))
        with pytest.raises(ssl.SSLError):
            accepted.result(10)


def test_an_error_of_the_middle_is_seen_as_unsecured(pair: Pair) -> None:
    with LyingMiddle(refuse=("limit", "full")) as middle:
        errors = pair.outcomes(middle)
    assert [(e.code, e.secured) for e in errors if isinstance(e, PeerError)] == [
        ("limit", False)
    ] * 2


# -- an end that misbehaves ----------------------------------------------------------------

Misdeed = Callable[[MisbehavingPeer, Channel], None]
MISDEEDS: dict[str, tuple[Misdeed, str]] = {
    "length bomb": (lambda peer, channel: peer.send_length_bomb(), "4294967295 bytes"),
    "data too long": (
        lambda peer, channel: peer.send_just_too_long(Type.SERVICE_DATA),
        f"{MAX_DATA + 1} bytes",
    ),
    "structured too long": (
        lambda peer, channel: peer.send_just_too_long(Type.PROPERTY_EXCHANGE),
        "16385 bytes",
    ),
    "unknown type": (lambda peer, channel: peer.send_unknown_type(), "unknown type 17"),
    "not JSON": (lambda peer, channel: peer.send_body(Type.PROPERTY_EXCHANGE, b"{"), "JSON"),
    "not an object": (lambda peer, channel: peer.send_body(Type.SHUTDOWN, b"[]"), "object"),
    "not UTF-8": (lambda peer, channel: peer.send_body(Type.SHUTDOWN, b"\xff"), "UTF-8"),
    "wrong parity": (lambda peer, channel: peer.send_wrong_parity_request(), "parity"),
    "live id": (lambda peer, channel: peer.send_live_id_request(channel), "live id"),
    "beyond credit": (lambda peer, channel: peer.send_beyond_credit(channel), "granted were"),
    "resume beyond sent": (
        lambda peer, channel: peer.send_resume_beyond_sent(channel),
        "but only 6 were sent",
    ),
    "taken going back": (
        lambda peer, channel: peer.send_taken_going_back(channel),
        "taken went from 6 to 5",
    ),
    "limit going back": (lambda peer, channel: peer.send_limit_going_back(channel), "limit went"),
    "huge window": (lambda peer, channel: peer.send_huge_window(channel), "of window"),
    "compression": (lambda peer, channel: peer.send_unagreed_compression(channel), "not agreed"),
    "setup again": (lambda peer, channel: peer.send_bytes(peer.common_message), "is up"),
    "freed too early": (
        lambda peer, channel: peer.send(Type.SERVICE_FREE_REQUEST, channel.number),
        "before both directions ended",
    ),
}


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_the_strict_reader_notices_every_misdeed(pair: Pair, misdeed: str) -> None:
    def answer() -> None:
        channel = pair.server.accept()
        assert channel.receive(5) == b"hello"
        channel.send(b"answer")
        while True:
            channel.peer.pump()

    act, text = MISDEEDS[misdeed]
    with LyingMiddle() as middle:
        pair.up(middle)
        served = pair.pool.submit(answer)
        channel = pair.client.open("tcp:192.0.2.1:7")
        channel.send(b"hello")
        assert channel.receive(6) == b"answer"
        act(pair.client, channel)
        with pytest.raises(PeerViolation, match=text):
            served.result(10)


def test_a_request_before_properties_is_noticed(pair: Pair) -> None:
    def stop_short() -> None:
        peer = pair.client
        peer.connect(middle.host, middle.port)
        peer.send_setup()
        peer.wait_for_partner()
        peer.elect()
        peer.start_tls()
        peer.repeat_setup()
        peer.send_before_properties()

    with LyingMiddle() as middle:
        client = pair.pool.submit(stop_short)
        with pytest.raises(PeerViolation, match="PROPERTY_EXCHANGE is due"):
            pair.server.run_up(middle.host, middle.port)
        client.result(10)


@pytest.mark.parametrize(
    ("common", "hop"),
    [({"unique": "bob"}, None), ({"extra": 1}, None), ({}, (1, {"address": "x"}))],
)
def test_a_repeated_setup_that_differs_is_a_mismatch(
    pair: Pair, common: Json, hop: tuple[int, Json] | None
) -> None:
    pair.client.repeat_with = common
    pair.client.repeat_hop_with = hop
    with LyingMiddle() as middle:
        errors = pair.outcomes(middle)
    assert isinstance(errors[1], SetupMismatch)
    assert isinstance(errors[0], PeerError)
    assert (errors[0].code, errors[0].secured) == ("setup-mismatch", True)


def test_a_stream_cut_inside_a_message_is_not_a_clean_end(pair: Pair) -> None:
    with LyingMiddle() as middle:
        pair.up(middle)
        reading = pair.pool.submit(lambda: pair.server.accept().receive_all())
        channel = pair.client.open("tcp:192.0.2.1:7")
        channel.wait_open()
        pair.client.truncate(channel)
        with pytest.raises(ConnectionEnded) as end:
            reading.result(10)
    assert end.value.clean is False
