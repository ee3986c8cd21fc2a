"""A display here that shows what runs here on the X server at the far side of a tunnel.

python x11_display.py relay.example:7000 me.pem other 42 xclock
"""

import os
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.utils import getProcessOutputAndValue

from tunnelkit import LstpEnd


async def main(
    reactor: Any, middle: str, identity: str, peer: str, display: str, *command: str
) -> None:
    """Run the command with its windows over there, which the far side's rules must allow."""
    end = LstpEnd(
        reactor, middle=middle, tunnel="office", identity=identity, peer=peer, x11=display
    )
    async with end:
        env = os.environ | {"DISPLAY": f"127.0.0.1:{display}"}
        out, said, status = await getProcessOutputAndValue(command[0], command[1:], env)
        print(out.decode(), said.decode(), end="")
        if status:
            raise SystemExit(status)


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
