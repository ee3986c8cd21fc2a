"""The HTTPS web server of ``tunnelkit demo secure-proxy``: ``HOST:PORT CERTIFICATE DIRECTORY``."""

from __future__ import annotations

import functools
import http.server
import ssl
import sys
from collections.abc import Sequence


def serve(arguments: Sequence[str]) -> None:
    """Serve the files of a directory until it is ended."""
    place, certificate, directory = arguments
    host, _, port = place.rpartition(":")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)
    server = http.server.ThreadingHTTPServer((host, int(port)), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"Serving HTTPS on {place}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1:])
