"""Somebody on the way: passes on what comes, keeps a copy, and changes it when told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

Meddle = Callable[[bytes], bytes]


def untouched(data: bytes) -> bytes:
    """Changes nothing."""
    return data


class Eavesdropper:
    """Listens on a free port and passes connections on to ``target``.

    Once `meddle` has been set, what goes towards the dialling end passes
    through it, piece by piece.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.upwards: list[bytearray] = []
        """What each connection has sent towards the target."""
        self.downwards: list[bytearray] = []
        """What came back."""
        self.meddle: Meddle = untouched
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            up, down = bytearray(), bytearray()
            self.upwards.append(up)
            self.downwards.append(down)
            for source, sink, copy, changed in ((near, far, up, False), (far, near, down, True)):
                thread = threading.Thread(target=self._pass, args=(source, sink, copy, changed))
                self._threads.append(thread)
                thread.start()

    def _pass(
        self, source: socket.socket, sink: socket.socket, copy: bytearray, changed: bool
    ) -> None:
        try:
            while data := source.recv(1 << 16):
                copy += data
                sink.sendall(self.meddle(data) if changed else data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one of the ends has gone

    def close(self) -> None:
        """Cut everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()
