"""A middle that lies to real ends: they notice, and no byte of an application goes its way.

Rules X3, X4, X5 and X11. Each lie has a tunnel of its own, and all tunnels of a test run at
the same time, in one process for all client ends and one for all server ends. The numbers of
lies are small; TUNNELKIT_FUZZ=full takes as many as the rules ask for.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from tests.acceptance.applications import Application, Received, echo, pour, wait_until
from tests.acceptance.crowd import Crowd, start_crowd
from tests.acceptance.processes import Identities, Processes
from tests.peers.lstp_messages import HEADER, Type, encode
from tests.peers.lstp_peer import LstpPeer, RoleConflict
from tests.peers.lstp_stream import ConnectionEnded, PeerError
from tests.peers.lying_middle import Lies, LyingMiddle

pytestmark = pytest.mark.timeout(100)

FULL = os.environ.get("TUNNELKIT_FUZZ") == "full"
ALTERED_SETUPS = 300 if FULL else 60
INJECTIONS = 1_000 if FULL else 60
AT_ONCE = 60
"""Tunnels at the same time."""
KIB = 1 << 10


@contextlib.contextmanager
def hostile(
    processes: Processes,
    identities: Identities,
    middles: Sequence[LyingMiddle],
    target: str,
    server_identity: str = "server",
) -> Iterator[Crowd]:
    """A tunnel ``tN`` through each of the middles."""
    with contextlib.ExitStack() as stack:
        for middle in middles:
            stack.enter_context(middle)
        places = [f"{middle.host}:{middle.port}" for middle in middles]
        crowd = start_crowd(processes, identities, places, target, server_identity)
        yield crowd
        for process in crowd.processes:
            process.stop()


def came_back(middle: LyingMiddle) -> bool:
    """Two ends have met, and at least one of them has given that up and met another again."""
    return len(middle.pairings) >= 2


# -- altered setups --------------------------------------------------------

SETUP: list[Lies] = [
    Lies(common={"version": 2}),
    Lies(common={"version": "1"}),
    Lies(common={"common": "A" * 43}),
    Lies(common={"common": "short"}),
    Lies(common={"unique": "mallory"}),
    Lies(common={"unique": ""}),
    Lies(common={"role": "both"}),
    Lies(common={"role": "middle"}),
    Lies(common={"role": "nobody"}),
    Lies(common={"one": "more"}),
    Lies(common_body=lambda body: body.replace(b"{", b"{ ")),
    Lies(common_body=lambda body: body + b" "),
    Lies(common_body=lambda body: b"{}"),
    Lies(common_body=lambda body: b""),
    Lies(own_hop={"name": "mallory"}),
    Lies(own_hop={"role": "middle"}),
    Lies(own_hop={"role": "both"}),
    Lies(own_hop={"address": "elsewhere"}),
    Lies(own_hop={"nonce": "0" * 32}),
    Lies(own_hop={"nonce": "f" * 32}),
    Lies(own_hop={"nonce": "0"}),
    Lies(middle_hop={"name": "another"}),
    Lies(middle_hop={"role": "client-end"}),
    Lies(middle_hop={"address": "192.0.2.7:7"}),
    Lies(middle_hop={"nonce": "1" * 32}),
    Lies(hops=lambda hops: hops[:1]),
    Lies(hops=lambda hops: hops[1:]),
    Lies(hops=lambda hops: hops[::-1]),
    Lies(hops=lambda hops: [*hops, hops[-1]]),
    Lies(hops=lambda hops: []),
]
"""Every field of the two messages of the setup, and their shape."""


def altered_setups() -> list[dict[str, Lies]]:
    """Each lie in each direction, then any byte of COMMON_UNIQUE_INFO at random."""
    found = [{name: lies} for name in ("client", "server") for lies in SETUP]
    dice = random.Random(1)
    while len(found) < ALTERED_SETUPS:
        sender = dice.choice(("client", "server"))
        found.append({sender: Lies(common_body=flipped(dice.random(), 1 << dice.randrange(8)))})
    return found


def flipped(where: float, bits: int) -> Callable[[bytes], bytes]:
    """Rewrites a body: flips bits of the byte at that share of it."""

    def flip(body: bytes) -> bytes:
        changed = bytearray(body)
        changed[int(where * len(changed))] ^= bits
        return bytes(changed)

    return flip


def in_turn(lies: list[dict[str, Lies]]) -> list[list[dict[str, Lies]]]:
    """As many as run at the same time."""
    return [lies[start : start + AT_ONCE] for start in range(0, len(lies), AT_ONCE)]


@pytest.mark.parametrize("lies", in_turn(altered_setups()), ids=lambda lies: f"{len(lies)} lies")
def test_no_tunnel_comes_up_over_an_altered_setup(
    processes: Processes, identities: Identities, lies: list[Mapping[str, Lies]]
) -> None:
    with Application(pour) as canary:
        honest = LyingMiddle()
        middles = [honest, *(LyingMiddle(lie) for lie in lies)]
        with hostile(processes, identities, middles, canary.destination) as ends:
            assert wait_until(lambda: 0 in ends.up()), "the one without a lie"
            assert wait_until(lambda: all(map(came_back, middles[1:])))
            assert ends.up() == {0}
            for process in ends.processes:
                why = " ".join(process.lines)
                if any(lie.own_hop for lying in lies for lie in lying.values()):
                    assert "COMMON_UNIQUE_INFO is not what came in clear" in why
                    assert "the two ends saw different paths" in why
                assert "Traceback" not in why
        assert canary.accepted == 0


# -- bytes around the switch to TLS ----------------------------------------


def injections(canary: str) -> list[dict[str, Lies]]:
    """Frames and rubbish, before, behind and inside the first bytes of TLS."""
    dice = random.Random(2)
    found: list[dict[str, Lies]] = [{"server": Lies(finish_at=place)} for place in (0, 100, 1_500)]
    request = encode(Type.CONNECTION_REQUEST, 1, {"destination": canary})
    begin = encode(Type.SERVICE_BEGIN_REQUEST, 1, {})
    pieces: list[bytes] = [
        request + begin,
        encode(Type.PROPERTY_EXCHANGE) + request + begin,
        encode(Type.PROPERTY_EXCHANGE),
        encode(Type.SHUTDOWN, 0, {"grace": 0, "reason": "away"}),
        encode(Type.COMMON_UNIQUE_INFO, 0, {"version": 1}),
        HEADER.pack(0xFFFF_FFFF, Type.SERVICE_DATA, 0, 0, 1),
        b"\x16\x03\x01\x00\x05hello",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x10" + bytes(16),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0",
    ]
    while len(found) < INJECTIONS:
        number = len(found)
        piece = pieces[number] if number < len(pieces) else dice.choice(pieces)
        if number >= 2 * len(pieces) and dice.random() < 0.5:
            piece = dice.randbytes(dice.randint(1, 300))
        if number % 2:
            lies = Lies(after_setup=piece)
        else:
            lies = Lies(inject={dice.choice((0, 1, 4, 5, 6, 50, 100)): piece})
        found.append({("client", "server")[number // 2 % 2]: lies})
    return found


@pytest.mark.parametrize(
    "lies", in_turn(injections("tcp:127.0.0.1:1")), ids=lambda lies: f"{len(lies)} lies"
)
def test_bytes_injected_around_the_switch_to_tls_are_never_taken_for_messages(
    processes: Processes, identities: Identities, lies: list[Mapping[str, Lies]]
) -> None:
    with Application(pour) as canary:
        middles = [LyingMiddle(), *(LyingMiddle(lie) for lie in lies)]
        with hostile(processes, identities, middles, canary.destination) as ends:
            assert wait_until(lambda: 0 in ends.up()), "the one without a lie"
            assert wait_until(lambda: all(map(came_back, middles[1:])))
            assert ends.up() == {0}
            for process in ends.processes:
                assert not [line for line in process.lines if " channel " in line]
                assert not [line for line in process.lines if "Traceback" in line]
        assert canary.accepted == 0


@pytest.mark.parametrize("injected", [False, True])
def test_a_client_hello_in_one_piece_with_the_setup_works(
    processes: Processes, identities: Identities, injected: bool
) -> None:
    lies = Lies(with_first_bytes=True, inject={0: b"\0"} if injected else {})
    with LyingMiddle({"client": lies}) as middle, Application(echo) as echoes:
        processes.role(
            "lstp-server-end", "--middle", f"127.0.0.1:{middle.port}", "--tunnel", "test",
            "--identity", identities("server"), "--peer", "client",
            "--allow", echoes.destination,
        )  # fmt: skip
        for _ in range(3 if injected else 20):
            # As master it is the one whose first bytes come with its setup.
            peer = LstpPeer(identities("client"), tunnel="test", name="client", peers={"server"})
            if injected:
                with pytest.raises((ConnectionEnded, ssl.SSLError)):
                    peer.run_up(middle.host, middle.port)
            else:
                peer.run_up(middle.host, middle.port)
                channel = peer.open(echoes.destination)
                channel.send(b"through")
                assert channel.receive(7) == b"through"
            peer.cut()
        assert echoes.accepted == (0 if injected else 20)


# -- who is at the other end -----------------------------------------------


@pytest.mark.parametrize("hides", [False, True])
def test_ends_of_different_tunnels_that_a_middle_joins_find_out(
    processes: Processes, identities: Identities, hides: bool
) -> None:
    with Application(pour) as canary:
        lies: dict[str, Lies] = {}
        if hides:
            # It tells each of them what that one wants to hear.
            wanted = {"client": common_of(identities, "b"), "server": common_of(identities, "a")}
            lies = {name: Lies(common={"common": common}) for name, common in wanted.items()}
        with LyingMiddle(lies, pair_anyone=True) as middle:
            place = ("--middle", f"127.0.0.1:{middle.port}")
            client = processes.role(
                "lstp-client-end", *place, "--tunnel", "a", "--identity", identities("client"),
                "--peer", "server", "--forward", f"0={canary.destination}", wait=False,
            )  # fmt: skip
            client.wait_for("Waiting at the middle")
            server = processes.role(
                "lstp-server-end", *place, "--tunnel", "b", "--identity", identities("server"),
                "--peer", "client", "--allow", canary.destination, wait=False,
            )  # fmt: skip
            for role in (client, server):
                found = "not what came in clear|setup-mismatch|common is another"
                role.wait_for(found)
                assert not [line for line in role.process.lines if "is up" in line]
        assert canary.accepted == 0


def common_of(identities: Identities, tunnel: str) -> str:
    """The rendezvous id of ``tunnel``."""
    peer = LstpPeer(identities("client"), tunnel=tunnel, name="client", peers=())
    return peer.own_common


def test_an_own_key_at_the_other_end_is_refused_by_both(
    processes: Processes, identities: Identities
) -> None:
    with Application(pour) as canary:
        middles = [LyingMiddle()]
        with hostile(processes, identities, middles, canary.destination, "client") as ends:
            for process in ends.processes:
                process.wait_for("own key|role-conflict")
            assert wait_until(lambda: came_back(middles[0]))
            assert not ends.up()
        assert canary.accepted == 0


def test_an_own_key_is_refused_whoever_holds_it(
    processes: Processes, identities: Identities
) -> None:
    with LyingMiddle() as middle:
        processes.role(
            "lstp-server-end", "--middle", f"127.0.0.1:{middle.port}", "--tunnel", "test",
            "--identity", identities("server"), "--peer", "client", "--allow", "tcp:127.0.0.1:1",
        )  # fmt: skip
        peer = LstpPeer(identities("server"), tunnel="test", name="server", peers={"server"})
        with pytest.raises((RoleConflict, PeerError)) as refused:
            peer.run_up(middle.host, middle.port)
        if isinstance(refused.value, PeerError):
            assert refused.value.code == "role-conflict"


def test_somebody_elses_certificate_is_not_taken_for_the_peers(
    processes: Processes, identities: Identities
) -> None:
    with LyingMiddle() as middle:
        processes.role(
            "lstp-server-end", "--middle", f"127.0.0.1:{middle.port}", "--tunnel", "test",
            "--identity", identities("server"), "--peer", "client", "--allow", "tcp:127.0.0.1:1",
        )  # fmt: skip
        # Once under its own name, once under the name that is expected.
        for name in ("mallory", "client"):
            peer = LstpPeer(identities("mallory"), tunnel="test", name=name, peers={"server"})
            with pytest.raises(PeerError) as refused:
                peer.run_up(middle.host, middle.port)
            assert refused.value.code == "setup-mismatch"
            assert refused.value.secured
            peer.cut()


# -- a stream that is cut --------------------------------------------------


def cuts() -> list[Lies]:
    """The end of the stream, or a reset, from just behind the handshake to the last of the data."""
    places = [4_000, 20_000, 65_536, 200_001, 500_000, 900_000]
    found = [Lies(finish_at=place) for place in places]
    return found + [Lies(cut_at=place) for place in places]


@pytest.mark.parametrize("what", ["cut", "byte altered", "byte missing", "byte put in"])
def test_an_application_sees_a_reset_and_never_a_clean_end(
    processes: Processes, identities: Identities, what: str
) -> None:
    size = 1_000 * KIB
    places = [5_000, 70_000, 300_000, 900_000]
    lies = {
        "cut": cuts(),
        "byte altered": [Lies(flip={place: 1}) for place in places],
        "byte missing": [Lies(drop=range(place, place + 1)) for place in places],
        "byte put in": [Lies(inject={place: b"x"}) for place in places],
    }[what]
    with Application(lambda sock: pour(sock, size)) as source:
        middles = [LyingMiddle(), *(LyingMiddle({"server": lie}) for lie in lies)]
        with hostile(processes, identities, middles, source.destination) as ends:
            for number in range(len(middles)):
                with socket.create_connection(ends.forward(number), 20) as sock:
                    received = Received(sock)
                    ended = received.to_the_end()
                assert received.exact, "what came is a prefix of what was sent"
                if number == 0:
                    assert (ended, received.size) == ("clean", size)
                else:
                    assert ended == "reset"
                    assert received.size < size
            for process in ends.processes:
                assert not [line for line in process.lines if "Traceback" in line]
