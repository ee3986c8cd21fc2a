"""Mutations of valid LSTP input, with a taste for what breaks JSON parsers (figure R8)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tests.fuzz import CASES

_TOKENS = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u", b"\\ud800", b"null", b"true", b"NaN",
    b"1e999", b"-1", b"-0", b"1" * 400, b"1.5", b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80",
    b"[" * 40, b'{"a":' * 40, b"\xef\xbb\xbf", b"\r\n", b" " * 9,
    b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff", b"\x80\x00",
)  # fmt: skip


def cases(seeds: Sequence[bytes], count: int = CASES, seed: int = 1) -> Iterator[bytes]:
    """``count`` inputs, each a seed with one to four mutations, or noise."""
    chance = random.Random(seed)
    for _ in range(count):
        if chance.random() < 0.05:
            yield chance.randbytes(chance.randrange(64))
            continue
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 5)):
            _mutate(data, chance, seeds)
        yield bytes(data)


def _mutate(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.randrange(1, 9))
    kind = chance.randrange(7)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = chance.randrange(256)
    elif kind == 2:
        del data[at:end]
    elif kind == 3:
        data[at:at] = data[at:end]
    elif kind == 4:
        data[at:at] = chance.choice(_TOKENS)
    elif kind == 5:
        data[at:end] = chance.choice(_TOKENS)
    else:
        other = chance.choice(seeds)
        data[at:] = other[chance.randrange(len(other) + 1) :]


def pieces(data: bytes, seed: int) -> Iterator[bytes]:
    """``data`` cut somewhere, the same way for the same seed."""
    chance = random.Random(seed)
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 11, 12, 13, 50, 1000))
        yield data[at : at + size]
        at += size
