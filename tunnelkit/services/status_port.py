"""``--status``: a port or unix socket where a role shows what it does, over HTTP (rows O2, X15)."""

from __future__ import annotations

import os
import re
import secrets
import socket
import stat
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IServesPages
from tunnelkit.net.role_status import RoleStatus
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.tcp import Listener, bind_tcp, bind_unix, format_address, remove_socket
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import TCP
from tunnelkit.policy.printable import printable
from tunnelkit.services.live import Live
from tunnelkit.services.status_guard import Guard
from tunnelkit.services.status_options import StatusPlaces
from tunnelkit.services.status_pages import StatusPages
from tunnelkit.services.status_site import StatusSite
from tunnelkit.services.steering import Steering

_log = Logger()

_TOKEN = re.compile(rb"[A-Za-z0-9_-]{43}\n")


class StatusService(Service):
    """Serves the ``status`` of ``role`` (an `IRoleService`) and takes commands for it; bound when
    it is made (`ConfigError`)."""

    def __init__(
        self,
        reactor: Any,
        name: str,
        role: Any,
        places: StatusPlaces,
        steering: Steering,
        status: Callable[[], RoleStatus],
    ) -> None:
        self._reactor = reactor
        self._status = status
        self._steering = steering
        self._live = Live(reactor, status, self._facts)
        self._own: list[tuple[str, str, int]] = []
        self._token_file = ""
        self._sockets: list[socket.socket] = []
        self._listeners: list[Listener] = []
        holder = getattr(role, "policy", None)
        policy = holder if isinstance(holder, PolicyHolder) else PolicyHolder()
        self._all_own = policy.listeners
        own = policy.own
        try:
            for path in places.paths:
                self._sockets.append(bind_unix(own(path, 0, "unix")))
            for address, port in places.addresses:
                self._sockets.append(bind_tcp(own(address, port, "tcp")))
            for sock in self._sockets:
                if sock.family != socket.AF_UNIX:
                    address, port = sock.getsockname()[:2]
                    self._own.append((TCP, address, port))
                    policy.listeners.add(TCP, address, port)
            self._token = secrets.token_urlsafe(32).encode("ascii")
            if places.addresses:
                self._token_file = places.token_file or _default_token_file(name)
                write_token(self._token_file, self._token)
        except ConfigError:
            self._forget_own()
            for sock in self._sockets:
                path = sock.getsockname()
                sock.close()
                if isinstance(path, str):
                    remove_socket(path)
            raise
        if IServesPages.providedBy(role):
            # It has looked at Host and at who asks.
            role.serve(self._pages(Guard(None, None, b"https")))

    def page(self) -> dict[str, object]:
        """Where a browser finds it, and its token."""
        return {
            "pages": [
                {"address": format_address(sock.getsockname()), "token_file": self._token_file}
                for sock in self._sockets
                if sock.family != socket.AF_UNIX
            ]
        }

    def startService(self) -> None:
        """Answer."""
        Service.startService(self)
        self._live.start()
        poller = Poller.of(self._reactor)
        for sock in self._sockets:
            site = StatusSite(self._pages(self._guard(sock)), self._reactor)
            listener = Listener(poller, sock, partial(self._accept, site))
            self._listeners.append(listener)
            if sock.family == socket.AF_UNIX:
                _log.info("Status at unix:{where}", where=listener.address)
            else:
                _log.info(
                    "Status at http://{where}/, token in {file}",
                    where=listener.address,
                    file=printable(self._token_file),
                )

    def stopService(self) -> None:
        """Answer nobody new, and remove the token's file."""
        Service.stopService(self)
        self._live.stop()
        for listener in self._listeners:
            listener.close()
        self._forget_own()
        if self._token_file and _is_token_file(self._token_file, self._token):
            os.unlink(self._token_file)

    def _guard(self, sock: socket.socket) -> Guard:
        if sock.family == socket.AF_UNIX:
            return Guard(frozenset({b"localhost"}), None)
        port = sock.getsockname()[1]
        names = ("localhost", "127.0.0.1", "[::1]")
        return Guard(frozenset(f"{name}:{port}".encode() for name in names), self._token)

    def _pages(self, guard: Guard) -> StatusPages:
        return StatusPages(
            guard,
            self._reactor,
            self._status,
            self._steering,
            self._live,
            lambda: bool(self.running),
        )

    def _facts(self) -> dict[str, object]:
        """What the page is told beside the state."""
        return {
            "can": self._steering.abilities,
            "draining": self._steering.draining,
            "added": self._steering.forwards(),
        }

    def _forget_own(self) -> None:
        own, self._own = self._own, []
        for one in own:
            self._all_own.discard(*one)

    def _accept(self, site: StatusSite, sock: socket.socket, address: object) -> None:
        # The reactor works on a duplicate of the descriptor.
        self._reactor.adoptStreamConnection(sock.fileno(), sock.family, site)
        sock.close()


def _default_token_file(name: str) -> str:
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        directory = os.environ.get(variable, "").partition(":")[0]
        if directory:
            return os.path.join(directory, f"tunnelkit-{name}.token")
    raise ConfigError(
        "--status: nowhere to put its token: expected --status-token-file FILE, or a directory "
        "in $XDG_RUNTIME_DIR"
    )


def write_token(path: str, token: bytes) -> None:
    """Put it into a file that only this user can read.

    Replaces a token from before and nothing else (X27). Raises `ConfigError`.
    """
    shown = f"--status-token-file {printable(path)}"
    if os.path.lexists(path) and not _is_token_file(path, None):
        raise ConfigError(f"{shown}: it is something else than a token: expected another path")
    beside = f"{path}.{secrets.token_hex(4)}"
    try:
        number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "wb") as file:
            file.write(token + b"\n")
        os.replace(beside, path)
    except OSError as error:
        raise ConfigError(
            f"{shown}: {error.strerror}: expected a path that can be written"
        ) from None


def _is_token_file(path: str, token: bytes | None) -> bool:
    """Whether a token is there, ``token`` if that is given, in a file of this user."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(number, "rb") as file:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                return False
            text = file.read(100)
    except OSError:
        return False
    return bool(_TOKEN.fullmatch(text)) if token is None else text == token + b"\n"
