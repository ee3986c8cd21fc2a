"""Forward a port here through an Usher gate, or say why the tunnel does not come up.

python usher_portal.py gate.example:7000 me.pem gate 8080=tcp:intranet:80
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tunnelkit import UsherPortal, errors


async def main(reactor: Any, gate: str, identity: str, peer: str, forward: str) -> None:
    """Forward until the program is told to end."""
    portal: Any = UsherPortal(reactor, gate=gate, identity=identity, peer=peer, forward=forward)
    portal.startService()
    reactor.addSystemEventTrigger("before", "shutdown", portal.stopService)
    try:
        await portal.up(timeout=5)
    except errors.DialTimeout:
        sys.exit(f"no tunnel: {portal.last_error}")
    print("forwarding", *portal.ports, flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
