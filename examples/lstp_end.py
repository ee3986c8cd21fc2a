"""Fetch a page through an LSTP tunnel with Twisted's Agent; no port is opened here.

python lstp_end.py relay.example:7000 me.pem other service:wiki /page.txt
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import react
from twisted.web.client import URI, Agent, readBody
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tunnelkit import LstpEnd


@implementer(IAgentEndpointFactory)
class Through:
    """Where the Agent connects, whatever host the URL names."""

    def __init__(self, tunnel: Any, destination: str) -> None:
        self._endpoint = tunnel.channel_to(destination)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return IStreamClientEndpoint(self._endpoint)


async def main(
    reactor: Any, middle: str, identity: str, peer: str, destination: str, path: str
) -> None:
    """Fetch and print."""
    end = LstpEnd(reactor, middle=middle, tunnel="office", identity=identity, peer=peer)
    async with end as tunnel:
        agent = Agent.usingEndpointFactory(reactor, Through(tunnel, destination))
        response = await agent.request(b"GET", b"http://wiki" + path.encode("ascii"))
        print((await readBody(response)).decode())


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
