"""Forward a port here to a destination at the far side of an LSTP tunnel.

python lstp_forward.py relay.example:7000 me.pem other 8080=service:wiki
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tunnelkit import LstpEnd


async def main(reactor: Any, middle: str, identity: str, peer: str, forward: str) -> None:
    """Forward until the program is told to end."""
    end = LstpEnd(
        reactor, middle=middle, tunnel="office", identity=identity, peer=peer, forward=forward
    )
    async with end:
        print("forwarding", *end.ports, flush=True)
        await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
