"""Ask every member of a group for a page, each through a tunnel of its own, and print them.

python group_members.py relay.example:443 relay.example me.pem servers rack-1,rack-2 tcp:web:80 /
"""

import sys
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import react
from twisted.web.client import URI, Agent, readBody
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tunnelkit import SecureProxyClient


@implementer(IAgentEndpointFactory)
class Through:
    """Where the Agent connects, whatever host the URL names."""

    def __init__(self, tunnel: Any, destination: str) -> None:
        self._endpoint = tunnel.channel_to(destination)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return IStreamClientEndpoint(self._endpoint)


async def main(reactor: Any, server: str, name: str, me: str, group: str, *words: str) -> None:
    """Print what each one says, and who could not be asked."""
    members, destination, path = words
    client = SecureProxyClient(
        reactor, server=server, server_name=name, identity=me, peer=members.split(",")
    )
    IService(client).startService()
    found = await client.tunnels_to(f"group:{group}")
    for member, tunnel in found.tunnels.items():
        agent = Agent.usingEndpointFactory(reactor, Through(tunnel, destination))
        response = await agent.request(b"GET", f"http://{member}{path}".encode("ascii"))
        print(f"{member}: {(await readBody(response)).decode().strip()}")
    for member, why in found.failed.items():
        print(f"{member}: no tunnel: {why}")
    await maybeDeferred(IService(client).stopService)


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
