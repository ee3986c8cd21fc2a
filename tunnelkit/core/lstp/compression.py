"""Compression of a channel's data (row L7, rule X12; `spec/lstp.md`, 'Compression').

A `Packer` and an `Unpacker` are the two ends of one direction of one channel.
Each has a context, made when it is first needed, that has seen the messages
that were sent compressed and no others.

`Packer` gives up on what does not compress: it looks at a sample of a large
message before it takes the trouble, and after each one in vain it lets more
messages pass than the last time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from tunnelkit.errors import RemoteProtocolError

NONE = "none"
ZLIB = "zlib"
ZSTD = "zstd"
MAX_PLAIN = 262_144
"""Bytes of the largest message once it is decompressed."""

_ZLIB_LEVEL = 3
_ZSTD_LEVEL = 3
_ZSTD_WINDOW_LOG = 18
"""The far side keeps so much of the past: 2 to this power, in bytes."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SMALLEST = 32
"""Messages of fewer bytes than this are not worth trying."""
_SAMPLE = 2048
"""Bytes of each of the two places at which a large message is looked at."""
_LONGEST_PAUSE = 128
"""Messages that pass untried, at most, before the next one is tried."""


def _find_zstd() -> ModuleType | None:
    """The standard library's from Python 3.14 on, or its backport."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


_zstd = _find_zstd()

AVAILABLE: tuple[str, ...] = (ZLIB, NONE) if _zstd is None else (ZSTD, ZLIB, NONE)
"""What this end can do, the best first."""


def agreed(masters: Iterable[str], others: Iterable[str]) -> str:
    """The first of the master's list that the other end lists too."""
    offered = frozenset(others)
    return next((method for method in masters if method in offered), NONE)


class _Compressor(Protocol):
    def compress(self, data: memoryview, most: int) -> bytes | None:
        """``data`` in at most ``most`` bytes; None if it takes more: the context is as before."""


class _Decompressor(Protocol):
    def decompress(self, body: bytes | bytearray) -> bytes:
        """What is in ``body``; more than `MAX_PLAIN` bytes tell that there is more than may be.

        Raises `RemoteProtocolError` if it cannot be read.
        """


class _ZlibCompressor:
    __slots__ = ("_context",)

    def __init__(self) -> None:
        self._context: zlib._Compress | None = None

    def compress(self, data: memoryview, most: int) -> bytes | None:
        context = self._context
        attempt = zlib.compressobj(_ZLIB_LEVEL) if context is None else context.copy()
        packed = attempt.compress(data) + attempt.flush(zlib.Z_SYNC_FLUSH)
        if len(packed) > most:
            return None
        self._context = attempt
        return packed


class _ZlibDecompressor:
    __slots__ = ("_context",)

    def __init__(self) -> None:
        self._context = zlib.decompressobj()

    def decompress(self, body: bytes | bytearray) -> bytes:
        try:
            return self._context.decompress(body, MAX_PLAIN + 1)
        except zlib.error as error:
            raise RemoteProtocolError(f"data that does not decompress: {error}") from None


class _ZstdCompressor:
    """Its context cannot be copied: one that has seen what is not sent is given up, and the next
    message begins a new frame."""

    __slots__ = ("_context", "_zstd")

    def __init__(self, zstd: ModuleType) -> None:
        self._zstd = zstd
        self._context: Any = None

    def compress(self, data: memoryview, most: int) -> bytes | None:
        zstd = self._zstd
        context = self._context
        if context is None:
            parameter = zstd.CompressionParameter
            context = zstd.ZstdCompressor(
                options={
                    parameter.compression_level: _ZSTD_LEVEL,
                    parameter.window_log: _ZSTD_WINDOW_LOG,
                }
            )
        packed: bytes = context.compress(data, context.FLUSH_BLOCK)
        if len(packed) > most:
            self._context = None
            return None
        self._context = context
        return packed


