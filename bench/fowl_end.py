"""One end of a fowl tunnel that goes through a transit relay, by fowl's own library.

``fowl`` on the command line connects its ends directly where it can, and has no option for the
relay. Called as a program, by the Python that fowl is installed for:
``fowl_end.py server|client MAILBOX-URL RELAY CODE PORT``. PORT is the target's at the server, the
application's at the client. The file runs on its own, without the rest of this package.
"""

from __future__ import annotations

import sys

from fowl._proto import APPID, SUPPORTED_FEATURES
from fowl.api import create_coop
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorCore, IReactorTCP
from twisted.internet.task import react
from wormhole import create

SERVICE = "job"


async def run(reactor: IReactorCore, *arguments: str) -> None:
    """Be one end until the process is ended."""
    side, mailbox, relay, code, port = arguments
    versions = {"fowl": {"features": SUPPORTED_FEATURES}}
    wormhole = create(APPID, mailbox, reactor, dilation=True, versions=versions)
    coop = create_coop(reactor, wormhole)
    wormhole.set_code(code)
    if side == "client":
        entry = TCP4ServerEndpoint(IReactorTCP(reactor), int(port), interface="127.0.0.1")
        coop.roost(SERVICE, entry)
    await coop.dilate(transit_relay_location=relay, no_listen=True)
    if side == "server":
        await coop.fledge(SERVICE, local_connect_port=int(port))
    await Deferred()


if __name__ == "__main__":
    react(lambda *arguments: ensureDeferred(run(*arguments)), sys.argv[1:])
