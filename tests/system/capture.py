"""What somebody in the internet can record: every IP packet that passes, by tcpdump."""

from __future__ import annotations

import secrets
import socket
import struct
import subprocess
import threading

import attrs

from tests.system.places import Place

_LIMIT = 20.0
_LINUX_SLL2 = 276
_TCP, _UDP = 6, 17
_SYN = 2

Address = tuple[str, int]


@attrs.frozen
class Packet:
    """One IPv4 packet; ports are 0 if it has none, the rest is for TCP only."""

    protocol: int
    source: Address
    destination: Address
    sequence: int
    flags: int
    payload: bytes


class Capture:
    """Records from the time it is made until `stop`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        command = ["tcpdump", "-i", "any", "-s", "0", "-B", "32768", "-Z", "root", "-U"]
        self._tcpdump = subprocess.Popen(
            place.inside([*command, "-w", "-", "ip"]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._tcpdump.stderr is not None
        said = []
        while b"listening on" not in (line := self._tcpdump.stderr.readline()):
            said.append(line)
            assert line, b"".join(said)
        self._packets: list[Packet] = []
        self._mark = secrets.token_bytes(16)
        self._marked = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        pipe = self._tcpdump.stdout
        assert pipe is not None
        order, kind = "<", struct.unpack("<20xI", pipe.read(24))[0]
        assert kind == _LINUX_SLL2
        while len(head := pipe.read(16)) == 16:
            size, whole = struct.unpack(f"{order}8xII", head)
            assert size == whole, "packets are recorded whole"
            packet = parse(pipe.read(size)[20:])
            if packet.protocol == _UDP and packet.payload == self._mark:
                self._marked.set()
            else:
                self._packets.append(packet)

    def stop(self) -> list[Packet]:
        """All that has passed until now; fails if something was missed."""
        self._place.call(self._send_mark)
        assert self._marked.wait(_LIMIT), "tcpdump does not say what it sees"
        self._tcpdump.terminate()
        self._reader.join(_LIMIT)
        assert self._tcpdump.stderr is not None
        said = self._tcpdump.stderr.read()
        assert b"\n0 packets dropped by kernel" in said, said
        self.close()
        return self._packets

    def _send_mark(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("127.0.0.1", 0))
            sender.sendto(self._mark, sender.getsockname())

    def close(self) -> None:
        """End it, whatever state it is in."""
        self._tcpdump.kill()
        self._tcpdump.wait()
        for pipe in (self._tcpdump.stdout, self._tcpdump.stderr):
            assert pipe is not None
            pipe.close()


def parse(data: bytes) -> Packet:
    """An IPv4 packet."""
    (size,) = struct.unpack_from("!H", data, 2)
    start, protocol = (data[0] & 15) * 4, data[9]
    source, destination = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    body = data[start:size]
    if protocol == _TCP:
        near, far, sequence, offset, flags = struct.unpack_from("!HHI4xBB", body)
        payload = body[(offset >> 4) * 4 :]
        return Packet(protocol, (source, near), (destination, far), sequence, flags, payload)
    near, far = struct.unpack_from("!HH", body) if protocol == _UDP else (0, 0)
    return Packet(protocol, (source, near), (destination, far), 0, 0, body[8:])


def streams(packets: list[Packet]) -> dict[tuple[Address, Address], bytes]:
    """The bytes of each direction of each TCP connection; fails if some are missing."""
    starts: dict[tuple[Address, Address], int] = {}
    found: dict[tuple[Address, Address], dict[int, bytes]] = {}
    for packet in packets:
        if packet.protocol == _TCP:
            way = packet.source, packet.destination
            if packet.flags & _SYN:
                starts[way] = packet.sequence + 1
            if packet.payload:
                offset = (packet.sequence - starts[way]) % (1 << 32)
                pieces = found.setdefault(way, {})
                if len(packet.payload) > len(pieces.get(offset, b"")):
                    pieces[offset] = packet.payload
    return {way: _join(pieces) for way, pieces in found.items()}


def _join(pieces: dict[int, bytes]) -> bytes:
    whole = bytearray()
    for offset, piece in sorted(pieces.items()):
        assert offset <= len(whole), f"bytes {len(whole)} to {offset} have not been recorded"
        whole += piece[len(whole) - offset :]
    return bytes(whole)
