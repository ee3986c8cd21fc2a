"""How many cases the fuzz tests run (R8): 20,000 each, or 262,144 with TUNNELKIT_FUZZ=full."""

from __future__ import annotations

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
