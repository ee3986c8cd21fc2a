"""Publish a web site behind a firewall: the other end reaches it as ``service:wiki``.

python lstp_server.py relay.example:7000 me.pem other ./site
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.web.server import Site
from twisted.web.static import File

from tunnelkit import LstpEnd


async def main(reactor: Any, middle: str, identity: str, peer: str, directory: str) -> None:
    """Serve until the program is told to end."""
    end: Any = LstpEnd(
        reactor, middle=middle, tunnel="office", identity=identity, peer=peer, role="server-end"
    )
    await end.tunnel.accept("wiki").listen(Site(File(directory)))
    end.startService()
    reactor.addSystemEventTrigger("before", "shutdown", end.stopService)
    print("the wiki is published", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
