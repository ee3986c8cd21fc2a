"""Two ends that pair by a code, in one program: `tunnelkit pair` as a library (row Q12).

    python pair_both.py HOST PORT        of a middle

An inside shows ``code.text`` to whoever sits at the other machine; there the program reads it with
`parse_code`. Here both are played by the same program.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tunnelkit import LstpPairing, new_code, pair, parse_code
from tunnelkit.policy.keys import self_signed
from tunnelkit.services.pairing import Own
from tunnelkit.wire.pairing import Offer


async def agreed(offer: Offer) -> bool:
    """Where a person could be asked; ``offer`` says who it is, and what may be reached there."""
    return True


async def main(reactor: Any, host: str, port: str) -> None:
    """Pair, and print what each end knows then."""
    way = LstpPairing((host, int(port)))
    code = new_code()
    office = Own(
        identity=self_signed("office"), inside=True, tunnel="work", rules=("tcp:10.1.2.3:22",)
    )
    laptop = Own(identity=self_signed("laptop"), inside=False)
    shown: Deferred[None] = Deferred()
    inside = Deferred.fromCoroutine(
        pair(reactor, way, code, office, agree=agreed, on_waiting=lambda: shown.callback(None))
    )
    await shown
    offer = await pair(reactor, way, parse_code(code.text), laptop, agree=agreed)
    print(
        f"laptop knows {offer.name}, tunnel {offer.tunnel}, which allows {', '.join(offer.rules)}"
    )
    print(f"office knows {(await inside).name}")


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
