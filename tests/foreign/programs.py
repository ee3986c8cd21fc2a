"""The clients that come with Java and Node, through SOCKS, the HTTP proxy and a forward (U-4).

::

    scripts/install-test-packages scripts/foreign-packages
    python -m tests.foreign.programs

Prints each way that a program goes, and whether its page came. Status 1: one of them has not.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.acceptance.processes import Identities, Processes
from tests.acceptance.tunnels import STARTERS
from tests.foreign.test_proxies import Pages

HERE = Path(__file__).resolve().parent
LIMIT = 180
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Origin(Pages):
    """Its pages, and a websocket that says everything again."""

    def do_GET(self) -> None:
        if self.path != "/socket":
            super().do_GET()
            return
        key = self.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET).digest()).decode()
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        while data := self.connection.recv(65_536):
            self.connection.sendall(data)
        self.close_connection = True


def run(name: str, *words: object) -> bool:
    """Print what a program finds; whether all of it is well."""
    found = shutil.which(name)
    if found is None:
        print(f"{name} is not installed, see scripts/foreign-packages")
        return False
    done = subprocess.run(
        [found, *map(str, words)], stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=False
    )
    for line in done.stdout.splitlines():
        print(f"  {name}: {line}", flush=True)
    lines = done.stdout.splitlines()
    return done.returncode == 0 and bool(lines) and all(line.endswith(": ok") for line in lines)


def main() -> int:
    """The command."""
    good = True
    with tempfile.TemporaryDirectory(prefix="programs-") as name:
        identities = Identities.create(Path(name) / "keys")
        origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        web = origin.server_port
        for transport, start in STARTERS.items():
            directory = Path(name) / transport
            directory.mkdir()
            processes = Processes(directory)
            try:
                tunnel = start(
                    processes, identities,
                    [f"tcp:127.0.0.1:{web}", f"tcp:localhost:{web}@127.0.0.0/8"],
                    *("--socks", "0", "--http-proxy", "0"),
                    *("--forward", f"0=tcp:127.0.0.1:{web}"),
                )  # fmt: skip
                client = tunnel.client
                socks, proxy = client.port("socks"), client.port("http-proxy")
                forward = client.port("forward")
                print(f"over {transport}:", flush=True)
                good &= run("java", HERE / "Fetch.java", socks, proxy, forward, web)
                good &= run("node", HERE / "fetch.js", proxy, forward, web)
            finally:
                processes.end()
        origin.shutdown()
        origin.server_close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
