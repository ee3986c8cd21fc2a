"""Send one datagram through an LSTP tunnel, and print the answer.

python udp_through_tunnel.py relay.example:7000 me.pem other 192.0.2.7 5000 hello
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tunnelkit import LstpEnd


class Answer:
    """A `DatagramSink` that waits for one datagram."""

    def __init__(self) -> None:
        self.opened: Deferred[None] = Deferred()
        self.came: Deferred[bytes] = Deferred()

    def flow_opened(self) -> None:
        self.opened.callback(None)

    def datagram_received(self, remote: tuple[str, int], data: memoryview) -> None:
        if not self.came.called:
            self.came.callback(bytes(data))

    def flow_ended(self, code: Any, reason: str) -> None:
        if code is not None:
            sys.exit(f"no flow: {reason}")


async def main(reactor: Any, middle: str, me: str, peer: str, *words: str) -> None:
    """Send, and print what comes back."""
    host, port, text = words
    async with LstpEnd(reactor, middle=middle, tunnel="office", identity=me, peer=peer) as tunnel:
        answer = Answer()
        flow = tunnel.open_flow(f"udp:{host}:{port}", ("", 0), answer)
        assert flow is not None
        await answer.opened
        flow.send((host, int(port)), text.encode())
        print((await answer.came).decode())
        flow.end()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
