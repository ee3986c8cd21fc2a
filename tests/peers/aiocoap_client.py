"""An independent CoAP client (aiocoap): posts its standard input to a URL through a proxy.

python -m tests.peers.aiocoap_client PROXY-HOST:PORT URL
"""

from __future__ import annotations

import asyncio
import sys

from aiocoap import POST, Context, Message


async def main(proxy: str, url: str) -> None:
    context = await Context.create_client_context()
    message = Message(code=POST, payload=sys.stdin.buffer.read())
    message.opt.proxy_uri = url
    message.unresolved_remote = proxy
    response = await asyncio.wait_for(context.request(message).response, 30)
    print(response.code, file=sys.stderr)
    sys.stdout.buffer.write(response.payload)
    await context.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
