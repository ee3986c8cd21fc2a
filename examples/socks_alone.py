"""SOCKS 4, 4a and 5, an HTTP proxy and a DNS server without a tunnel, as Twisted services.

    python socks_alone.py 1080 3128 5353 'tcp:*.example.com:*' service:@dns

They connect from this machine, to what the rules allow and to nothing else.
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tunnelkit import DirectTunnel, front_ends


async def main(reactor: Any, socks: str, http: str, dns: str, *allow: str) -> None:
    """Serve until the program is told to end."""
    tunnel: Any = DirectTunnel(reactor, allow)
    ports: Any = front_ends(reactor, tunnel, tunnel.policy, socks=socks, http_proxy=http, dns=dns)
    ports.setServiceParent(tunnel)
    tunnel.startService()
    reactor.addSystemEventTrigger("before", "shutdown", tunnel.stopService)
    print("READY", *ports.ports, sep=", ", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
