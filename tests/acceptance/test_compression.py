"""Compression between a real end and an independent one, and between two real ones (L7, X12)."""

from __future__ import annotations

import hashlib
import random
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.applications import Application, echo, wait_until
from tests.acceptance.eavesdropper import Eavesdropper
from tests.acceptance.processes import Identities, Processes, Role
from tests.acceptance.tunnels import meeting, start_server_end
from tests.peers.lstp_channel import Channel, ChannelFailed
from tests.peers.lstp_messages import COMPRESSED, Message, Type
from tests.peers.misbehaving import MisbehavingPeer

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20
TEXT = b"".join(
    b"%05d a line of a text: %s\n" % (number, hashlib.sha256(b"%d" % number).hexdigest().encode())
    for number in range(15_000)
)
NOISE = random.Random(7).randbytes(len(TEXT))
ZEROS = 64 * MIB


class CountingPeer(MisbehavingPeer):
    """Counts the bytes of data as they come."""

    came = 0
    compressed = 0

    def handle(self, message: Message) -> None:
        if message.type is Type.SERVICE_DATA:
            self.came += len(message.body)
            self.compressed += bool(message.flags & COMPRESSED)
        super().handle(message)


ClientEnd = Callable[..., CountingPeer]


@pytest.fixture(scope="module")
def echoes() -> Iterator[Application]:
    with Application(echo) as application:
        yield application


@pytest.fixture
def server(processes: Processes, identities: Identities, middle: Role, echoes: Application) -> Role:
    return start_server_end(processes, identities, middle, [echoes.destination], "--compress")


@pytest.fixture
def client_end(identities: Identities, middle: Role, server: Role) -> Iterator[ClientEnd]:
    """Makes independent client ends with zlib whose tunnel to the real server end is up."""
    made: list[CountingPeer] = []

    def make(nonce: str = "low", offers: tuple[str, ...] = ("zlib", "none")) -> CountingPeer:
        peer = CountingPeer(
            identities("client"),
            tunnel="test",
            name="client",
            peers={"server"},
            nonce=nonce,
            properties={"compression": list(offers), "window": MIB},
        )
        made.append(peer)
        peer.run_up("127.0.0.1", middle.port("listening on"))
        return peer

    yield make
    for peer in made:
        peer.cut()


def there_and_back(channel: Channel, data: bytes) -> bytes:
    """Send it to the echo, read meanwhile; the end of data too."""
    back = bytearray()
    sent = 0
    while sent < len(data):
        sent += channel.send_some(data[sent : sent + 20_000])
        back += channel.take(len(channel.inbox))
        if not channel.credit:
            channel.peer.pump()
    channel.finish()
    back += channel.receive_all()
    channel.free()
    return bytes(back)


@pytest.mark.parametrize("nonce", ["low", "high"])
def test_text_gains_and_comes_back_unchanged(
    client_end: ClientEnd, echoes: Application, nonce: str
) -> None:
    peer = client_end(nonce)
    assert peer.compression == "zlib"
    for _ in range(2):
        peer.came = 0
        assert there_and_back(peer.open(echoes.destination), TEXT) == TEXT
        assert peer.came < 0.6 * len(TEXT)


def test_random_data_is_not_made_longer_and_hardly_tried(
    client_end: ClientEnd, echoes: Application
) -> None:
    peer = client_end()
    assert there_and_back(peer.open(echoes.destination), NOISE) == NOISE
    assert peer.came == len(NOISE)
    assert peer.compressed == 0


def test_text_between_random_data_shares_the_context_of_other_text(
    client_end: ClientEnd, echoes: Application
) -> None:
    peer = client_end()
    data = b"".join(NOISE[at : at + 40_000] + TEXT[at : at + 200_000] for at in (0, 200_000))
    assert there_and_back(peer.open(echoes.destination), data * 2) == data * 2
    assert peer.compressed > 0


@pytest.mark.parametrize("offers", [("none",), ("brotli",), ("none", "zlib")])
def test_who_does_not_want_compression_gets_none(
    client_end: ClientEnd, echoes: Application, offers: tuple[str, ...]
) -> None:
    peer = client_end("low", offers)
    assert there_and_back(peer.open(echoes.destination), TEXT) == TEXT
    assert (peer.came, peer.compressed) == (len(TEXT), 0)


def resident(role: Role) -> int:
    """Bytes of memory that a process has had at most."""
    status = Path(f"/proc/{role.process.child.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


def test_a_bomb_loses_its_channel_and_takes_no_memory(
    client_end: ClientEnd, server: Role, echoes: Application
) -> None:
    context = zlib.compressobj(9)
    megabyte = bytes(MIB)
    bomb = b"".join(context.compress(megabyte) for _ in range(255))
    bomb += context.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) <= 262_144, "as much as one message can hold"
    peer = client_end()
    kept = peer.open(echoes.destination)
    kept.send(TEXT[:5000])
    assert kept.receive(5000) == TEXT[:5000]
    before = resident(server)
    # Altogether it would be a gibibyte.
    for _ in range(4):
        channel = peer.open(echoes.destination)
        channel.wait_open()
        peer.send(Type.SERVICE_DATA, channel.number, bomb, COMPRESSED)
        with pytest.raises(ChannelFailed) as failed:
            channel.receive(1)
        assert failed.value.code == "protocol"
    assert resident(server) - before < 8 * MIB
    kept.send(TEXT[5000:9000])
    assert kept.receive(4000) == TEXT[5000:9000]


def test_a_file_of_zeros_passes_between_real_ends_and_costs_the_link_little(
    processes: Processes, identities: Identities, middle: Role
) -> None:
    watched = Eavesdropper(middle.address("listening on"))
    processes.on_end(watched.close)
    hashes: list[str] = []

    def take(sock: socket.socket) -> None:
        found = hashlib.sha256()
        while data := sock.recv(1 << 18):
            found.update(data)
        hashes.append(found.hexdigest())

    with Application(take) as application:
        start_server_end(processes, identities, middle, [application.destination], "--compress")
        client = processes.role(
            "lstp-client-end", "--middle", watched.place, *meeting(middle)[2:],
            "--identity", identities("client"), "--peer", "server", "--compress",
            "--forward", f"0={application.destination}",
        )  # fmt: skip
        zeros = bytes(MIB)
        expected = hashlib.sha256()
        with socket.create_connection(("127.0.0.1", client.port("forward")), 60) as sock:
            for _ in range(ZEROS // MIB):
                sock.sendall(zeros)
                expected.update(zeros)
            sock.shutdown(socket.SHUT_WR)
            assert wait_until(lambda: bool(hashes), 60)
    assert hashes == [expected.hexdigest()]
    assert sum(map(len, watched.upwards)) < ZEROS // 20
