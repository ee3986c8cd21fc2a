"""A web application inside, for what browsers may ask of it."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading


class App:
    """A web application that is asked over plain HTTP; says what it was asked."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self.go_on = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._quietly, args=(sock,), daemon=True).start()

    def _quietly(self, sock: socket.socket) -> None:
        try:
            self._one(sock)
        except OSError:
            return

    def _one(self, sock: socket.socket) -> None:
        data = b""
        with sock:
            while True:
                while b"\r\n\r\n" not in data:
                    more = sock.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                fields = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines[1:])
                }
                length = int(fields.get("content-length", 0))
                while len(data) < length:
                    data += sock.recv(65536)
                body, data = data[:length], data[length:]
                if not self._answer(sock, lines[0], fields, body):
                    return

    def _answer(self, sock: socket.socket, first: str, fields: dict[str, str], body: bytes) -> bool:
        path = first.split(" ")[1]
        if path == "/events":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            self.go_on.wait(20)
            sock.sendall(b"data: 2\n\n")
            return False
        if path == "/socket":
            key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            sock.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
            )
            while data := sock.recv(65536):
                sock.sendall(data)
            return False
        if path == "/cut":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
            return False
        said = json.dumps({"first": first, "fields": fields, "body": len(body),
            "sha256": hashlib.sha256(body).hexdigest()}).encode()  # fmt: skip
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: inside\r\n"
            b"Set-Cookie: a=b; Domain=example; Path=/\r\nConnection: keep-alive\r\n"
            b"Content-Length: " + str(len(said)).encode() + b"\r\n\r\n" + said
        )
        return True
