"""Clients that register at a Communication Server and stay: for `bench.secure_proxy`.

``registered.py PORT SERVER FIRST COUNT`` says ``N present`` on its output, and keeps all of them
alive until its input ends. Each logs in as ``nNUMBER``, with ``secret-of-nNUMBER``.
"""

from __future__ import annotations

import secrets
import select
import socket
import ssl
import sys
import time

from tunnelkit.wire.secureproxy import ALPN, PRESENT, Hello, Keepalive, Login, encode

EVERY = 8.0
"""Seconds between two signs of life."""


def register(port: int, server: str, context: ssl.SSLContext, number: int) -> ssl.SSLSocket:
    """One, once its WELCOME has come."""
    plain = socket.create_connection(("127.0.0.1", port), 30)
    tls = context.wrap_socket(plain, server_hostname=server)
    name = f"n{number}"
    login = Login(name, password=f"secret-of-{name}")
    tls.sendall(encode(Hello(PRESENT, secrets.token_hex(16), "bench", login=login)))
    if tls.recv(65536)[4:5] != b"\x02":
        raise OSError("not welcome")
    return tls


def main() -> None:
    """Register, and stay."""
    port, server, first, count = sys.argv[1:]
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN.decode()])
    alive = encode(Keepalive())
    clients: list[ssl.SSLSocket] = []
    said = time.monotonic()

    def stay() -> None:
        nonlocal said
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            for client in clients:
                client.sendall(alive)

    for number in range(int(first), int(first) + int(count)):
        clients.append(register(int(port), server, context, number))
        stay()
    print(f"{count} present", flush=True)
    while not select.select([sys.stdin], [], [], 1.0)[0]:
        stay()


if __name__ == "__main__":
    main()
