"""Loads whose rate is measured: bulk streams in a process of their own at some place."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from bench import traffic
from bench.loads import Address
from tests.acceptance.processes import Process
from tests.system.firewalls import PROXY_USER
from tests.system.places import PlacedProcesses

PLAIN_PORT = 9000


class Fetching:
    """Bulk streams from a target (`bench.traffic`) to where ``processes`` run, for ``seconds``."""

    def __init__(
        self,
        processes: PlacedProcesses,
        address: Address,
        streams: int,
        seconds: float,
        as_proxy: bool = False,
    ) -> None:
        file = processes.directory / f"fetched-{address[1]}"
        file.unlink(missing_ok=True)
        self._counter = traffic.Counter(str(file))
        host, port = address
        # A firewall lets out nobody but its proxy; membership of the proxy's group is enough.
        disguise = ("setpriv", f"--regid={PROXY_USER}", "--clear-groups") if as_proxy else ()
        self.process: Process = processes.start(
            f"fetch from {host}:{port}",
            *(*disguise, sys.executable, traffic.__file__, "fetch", host, port),
            *("--seconds", seconds, "--streams", streams, "--counter", file),
        )
        self.seconds = seconds

    @property
    def received(self) -> int:
        """Bytes so far."""
        return self._counter.value()

    def wait_for(self, amount: float) -> None:
        """Return once so many bytes have come."""
        pause = threading.Event()
        deadline = time.monotonic() + self.seconds
        while self.received < amount:
            assert time.monotonic() < deadline, f"only {self.received} bytes have come"
            assert self.process.child.poll() is None, self.process.log
            pause.wait(0.02)

    def rate(self) -> float:
        """Bits per second over the whole time, once it is over."""
        assert self.process.wait(self.seconds + 30) == 0, self.process.log
        return self.received * 8 / self.seconds


def serve(processes: PlacedProcesses, host: str) -> Address:
    """A target at ``host``, ready."""
    counter = Path(processes.directory, "served")
    words = ("serve", host, PLAIN_PORT, "--counter", counter)
    processes.start("target", sys.executable, traffic.__file__, *words, ready="serving")
    return host, PLAIN_PORT
