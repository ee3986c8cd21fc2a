"""Telling systemd how the role is: ready, reloading, stopping, alive (row O10, sd_notify(3)).

Nothing is told where nobody asks for it: without ``NOTIFY_SOCKET`` in the environment.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()


class Notifier:
    """Says it to the socket that ``environment`` names."""

    def __init__(self, reactor: Any, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._place = environment.get("NOTIFY_SOCKET", "")
        self._alive = LoopingCall(self._tell, "WATCHDOG=1")
        self._alive.clock = reactor
        self._interval = _interval(environment)

    def ready(self) -> None:
        """The ports are open and the role has begun; from now on it says that it lives."""
        self._tell("READY=1")
        if self._place and self._interval:
            self._alive.start(self._interval)

    def reloading(self) -> None:
        """Settings are being read again; `reloaded` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """That is over."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """Nothing new is taken. It goes on saying that it lives, until it does not."""
        self._tell("STOPPING=1")

    def over(self) -> None:
        """The role has ended."""
        if self._alive.running:
            self._alive.stop()

    def _tell(self, text: str) -> None:
        if not self._place:
            return
        # An abstract name is written with @ in place of its first byte.
        place = "\0" + self._place[1:] if self._place.startswith("@") else self._place
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode("ascii"), place)
        except OSError as error:
            _log.debug("NOTIFY_SOCKET {place}: {why}", place=self._place, why=error.strerror)


def _interval(environment: Mapping[str, str]) -> float:
    """Seconds between two signs of life, half of what systemd waits; 0: it does not."""
    text, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdigit() or process not in ("", str(os.getpid())):
        return 0.0
    return int(text) / 2_000_000
