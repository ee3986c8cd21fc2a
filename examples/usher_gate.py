"""An Usher gate in a program: portals come to it, and may reach what the rules allow.

python usher_gate.py 0.0.0.0:7000 me.pem portal tcp:127.0.0.1:80
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tunnelkit import UsherGate


async def main(reactor: Any, listen: str, identity: str, peer: str, *allow: str) -> None:
    """Run until the program is told to end; say who comes."""
    gate: Any = UsherGate(reactor, listen=listen, identity=identity, peer=peer, allow=allow)
    gate.startService()
    reactor.addSystemEventTrigger("before", "shutdown", gate.stopService)
    print("waiting at", *gate.ports, flush=True)
    tunnel = await gate.tunnel.when_up()
    print("in came", tunnel.peer, flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
