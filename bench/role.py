"""Run a tunnelkit role of a certain source tree, and count what it does on demand.

Called as a program: ``role.py SOURCE CONTROL ROLE OPTION...``. SOURCE is the root of a source tree,
whatever its layout; CONTROL is where a Unix socket is made that takes one command per connection
and answers with JSON:

``plain``  nothing is counted but CPU time, as the kernel counts it
``calls``  functions called from now on are counted, each by its name (cProfile)
``codes``  byte codes from now on are counted (slow: about ten times)
``read``   changes nothing
``turns``  turns of the reactor are timed from now on, by what they take of the thread's CPU time;
           the answer is the list of those before, each with the garbage collector's share of it

Every other answer is what has been counted up to the command, so that two of them have a
difference. While something is counted the delays of reports that travel by themselves are ten
seconds: a process that is slowed down by counting would otherwise send more of them than it does
in truth.

The file runs on its own, without the rest of this package.
"""

from __future__ import annotations

import cProfile
import gc
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

DELAYS = "REPORT_DELAY"
"""How the names of the constants end that hold such delays in seconds."""
LONG = 10.0

Trace = Callable[[FrameType, str, Any], Any]


def use_tree(source: str) -> None:
    """Make ``source`` the place where tunnelkit and its plug-ins are found, and no other tree."""
    here = Path(__file__).resolve().parent
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if "tunnelkit" not in getattr(finder, "__module__", "")  # of an editable installation
    ]

    def is_tree(place: str) -> bool:
        return Path(place, "tunnelkit").is_dir() and Path(place, "setup.cfg").exists()

    elsewhere = [place for place in sys.path if Path(place).resolve() != here]
    sys.path[:] = [source, *(place for place in elsewhere if not is_tree(place))]


def name_of(code: CodeType | str) -> str:
    """``room/file.py:function`` of a Python function; of a built-in one what the profiler says."""
    if isinstance(code, str):
        return code.strip("<>")
    file = "/".join(Path(code.co_filename).parts[-2:])
    return f"{file}:{getattr(code, 'co_qualname', code.co_name)}"


class Turns:
    """Of the reactor: how long each keeps everybody else waiting."""

    def __init__(self) -> None:
        self._taken: list[tuple[float, float]] = []
        self._began = self._collecting = self._collected = 0.0
        self._watching = False

    def restart(self) -> list[tuple[float, float]]:
        """Those so far, in seconds; begin anew. Runs in the reactor's thread."""
        if not self._watching:
            self._watching = True
            self._watch()
        taken, self._taken = self._taken, []
        return taken

    def _watch(self) -> None:
        from twisted.internet import reactor

        loop: Any = reactor
        begin_turn = loop.runUntilCurrent

        def turn() -> None:
            now = time.thread_time()
            self._taken.append((now - self._began, self._collected))
            self._began, self._collected = now, 0.0
            begin_turn()

        self._began = time.thread_time()
        loop.runUntilCurrent = turn
        gc.callbacks.append(self._collector)

    def _collector(self, phase: str, info: object) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting


class Counts:
    """What the main thread does. Its methods run there, but for ``read``."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile()
        self._codes = 0
        self._delays: list[tuple[Any, str, float]] = []

    def plain(self) -> None:
        """Count nothing."""
        self._profile.disable()
        sys.settrace(None)
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            frame.f_trace, frame.f_trace_opcodes = None, False
            frame = frame.f_back
        for module, name, delay in self._delays:
            setattr(module, name, delay)
        self._delays.clear()

    def calls(self) -> None:
        """Count calls."""
        self.plain()
        self._lengthen()
        self._profile.enable()

    def codes(self) -> None:
        """Count byte codes."""
        self.plain()
        self._lengthen()
        trace = self._tracer()
        sys.settrace(trace)
        # Functions that run already, among them the main loop, count from here on.
        frame = sys._getframe().f_back
        while frame is not None:
            trace(frame, "call", None)
            frame.f_trace = trace
            frame = frame.f_back

    def _lengthen(self) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("tunnelkit."):
                for constant, delay in list(vars(module).items()):
                    if constant.endswith(DELAYS) and isinstance(delay, float):
                        self._delays.append((module, constant, delay))
                        setattr(module, constant, LONG)

    def _tracer(self) -> Trace:
        def trace(frame: FrameType, event: str, argument: object) -> Trace:
            if event == "opcode":
                self._codes += 1
            elif event == "call":
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return trace

        return trace

    def read(self) -> dict[str, Any]:
        """CPU seconds, calls by function, byte codes."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        functions: dict[str, int] = {}
        built_in: dict[str, int] = {}
        for entry in self._profile.getstats():
            into = built_in if isinstance(entry.code, str) else functions
            name = name_of(entry.code)
            into[name] = into.get(name, 0) + entry.callcount
        return {
            "user": used.ru_utime,
            "kernel": used.ru_stime,
            "functions": functions,
            "built_in": built_in,
            "codes": self._codes,
        }


def serve(listener: socket.socket, counts: Counts) -> None:
    """Answer commands until the process ends."""
    changes: dict[str, Callable[[], Any]] = {
        "plain": counts.plain,
        "calls": counts.calls,
        "codes": counts.codes,
        "turns": Turns().restart,
    }
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as stream:
            command = stream.readline().strip()
            before: object = counts.read()
            if command != "read":
                # Not before: twistd chooses the reactor.
                from twisted.internet import interfaces, reactor, threads

                loop = interfaces.IReactorFromThreads(reactor)
                result = threads.blockingCallFromThread(loop, changes[command])
                if command == "turns":
                    before = result
            stream.write(json.dumps(before))


def main() -> None:
    """Start answering, then become twistd."""
    source, control, *arguments = sys.argv[1:]
    use_tree(source)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.path.abspath(control))
    listener.listen()
    threading.Thread(target=serve, args=(listener, Counts()), daemon=True).start()
    sys.argv = ["twistd", "-n", "--pidfile=", *arguments]
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
