"""A device for ``tunnelkit demo wtls``, where libcoap's ``coap-client`` is not installed.

    python -m tunnelkit.cli.demo_device PROXY-HOST:PORT CA.pem OWN-PORT URL

Prints the page, or the code and text of an error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cryptography.x509 import load_pem_x509_certificates
from twisted.internet.task import react

from tunnelkit.net.tls.dtls_context import DtlsContext
from tunnelkit.net.wtls.device import Device
from tunnelkit.policy.acl import Policy
from tunnelkit.policy.destination import parse_host_port
from tunnelkit.wire.coap import dotted


async def main(reactor: Any, proxy: str, ca: str, port: str, url: str) -> None:
    """One request."""
    own = Policy().own("127.0.0.1", int(port), "udp")
    device = Device.bound(reactor, own, parse_host_port(proxy))
    await device.connect(DtlsContext(None, load_pem_x509_certificates(Path(ca).read_bytes())))
    answer = await device.ask(url)
    device.close()
    text = answer.payload.decode("utf-8", "replace")
    print(text if answer.code >> 5 == 2 else f"{dotted(answer.code)} {text}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
