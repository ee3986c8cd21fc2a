"""Real proxies, as Debian packages them: microsocks, dante, squid, tinyproxy."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.processes import START_LIMIT, Processes, free_port

SECRET = "correct horse"
IN_URL = "correct%20horse"

PACKAGES = {
    "microsocks": "microsocks",
    "danted": "dante-server",
    "squid": "squid",
    "basic_ncsa_auth": "squid",
    "openssl": "openssl",
    "tinyproxy": "tinyproxy-bin",
}
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/lib/squid"])


def program(name: str) -> str:
    """Where the program is; it has to be there."""
    path = shutil.which(name, path=PLACES)
    assert path, f"{name} is missing: apt-get install {PACKAGES[name]}"
    return path


def wait_until_connectable(port: int, log: Callable[[], str]) -> None:
    """Returns once somebody accepts connections on that port of 127.0.0.1."""
    deadline = time.monotonic() + START_LIMIT
    pause = threading.Event()
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            pause.wait(0.02)
        else:
            return
    raise AssertionError(f"nobody listens on port {port}\n{log()}")


class Proxies:
    """Starts real proxies; each method returns a port of 127.0.0.1."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        # Proxies that give up root need a directory that they can enter.
        self.directory = Path(tempfile.mkdtemp(prefix="tunnelkit-test-"))
        self.directory.chmod(0o755)
        processes.on_end(lambda: shutil.rmtree(self.directory))

    def microsocks(self, *options: str) -> int:
        port = free_port()
        self._start(port, "microsocks", "-i", "127.0.0.1", "-p", str(port), *options)
        return port

    def dante(self, *rules: str) -> int:
        port = free_port()
        config = self.directory / f"danted-{port}.conf"
        config.write_text(
            "\n".join(
                [
                    "logoutput: stderr",
                    "external.protocol: ipv4",
                    f"internal: 127.0.0.1 port = {port}",
                    "external: 127.0.0.1",
                    f"user.privileged: {getpass.getuser()}",
                    f"user.unprivileged: {getpass.getuser()}",
                    "clientmethod: none",
                    "socksmethod: none",
                    "client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }",
                    *rules,
                    "socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }",
                    "",
                ]
            )
        )
        pid = self.directory / f"danted-{port}.pid"
        self._start(port, "danted", "-f", str(config), "-p", str(pid))
        return port

    def squid(self, password: str | None, *rules: str, identity: Path | None = None) -> int:
        """``identity``: a file with key and certificate, to be reached by TLS."""
        port = free_port()
        listen = f"http_port 127.0.0.1:{port}"
        if identity is not None:
            listen = f"https_port 127.0.0.1:{port} tls-cert={identity}"
        rules = (*rules, "http_access allow all")
        if password is not None:
            hashed = subprocess.run(
                [program("openssl"), "passwd", "-apr1", "-stdin"],
                input=password,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            users = self.directory / f"users-{port}"
            users.write_text(f"me:{hashed}\n")
            users.chmod(0o644)
            rules = (
                f"auth_param basic program {program('basic_ncsa_auth')} {users}",
                "auth_param basic children 1",
                "acl known proxy_auth REQUIRED",
                "http_access deny !known",
                *rules,
            )
        config = self.directory / f"squid-{port}.conf"
        config.write_text(
            "\n".join(
                [
                    listen,
                    f"pid_filename {self.directory}/squid-{port}.pid",
                    "access_log none",
                    "cache_log /dev/null",
                    "cache deny all",
                    "shutdown_lifetime 0 seconds",
                    "visible_hostname proxy.test",
                    *rules,
                    "",
                ]
            )
        )
        self._start(port, "squid", "-N", "-d", "1", "-f", str(config))
        return port

    def tinyproxy(self, timeout: int) -> int:
        """One that ends connections on which nothing has passed for so many seconds."""
        port = free_port()
        config = self.directory / f"tinyproxy-{port}.conf"
        config.write_text(f"Listen 127.0.0.1\nPort {port}\nTimeout {timeout}\n")
        self._start(port, "tinyproxy", "-d", "-c", str(config))
        return port

    def _start(self, port: int, name: str, *options: str) -> None:
        process = self.processes.start(name, program(name), *options)
        wait_until_connectable(port, lambda: process.log)
