"""What the authorization matrix is made of: targets, and the ways to them (rule X1)."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunnelkit.policy.destination import X11_BASE_PORT
from tunnelkit.policy.xauthority import AuthorityFile, authority_path, local_places
from tunnelkit.wire.x11 import MIT_MAGIC_COOKIE, Setup, encode_setup

BANNER = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\ncanary"
PATIENCE = 8.0
NAME = b"localhost"

dials: list[tuple[str, object]] = []
"""Every address to which a socket of this process was connected, bound or sent."""
_EVENTS = ("socket.connect", "socket.sendto", "socket.bind")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        dials.append((event, arguments[1]))


sys.addaudithook(_audit)


class Targets:
    """What the ways lead to: each answers at once, in a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "target")
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.x11 = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(self.path)
        self.unix.listen()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.dns.bind(("127.0.0.1", 0))
        self.port: int = self.tcp.getsockname()[1]
        self.udp_port: int = self.udp.getsockname()[1]
        self.dns_port: int = self.dns.getsockname()[1]
        self.x11_port: int = self.x11.getsockname()[1]
        self._sockets = (self.tcp, self.unix, self.x11, self.udp, self.dns)
        serves = (self._accept, self._accept, self._display, self._echo, self._resolve)
        self._threads = [
            threading.Thread(target=serve, args=(sock,), daemon=True)
            for serve, sock in zip(serves, self._sockets, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop."""
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def is_target(self, address: object) -> bool:
        """Whether it is one of these."""
        ports = (self.port, self.x11_port, self.udp_port, self.dns_port)
        return address == self.path or (isinstance(address, tuple) and address[1] in ports)

    def _accept(self, listener: socket.socket) -> None:
        try:
            while True:
                with listener.accept()[0] as sock:
                    sock.sendall(BANNER)
        except OSError:
            pass

    def _display(self, listener: socket.socket) -> None:
        """An X server as far as its first answer."""
        try:
            while True:
                with listener.accept()[0] as sock:
                    if sock.recv(2048):
                        sock.sendall(BANNER)
        except OSError:
            pass

    def _echo(self, sock: socket.socket) -> None:
        try:
            while True:
                sender = sock.recvfrom(2048)[1]
                if sender is None:
                    return
                sock.sendto(BANNER, sender)
        except OSError:
            pass

    def _resolve(self, sock: socket.socket) -> None:
        """Every name is 192.0.2.1."""
        try:
            while True:
                query, sender = sock.recvfrom(2048)
                if sender is None:
                    return
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\1"
                question = query[12 : query.index(b"\0", 12) + 5]
                head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
                sock.sendto(head + question + answer, sender)
        except OSError:
            pass


def dial(port: int) -> socket.socket:
    """A connection to a front end."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def banner(sock: socket.socket) -> bool:
    """Whether the target's words come."""
    said = b""
    while data := sock.recv(2048):
        said += data
        if b"canary" in said:
            return True
    return False


def exchange(sock: socket.socket, request: bytes, size: int) -> bytes:
    """Send, and receive so many bytes, or fewer if that is the end."""
    sock.sendall(request)
    found = b""
    while len(found) < size and (data := sock.recv(size - len(found))):
        found += data
    return found


class Ways:
    """One method for each kind of channel: True if it reached its target.

    Every one may raise OSError, which means that it did not.
    """

    def __init__(self, targets: Targets, ports: dict[str, int]) -> None:
        self.targets = targets
        self.ports = ports
        self.asked = 0

    def socks4(self) -> bool:
        return self._socks4(b"\x7f\0\0\1", b"")

    def socks4a(self) -> bool:
        return self._socks4(b"\0\0\0\1", NAME + b"\0")

    def _socks4(self, address: bytes, name: bytes) -> bool:
        with dial(self.ports["socks"]) as sock:
            head = b"\4\1" + struct.pack(">H", self.targets.port) + address + b"\0" + name
            return exchange(sock, head, 8)[1:2] == b"\x5a" and banner(sock)

    def socks5(self) -> bool:
        return self._socks5(b"\1\x7f\0\0\1")

    def socks5_name(self) -> bool:
        return self._socks5(b"\3" + bytes([len(NAME)]) + NAME)

    def _socks5(self, address: bytes) -> bool:
        with dial(self.ports["socks"]) as sock:
            exchange(sock, b"\5\1\0", 2)
            head = b"\5\1\0" + address + struct.pack(">H", self.targets.port)
            return exchange(sock, head, 10)[1:2] == b"\0" and banner(sock)

    def socks5_bind(self) -> bool:
        with dial(self.ports["socks"]) as sock:
            exchange(sock, b"\5\1\0", 2)
            reply = exchange(sock, b"\5\2\0\1\x7f\0\0\1\0\0", 10)
            return reply[1:2] == b"\0"

    def socks5_udp(self) -> bool:
        with dial(self.ports["socks"]) as sock:
            exchange(sock, b"\5\1\0", 2)
            reply = exchange(sock, b"\5\3\0\1\0\0\0\0\0\0", 10)
            if reply[1:2] != b"\0":
                return False
            head = b"\0\0\0\1\x7f\0\0\1" + struct.pack(">H", self.targets.udp_port)
            return self._datagram(int.from_bytes(reply[8:10], "big"), head + b"?")

    def forward(self) -> bool:
        with dial(self.ports["forward-tcp"]) as sock:
            return banner(sock)

    def forward_to_a_unix_socket(self) -> bool:
        with dial(self.ports["forward-unix"]) as sock:
            return banner(sock)

    def forward_udp(self) -> bool:
        return self._datagram(self.ports["forward-udp"], b"?")

    def _datagram(self, port: int, data: bytes) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1.0)
            sock.sendto(data, ("127.0.0.1", port))
            return b"canary" in sock.recv(2048)

    def http_connect(self) -> bool:
        with dial(self.ports["http-proxy"]) as sock:
            place = f"127.0.0.1:{self.targets.port}"
            sock.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
            return banner(sock)

    def http_get(self) -> bool:
        with dial(self.ports["http-proxy"]) as sock:
            place = f"127.0.0.1:{self.targets.port}"
            sock.sendall(f"GET http://{place}/ HTTP/1.0\r\nHost: {place}\r\n\r\n".encode())
            return banner(sock)

    def reverse(self) -> bool:
        with dial(self.ports["reverse"]) as sock:
            return banner(sock)

    def x11(self) -> bool:
        return self._display(self.ports["x11"])

    def x11_of_the_gates_user(self) -> bool:
        return self._display(self.ports["x11-default"])

    def _display(self, port: int) -> bool:
        number = port - X11_BASE_PORT
        cookie = AuthorityFile(authority_path(os.environ)).cookie(local_places(), number)
        assert cookie is not None
        with dial(port) as sock:
            sock.sendall(encode_setup(Setup(False, 11, 0, MIT_MAGIC_COOKIE, cookie)))
            return banner(sock)

    def service(self) -> bool:
        with dial(self.ports["forward-service"]) as sock:
            return banner(sock)

    def published_port(self) -> bool:
        with dial(self.ports["published"]) as sock:
            return banner(sock)

    def dns(self) -> bool:
        self.asked += 1
        name = f"n{self.asked}".encode()
        question = bytes([len(name)]) + name + b"\7example\0\0\1\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(3.0)
            sock.sendto(b"\1\2\1\0\0\1\0\0\0\0\0\0" + question, ("127.0.0.1", self.ports["dns"]))
            return b"\xc0\0\2\1" in sock.recv(2048)


WAYS: dict[str, Callable[[Ways], bool]] = {
    name: way for name, way in vars(Ways).items() if callable(way) and not name.startswith("_")
}
"""All of them, by name."""
BY_THE_PORTALS_RULES = "published_port"
OVER_LSTP = tuple(name for name in WAYS if name != BY_THE_PORTALS_RULES)
"""The ways that the gate's rules decide on."""
OVER_USHER = tuple(name for name in OVER_LSTP if name != "service")
"""The same for Usher, which does not publish services."""
