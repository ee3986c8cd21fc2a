"""The lines that somebody types into telnet, or nc (RFC 854); every option is declined.

Nothing is asked of the client, so it stays in line mode with its own echo. A
client that sends each key as it is pressed can erase and start over as well.
"""

from __future__ import annotations

from tunnelkit.errors import RemoteProtocolError

MAX_LINE = 512
"""Bytes of a line."""
MAX_SUBNEGOTIATION = 512

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
_CR, _LF, _NUL = 13, 10, 0
_INTERRUPT, _END, _ERASE_LINE, _ERASE = 3, 4, 21, (8, 127)
_TELNET_INTERRUPT, _TELNET_ERASE, _TELNET_ERASE_LINE = 244, 247, 248
_DECLINED = {DO: WONT, WILL: DONT}


class TelnetLines:
    """Takes lines off what the client sends, one at a time."""

    def __init__(self) -> None:
        self._data = b""
        self._line = bytearray()
        self._replies = bytearray()
        self.interrupted = False
        """The client has pressed the key for it."""

    def receive(self, data: bytes) -> None:
        """Bytes have come."""
        self._data += data

    def next_line(self) -> bytes | None:
        """The next whole line without its end; None if there is none yet.

        Raises `RemoteProtocolError` for one that does not end.
        """
        data = self._data
        at = 0
        line = None
        while at < len(data) and not self.interrupted:
            byte = data[at]
            if byte == IAC:
                used = self._command(data[at : at + MAX_SUBNEGOTIATION + 1])
                if not used:
                    break
                at += used
            elif byte == _CR:
                # It always has a companion; without waiting for it, that would be taken for
                # the first byte of what comes behind the line.
                if at + 1 == len(data):
                    break
                at += 2 if data[at + 1] in (_LF, _NUL) else 1
                line = self._take()
                break
            elif byte == _LF:
                at += 1
                line = self._take()
                break
            else:
                at += 1
                self._key(byte)
        self._data = data[at:]
        return line

    @property
    def rest(self) -> bytes:
        """What stands behind the last line."""
        return self._data

    def replies(self) -> bytes:
        """What has to be said to the options that the client has offered."""
        replies, self._replies = bytes(self._replies), bytearray()
        return replies

    def _take(self) -> bytes:
        line, self._line = bytes(self._line), bytearray()
        return line

    def _key(self, byte: int) -> None:
        if byte in _ERASE:
            del self._line[-1:]
        elif byte == _ERASE_LINE:
            self._line.clear()
        elif byte in (_INTERRUPT, _END):
            self.interrupted = True
        elif byte >= 32 or byte == 9:
            if len(self._line) >= MAX_LINE:
                raise RemoteProtocolError(f"a line of more than {MAX_LINE} bytes")
            self._line.append(byte)

    def _command(self, data: bytes) -> int:
        """Act on the telnet command at the start of ``data``; its size, 0 if it is incomplete."""
        if len(data) < 2:
            return 0
        command = data[1]
        if command == SB:
            end = data.find(bytes((IAC, SE)), 2)
            if end < 0:
                if len(data) > MAX_SUBNEGOTIATION:
                    raise RemoteProtocolError("a telnet subnegotiation that does not end")
                return 0
            return end + 2
        if command in (DO, DONT, WILL, WONT):
            if len(data) < 3:
                return 0
            if command in _DECLINED:
                self._replies += bytes((IAC, _DECLINED[command], data[2]))
            return 3
        if command == IAC:
            self._key(IAC)
        elif command == _TELNET_INTERRUPT:
            self.interrupted = True
        elif command == _TELNET_ERASE:
            del self._line[-1:]
        elif command == _TELNET_ERASE_LINE:
            self._line.clear()
        return 2
