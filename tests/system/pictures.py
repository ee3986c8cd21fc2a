"""Reads and writes PNG files, as far as the tests look at them."""

from __future__ import annotations

import struct
import zlib

Colour = tuple[int, int, int]


def read_png(data: bytes) -> list[list[Colour]]:
    """Rows of pixels of an 8-bit RGB or RGBA picture that is not interlaced."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "this is no PNG file"
    position, compressed = 8, b""
    width = height = step = 0
    while position < len(data):
        size, kind = struct.unpack_from("!I4s", data, position)
        body = data[position + 8 : position + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colours, _, _, interlaced = struct.unpack("!IIBBBBB", body)
            assert (depth, interlaced) == (8, 0)
            step = {2: 3, 6: 4}[colours]
        elif kind == b"IDAT":
            compressed += body
        position += 12 + size
    raw = zlib.decompress(compressed)
    rows: list[list[Colour]] = []
    above = bytearray(width * step)
    for number in range(height):
        start = number * (width * step + 1)
        line = bytearray(raw[start + 1 : start + 1 + width * step])
        _unfilter(raw[start], line, above, step)
        rows.append([(line[x], line[x + 1], line[x + 2]) for x in range(0, width * step, step)])
        above = line
    return rows


def _unfilter(kind: int, line: bytearray, above: bytearray, step: int) -> None:
    """Undo a row's filter in place (PNG, section 9)."""
    for x in range(len(line) if kind else 0):
        left = line[x - step] if x >= step else 0
        corner = above[x - step] if x >= step else 0
        guess = (0, left, above[x], (left + above[x]) // 2, _paeth(left, above[x], corner))[kind]
        line[x] = (line[x] + guess) & 255


def _paeth(left: int, above: int, corner: int) -> int:
    estimate = left + above - corner
    return min((left, above, corner), key=lambda value: abs(estimate - value))


def share(pixels: list[Colour], colour: Colour, tolerance: int = 3) -> float:
    """The part of the pixels that has this colour."""
    near = sum(
        all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True)) for pixel in pixels
    )
    return near / len(pixels)


def write_png(width: int, height: int, pixels: bytes) -> bytes:
    """The PNG file of rows of pixels, three bytes each."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))
        )

    row = 3 * width
    unfiltered = b"".join(b"\0" + pixels[at : at + row] for at in range(0, row * height, row))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            chunk(b"IDAT", zlib.compress(unfiltered, 9)),
            chunk(b"IEND", b""),
        )
    )
