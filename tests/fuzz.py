"""Input for parsers: damaged, or cut into pieces.

Fuzz tests run 20,000 cases each, or 262,144 with TUNNELKIT_FUZZ=full (R8).
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator

CASES = 262_144 if os.environ.get("TUNNELKIT_FUZZ") == "full" else 20_000


def damaged(seeds: list[bytes], *, seed: int = 1, cases: int = CASES) -> Iterator[bytes]:
    """Byte strings near the valid ``seeds``: bytes changed, cut out, doubled, put in or appended.

    The same ``seed`` gives the same cases.
    """
    dice = random.Random(seed)
    for _ in range(cases):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(0, 4)):
            place = dice.randint(0, len(data))
            what = dice.randrange(5)
            if what == 0 and place < len(data):
                data[place] = dice.randrange(256)
            elif what == 1:
                del data[place : place + dice.randint(1, 8)]
            elif what == 2:
                data[place:place] = data[place : place + dice.randint(1, 300)]
            elif what == 3:
                data[place:place] = dice.randbytes(dice.randint(1, 300))
            else:
                data += dice.choice(seeds)
        yield bytes(data)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut at the given places, any numbers; one piece if there are none."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]
