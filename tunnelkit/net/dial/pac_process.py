"""Having a proxy auto-configuration script answer in a process that is stopped if it does not."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any

from twisted.internet import defer, error
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tunnelkit.errors import ConfigError, DialError, DialTimeout
from tunnelkit.net.dial import pac_child
from tunnelkit.net.sockets.timer import Timer

LIMIT = 15.0
"""Seconds for the answer, with the names that the script looks up."""
_MOST_OUTPUT = 32 << 10
_ENVIRONMENT = ("TZ", "LANG", "LC_ALL", "RES_OPTIONS", "LOCALDOMAIN")
"""What the process is told of ours: all that concerns hours and names."""


def interpreter() -> str:
    """The directory of the JavaScript interpreter; raises `ConfigError` if there is none."""
    found = importlib.util.find_spec("quickjs")
    if found is None or found.origin is None:
        raise ConfigError(
            "a PAC file is a program in JavaScript, whose interpreter is not installed here: "
            "expected the extra 'tunnelkit[pac]' (pip install quickjs-ng)"
        )
    return os.path.dirname(os.path.dirname(found.origin))


def ask_script(
    reactor: Any, script: str, url: str, host: str, *, limit: float = LIMIT
) -> defer.Deferred[str]:
    """What ``FindProxyForURL(url, host)`` of ``script`` returns.

    Fails with a `DialError` that says why not, or `DialTimeout` after ``limit`` seconds.
    """
    question = {"script": script, "url": url, "host": host, "library": interpreter()}
    asking = _Asking(reactor, json.dumps(question).encode("ascii"), limit)
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Neither the environment nor the user's directories decide what runs there.
    command = [sys.executable, "-I", "-S", pac_child.__file__]
    try:
        reactor.spawnProcess(asking, sys.executable, command, env=environment, path="/")
    except OSError as problem:
        asking.fail(f"no process could be started for it: {problem.strerror}")
    return asking.done


class _Asking(ProcessProtocol):
    """One question to one process."""

    def __init__(self, reactor: Any, question: bytes, limit: float) -> None:
        self._question = question
        self._limit = limit
        self._output = bytearray()
        self._errors = bytearray()
        self._timer = Timer(reactor, self._too_late)
        self._timer.start(limit)
        self.done: defer.Deferred[str] = defer.Deferred(self._cancel)

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self._question)
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._output += data
        if len(self._output) > _MOST_OUTPUT:
            self.fail("its answer is too long")

    def errReceived(self, data: bytes) -> None:
        self._errors += data[: _MOST_OUTPUT - len(self._errors)]

    def outConnectionLost(self) -> None:
        try:
            told = json.loads(self._output)
        except ValueError:
            return  # how it ended will say why
        if self.done.called:
            return
        if "answer" not in told:
            self.fail(shown(told["problem"]))
            return
        self._timer.stop()
        self.done.callback(told["answer"])

    def processEnded(self, reason: Failure) -> None:
        if not self.done.called:
            self.fail(self._why(reason.value))

    def fail(self, why: str) -> None:
        """It has no answer."""
        self._finish(DialError(why))

    def _why(self, ended: Any) -> str:
        if isinstance(ended, error.ProcessTerminated) and ended.signal is not None:
            return (
                f"it was stopped (signal {ended.signal}): expected an answer within "
                f"{pac_child.CPU_LIMIT} s of processor time"
            )
        lines = self._errors.decode("utf-8", "replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        return f"its process failed: {shown(last)}"

    def _too_late(self) -> None:
        self._finish(DialTimeout(f"it gives no answer within {self._limit:g} s"))

    def _finish(self, problem: Exception) -> None:
        self._timer.stop()
        self._stop()
        if not self.done.called:
            self.done.errback(problem)

    def _cancel(self, done: defer.Deferred[str]) -> None:
        self._timer.stop()
        self._stop()
        done.errback(defer.CancelledError())

    def _stop(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            try:
                transport.signalProcess("KILL")
            except error.ProcessExitedAlready:
                pass
            transport.loseConnection()


def shown(text: str) -> str:
    """What a script says, as one short line."""
    line = " ".join(text.split())
    return line[:200].encode("unicode_escape").decode("ascii")
