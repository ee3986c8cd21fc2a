"""Fetch web pages of the far side's network with treq; names are looked up there.

python treq_client.py relay.example:7000 me.pem other http://intranet.example/page.txt
"""

import sys
from typing import Any

import attrs
import treq
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import react
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tunnelkit import LstpEnd


@implementer(IAgentEndpointFactory)
@attrs.frozen
class Through:
    """Where the Agent connects: wherever the URL leads, through the tunnel."""

    tunnel: Any

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii")
        endpoint = self.tunnel.channel_to(f"tcp:{host}:{uri.port}")
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
        return IStreamClientEndpoint(endpoint)


async def main(reactor: Any, middle: str, identity: str, peer: str, url: str) -> None:
    """Fetch and print."""
    end = LstpEnd(reactor, middle=middle, tunnel="office", identity=identity, peer=peer)
    async with end as tunnel:
        client = treq.client.HTTPClient(Agent.usingEndpointFactory(reactor, Through(tunnel)))
        response = await client.get(url)
        print(await response.text())


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
