"""Relays: every byte, every kind of end, no more memory than promised."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import select
import socket
import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import TestCase

from tunnelkit.net.sockets import splice
from tunnelkit.net.sockets.poll import EpollPoller, Poller, ReactorPoller
from tunnelkit.net.sockets.relay import Relay
from tunnelkit.net.sockets.timer import on_monotonic_clock


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection on loopback, the first one non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    client.setblocking(False)
    accepted.setblocking(False)
    return client, accepted


def turn(seconds: float) -> Deferred[None]:
    """Let the reactor work for a moment."""
    done: Deferred[None] = Deferred()
    reactor.callLater(seconds, done.callback, None)
    return done


class Peer:
    """An application at one end: sends a plan, hashes what arrives, stalls now and then."""

    def __init__(self, poller: Poller, sock: socket.socket, size: int, seed: int) -> None:
        self.poller, self.sock = poller, sock
        self.random = random.Random(seed)
        self.left = size
        self.sent = hashlib.sha256()
        self.seen = hashlib.sha256()
        self.got = 0
        self.ended: str | None = None
        self.done: Deferred[None] = Deferred()
        self.out = b""
        self.said = False
        """It has nothing more to say, and has said so."""
        poller.add(sock.fileno(), self, True, True)

    def readable(self) -> None:
        try:
            data = self.sock.recv(self.random.choice((1, 700, 65536, 1 << 20)))
        except BlockingIOError:
            return
        except OSError:
            self.ended = "reset"
        else:
            self.seen.update(data)
            self.got += len(data)
            if data:
                return
            self.ended = "end"
        self.poller.change(self.sock.fileno(), False, not self.said)
        self.done.callback(None)

    def writable(self) -> None:
        if not self.out:
            if not self.left:
                self.said = True
                self.sock.shutdown(socket.SHUT_WR)
                self.poller.change(self.sock.fileno(), self.ended is None, False)
                return
            size = min(self.left, self.random.choice((1, 100, 5000, 70000, 1 << 20)))
            self.out = self.random.randbytes(size)
            self.left -= size
            self.sent.update(self.out)
        try:
            self.out = self.out[self.sock.send(self.out) :]
        except BlockingIOError:
            return
        except OSError:
            self.left, self.out, self.said = 0, b"", True
            self.poller.change(self.sock.fileno(), self.ended is None, False)

    def close(self) -> None:
        self.poller.remove(self.sock.fileno())
        self.sock.close()


class RelayTests(TestCase):
    """Both ways of moving bytes, on the nested epoll."""

    timeout = 120

    @classmethod
    def setUpClass(cls) -> None:
        gc.collect()  # descriptors that earlier tests have left must not go meanwhile

    def setUp(self) -> Any:
        return ensureDeferred(self.set_up())

    async def set_up(self) -> None:
        await turn(0)  # a reactor that runs has descriptors of its own
        on_monotonic_clock(reactor)  # and so has its clock
        self.descriptors = len(os.listdir("/dev/fd"))
        self.poller = self.make()
        self.ended: Deferred[tuple[int, int, str]] = Deferred()

    def make(self) -> Poller:
        return EpollPoller(reactor)

    def tearDown(self) -> None:
        assert len(self.poller) == 0
        assert len(os.listdir("/dev/fd")) == self.descriptors

    def on_end(self, relay: Any, ab: int, ba: int, outcome: str) -> None:
        self.ended.callback((ab, ba, outcome))

    def relay(self, **options: Any) -> tuple[Relay, socket.socket, socket.socket]:
        """A started relay and the two far ends of its sockets."""
        near, a = tcp_pair()
        b, far = tcp_pair()
        relay = Relay(self.poller, a, b, self.on_end, **options)
        relay.start()
        return relay, near, far

    async def test_every_byte_arrives_in_order_under_random_chunks_both_ways(self) -> None:
        for seed in range(4):
            self.ended = Deferred()
            _, near, far = self.relay()
            sizes = (3_000_000 + seed, 5_000_000)
            peers = [
                Peer(self.poller, near, sizes[0], seed),
                Peer(self.poller, far, sizes[1], -seed),
            ]
            assert await self.ended == (*sizes, "closed")
            for peer in peers:
                await peer.done
                peer.close()
            assert peers[0].sent.digest() == peers[1].seen.digest()
            assert peers[1].sent.digest() == peers[0].seen.digest()

    async def test_half_close_is_passed_on_and_the_way_back_stays_open(self) -> None:
        _, near, far = self.relay()
        near.send(b"question")
        near.shutdown(socket.SHUT_WR)
        peer = Peer(self.poller, far, 4_000_000, 1)
        await peer.done
        assert (peer.got, peer.ended) == (8, "end")
        back = Peer(self.poller, near, 0, 2)
        assert await self.ended == (8, 4_000_000, "closed")
        await back.done
        assert (back.ended, back.seen.digest()) == ("end", peer.sent.digest())
        peer.close()
        back.close()

    async def test_a_reset_is_passed_on_as_a_reset(self) -> None:
        _, near, far = self.relay()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer = Peer(self.poller, far, 0, 1)
        near.send(b"x")
        near.close()
        await peer.done
        assert peer.ended == "reset"
        assert (await self.ended)[2] == "reset"
        peer.close()

    async def test_a_reset_behind_an_end_of_stream_is_passed_on(self) -> None:
        if not isinstance(self.poller, EpollPoller):
            return  # nobody else can tell (see `Handler`)
        _, near, far = self.relay()
        near.shutdown(socket.SHUT_WR)
        far.setblocking(False)
        while not select.select([far], [], [], 0)[0]:
            await turn(0)
        assert far.recv(1) == b""
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        near.close()
        assert await self.ended == (0, 0, "reset")
        assert far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        far.close()

    async def test_abort_resets_both_sides(self) -> None:
        relay, near, far = self.relay()
        relay.abort("no TLS within 10 s")
        peers = [Peer(self.poller, near, 0, 1), Peer(self.poller, far, 0, 2)]
        for peer in peers:
            await peer.done
            peer.close()
        assert [peer.ended for peer in peers] == ["reset", "reset"]
        assert await self.ended == (0, 0, "no TLS within 10 s")
        relay.abort("again")

    async def test_first_bytes_go_out_before_what_the_sides_send(self) -> None:
        to_a, to_b = os.urandom(300_000), os.urandom(200_000)
        near, a = tcp_pair()
        b, far = tcp_pair()
        near.send(b"from near")
        near.shutdown(socket.SHUT_WR)
        far.send(b"from far")
        far.shutdown(socket.SHUT_WR)
        Relay(self.poller, a, b, self.on_end, to_a=to_a, to_b=to_b).start()
        seen = []
        for sock in (near, far):
            peer = Peer(self.poller, sock, 0, 1)
            peer.writable = lambda: None  # type: ignore[method-assign]  # has ended its side already
            self.poller.change(sock.fileno(), True, False)
            seen.append(peer)
        for peer in seen:
            await peer.done
            peer.close()
        assert seen[0].seen.digest() == hashlib.sha256(to_a + b"from far").digest()
        assert seen[1].seen.digest() == hashlib.sha256(to_b + b"from near").digest()
        assert await self.ended == (9, 8, "closed")

    async def test_a_stalled_receiver_stalls_its_sender(self) -> None:
        relay, near, far = self.relay()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        peer = Peer(self.poller, near, 1 << 30, 1)
        before, still = -1, 0
        while still < 50:
            await turn(0.002)
            still = still + 1 if relay.bytes_ab == before else 0
            before = relay.bytes_ab
        assert before < 32 << 20
        relay.abort("enough")
        await peer.done
        peer.close()
        far.close()

    async def test_what_a_side_sent_before_it_was_lost_is_still_delivered(self) -> None:
        _, near, far = self.relay()
        far.send(b"last words")
        peer = Peer(self.poller, near, 0, 1)
        await_end = self.ended
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await turn(0)
        far.close()
        await peer.done
        assert (peer.got, (await await_end)[2]) == (10, "reset")
        peer.close()


class ReactorRelayTests(RelayTests):
    """The same on the reactor's own readers and writers."""

    def make(self) -> Poller:
        return ReactorPoller(reactor)


class CopyingRelayTests(RelayTests):
    """The same where there is no splice."""

    async def set_up(self) -> None:
        await super().set_up()
        case: Any = self
        case.patch(splice, "AVAILABLE", False)


class PipelessRelayTests(RelayTests):
    """The same when the user's pipes are used up."""

    async def set_up(self) -> None:
        await super().set_up()
        case: Any = self
        case.patch(splice, "PIPE_SIZE", 3 << 30)
