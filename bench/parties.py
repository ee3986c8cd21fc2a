"""The processes of a system under test: started, watched for CPU and memory, always ended."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import NamedTuple, TypeVar

import attrs

from bench import loads
from bench.link import Namespace, permitted

T = TypeVar("T")

TICKS = os.sysconf("SC_CLK_TCK")


class PartyFailed(Exception):
    """A process of a system under test ended, or the system never answered."""


@attrs.frozen
class Place:
    """Where a party runs and how the others reach it."""

    namespace: Namespace | None = None
    """None: the network this process is in."""
    address: str = "127.0.0.1"

    def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` there."""
        return function() if self.namespace is None else self.namespace.call(function)

    def free_port(self) -> int:
        """A port that nothing listens on there."""

        def find() -> int:
            with socket.socket() as probe:
                probe.bind(("0.0.0.0", 0))
                port: int = probe.getsockname()[1]
                return port

        return self.call(find)


@attrs.frozen
class Layout:
    """The places of the two ends of a tunnel (with their applications) and of its middle."""

    client: Place
    middle: Place
    server: Place


class Process(NamedTuple):
    """What /proc says of one process."""

    parent: int
    cpu: float
    """User and system seconds, with those of children that have been waited for."""


def _processes() -> dict[int, Process]:
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                text = Path("/proc", entry, "stat").read_text()
                fields = text.rpartition(")")[2].split()
                cpu = sum(int(value) for value in fields[11:15]) / TICKS
                found[int(entry)] = Process(int(fields[1]), cpu)
    return found


def _resident(pid: int) -> int:
    """Bytes of memory a process has for itself: its share of anonymous memory.

    Program files and libraries are left out: what is shared with whom changes all the time.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    return 0


@attrs.define
class Party:
    """One process of a system under test, with the processes it starts itself."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def family(self, processes: Mapping[int, Process]) -> list[int]:
        """The process and all its descendants."""
        family = [self.process.pid]
        for pid in family:
            family.extend(child for child, entry in processes.items() if entry.parent == pid)
        return family

    def resident(self) -> int:
        """Bytes of memory of the whole family."""
        return sum(_resident(pid) for pid in self.family(_processes()))


class Parties:
    """The processes of one system; as a context manager it ends them all."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="tunnelkit-bench-")
        self.directory = Path(self._temporary.name)
        """For configuration, keys and logs."""
        self.running: list[Party] = []

    def start(
        self, name: str, argv: Sequence[str], place: Place, environment: Mapping[str, str] = {}
    ) -> Party:
        """Start a process at ``place`` in a directory of its own."""
        home = self.directory / f"{len(self.running)}-{name}"
        home.mkdir()
        log = home / "log"
        with log.open("wb") as output:
            process = place.call(
                lambda: subprocess.Popen(
                    argv,
                    cwd=home,
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        party = Party(name, process, log)
        self.running.append(party)
        return party

    def check(self) -> None:
        """Raise PartyFailed, with the end of its log, if a process has ended."""
        for party in self.running:
            if party.process.poll() is not None:
                lines = party.log.read_text(errors="replace").strip().splitlines()[-1:]
                raise PartyFailed(
                    f"{party.name} ended with status {party.process.returncode}: "
                    + (lines[0] if lines else "no output")
                )

    def wait_for_answer(
        self, place: Place, address: loads.Address, seconds: float = 20.0, *, tunnel: bool = True
    ) -> None:
        """Wait until ``address`` accepts (``tunnel``: until the target answers through it)."""
        deadline = time.monotonic() + seconds
        pause = 0.02
        while True:
            self.check()
            try:
                if tunnel:
                    place.call(lambda: loads.ask_once(address, 2.0))
                else:
                    place.call(lambda: socket.create_connection(address, 2.0).close())
                return
            except (OSError, loads.LoadError) as error:
                if time.monotonic() > deadline:
                    raise PartyFailed(f"no answer at {address[0]}:{address[1]}: {error}") from error
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)

    def cpu_seconds(self) -> float:
        """User and system seconds spent so far by all processes."""
        processes = _processes()
        family = {pid for party in self.running for pid in party.family(processes)}
        return sum(processes[pid].cpu for pid in family if pid in processes)

    def stop(self) -> None:
        """End every process and remove the directory."""
        processes = _processes()
        family = [pid for party in reversed(self.running) for pid in party.family(processes)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for party in self.running:
            try:
                party.process.wait(2)
            except subprocess.TimeoutExpired:
                party.process.kill()
                party.process.wait()
        self.running.clear()
        self._temporary.cleanup()

    def __enter__(self) -> Parties:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Room for many descriptors, and SIGTERM ends the script through its clean-up."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextlib.contextmanager
def loopback(congestion_control: str) -> Iterator[tuple[Layout, str]]:
    """All parties on one loopback, and a sentence about its congestion control.

    Who may make a network namespace gets one with ``congestion_control`` set inside, so that the
    rest of the machine keeps its setting; others get the loopback of the machine as it is.
    """
    if permitted():
        with Namespace(congestion_control) as namespace:
            place = Place(namespace)
            yield (
                Layout(place, place, place),
                f"TCP congestion control {congestion_control} for all parties, in a network "
                "namespace of its own",
            )
    else:
        setting = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
        place = Place()
        yield (
            Layout(place, place, place),
            f"TCP congestion control {setting}, as this machine has it: not root, so it was not "
            "set; with bbr the figures hide what the programs cost",
        )