class _ZstdDecompressor:
    __slots__ = ("_context", "_zstd")

    def __init__(self, zstd: ModuleType) -> None:
        self._zstd = zstd
        self._context = self._new()

    def _new(self) -> Any:
        zstd = self._zstd
        # Without this limit a frame could ask for 128 MiB.
        return zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        )

    def decompress(self, body: bytes | bytearray) -> bytes:
        # Nothing else that a frame goes on with begins so: as a block it would be too long.
        if body[:4] == _ZSTD_MAGIC:
            self._context = self._new()
        context = self._context
        try:
            plain: bytes = context.decompress(body, MAX_PLAIN + 1)
        except (self._zstd.ZstdError, EOFError) as error:
            raise RemoteProtocolError(f"data that does not decompress: {error}") from None
        return plain


class Packer:
    """The sender's end of one direction of one channel."""

    __slots__ = ("_compressor", "_passing", "_pause")

    def __init__(self, method: str) -> None:
        self._compressor: _Compressor = (
            _ZstdCompressor(_zstd) if method == ZSTD and _zstd is not None else _ZlibCompressor()
        )
        self._pause = 0
        """Messages that passed untried after the last one that was tried in vain."""
        self._passing = 0
        """Messages that still pass."""

    def pack(self, data: memoryview) -> bytes | None:
        """``data`` compressed; None: it has to be sent as it is."""
        if self._passing:
            self._passing -= 1
            return None
        size = len(data)
        if size < _SMALLEST:
            return None
        packed = None
        if size <= 4 * _SAMPLE or _shrinks(data):
            packed = self._compressor.compress(data, _worth(size))
        if packed is None:
            self._pause = self._passing = min(2 * self._pause + 1, _LONGEST_PAUSE)
        else:
            self._pause = 0
        return packed


class Unpacker:
    """The receiver's end of one direction of one channel."""

    __slots__ = ("_decompressor",)

    def __init__(self, method: str) -> None:
        self._decompressor: _Decompressor = (
            _ZstdDecompressor(_zstd)
            if method == ZSTD and _zstd is not None
            else _ZlibDecompressor()
        )

    def unpack(self, body: bytes | bytearray) -> bytes:
        """What was packed; raises `RemoteProtocolError` for what cannot be, or is too large."""
        plain = self._decompressor.decompress(body)
        if len(plain) > MAX_PLAIN:
            raise RemoteProtocolError(f"a message of more than {MAX_PLAIN} bytes, compressed")
        if len(plain) <= len(body):
            raise RemoteProtocolError("a compressed message that is no shorter for it")
        return plain


class CompressedChannel(Protocol):
    """What is kept per channel, one of each at most; None until it is first needed."""

    packer: Packer | None
    unpacker: Unpacker | None


class Compression:
    """What the two ends of a tunnel have agreed on; ``method`` says it."""

    __slots__ = ("method",)

    def __init__(self, method: str = NONE) -> None:
        self.method = method

    def agree(self, own: Iterable[str], others: Iterable[str], master: bool) -> None:
        """Both ends have said what they can do."""
        self.method = agreed(own, others) if master else agreed(others, own)

    def pack(self, channel: CompressedChannel, data: memoryview) -> bytes | None:
        """See `Packer.pack`."""
        packer = channel.packer
        if packer is None:
            packer = channel.packer = Packer(self.method)
        return packer.pack(data)

    def unpack(self, channel: CompressedChannel, body: bytearray) -> bytes:
        """See `Unpacker.unpack`."""
        unpacker = channel.unpacker
        if unpacker is None:
            unpacker = channel.unpacker = Unpacker(self.method)
        return unpacker.unpack(body)


def _worth(size: int) -> int:
    """The most that a message of ``size`` bytes may come to."""
    return size - 1 - (size >> 4)


def _shrinks(data: memoryview) -> bool:
    """Whether a large message looks as if it were worth trying."""
    first, second = len(data) // 4, len(data) // 2
    sample = bytes(data[first : first + _SAMPLE]) + data[second : second + _SAMPLE]
    return len(zlib.compress(sample, 1)) <= _worth(len(sample))
