"""A keepalive that says in the log what it has learned (finding U-19)."""

from __future__ import annotations

from twisted.logger import Logger

from tunnelkit.core.mux.keepalive import Keepalive

_log = Logger()


def learning_keepalive(seconds: float) -> Keepalive:
    """For all tunnels of an end by one protocol."""
    keepalive = Keepalive(seconds)
    keepalive.on_learned = _learned
    return keepalive


def _learned(idle: float, seconds: float) -> None:
    _log.warn(
        "Twice a tunnel was cut after {idle:.0f} s without a byte, as by a proxy that gives up "
        "what is idle: something is sent every {seconds:.1f} s from now on (--keepalive)",
        idle=idle,
        seconds=seconds,
    )
