"""A web site inside, and visitors of it: for `bench.secure_proxy`. The file runs on its own.

``published_site.py CERTIFICATE BULK-PORT TLS-PORT`` serves both: behind whatever begins like TLS
the first port sends as fast as it can; the second is an ordinary HTTPS server.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
_PIECE = bytes(1 << 20)

Address = tuple[str, int]


def serve(port: int, answer: Callable[[socket.socket], None]) -> None:
    """Each connection in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=quietly, args=(answer, sock), daemon=True).start()


def quietly(answer: Callable[[socket.socket], None], sock: socket.socket) -> None:
    """Until the visitor leaves."""
    with sock:
        try:
            answer(sock)
        except OSError:
            return


def pour(sock: socket.socket) -> None:
    """Bytes without end."""
    sock.recv(65536)
    while True:
        sock.sendall(_PIECE)


def hello(host: str) -> bytes:
    """A ClientHello as OpenSSL writes it."""
    outbound = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outbound, False, host)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outbound.read()


def bulk(address: Address, host: str, seconds: float, warm: float = 0.3) -> int:
    """Bytes that come within ``seconds``, after ``warm``; the connection has been closed."""
    buffer = bytearray(1 << 20)
    with socket.create_connection(address, 20) as sock:
        sock.sendall(hello(host))
        begin = time.perf_counter() + warm
        while time.perf_counter() < begin:
            if not sock.recv_into(buffer):
                raise OSError("the bulk ended")
        received, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            received += sock.recv_into(buffer)
        return received


def visitor() -> ssl.SSLContext:
    """A browser that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def visit(address: Address, host: str, context: ssl.SSLContext) -> float:
    """One page over a connection and a handshake of its own; seconds to its first byte."""
    began = time.perf_counter()
    with (
        socket.create_connection(address, 20) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        if not tls.recv(1):
            raise OSError("no answer")
        return time.perf_counter() - began


def visits(address: Address, host: str, seconds: float, lanes: int = 8) -> tuple[float, int]:
    """Pages a second, ``lanes`` at a time, and how many failed."""
    context = visitor()
    counts = [0, 0]
    begin = time.perf_counter()
    end = begin + seconds

    def lane() -> None:
        while time.perf_counter() < end:
            try:
                visit(address, host, context)
            except OSError:
                counts[1] += 1
            else:
                counts[0] += 1

    threads = [threading.Thread(target=lane) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts[0] / (time.perf_counter() - begin), counts[1]


def main() -> None:
    """Be the site."""
    certificate, *ports = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def page(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            tls.recv(65536)
            tls.sendall(ANSWER)

    bulk_port, tls_port = map(int, ports)
    threading.Thread(target=serve, args=(bulk_port, pour), daemon=True).start()
    serve(tls_port, page)


if __name__ == "__main__":
    main()
