"""Count what the parties of a tunnel do for one operation: calls, byte codes, system calls, CPU.

The parties were started from a source tree (``bench/role.py``), so that they can be told what to
count. Each way of counting has a load of its own, since counting slows them down.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from bench import loads
from bench.own import CONTROL
from bench.parties import Party, PartyFailed
from bench.rig import Rig
from bench.traffic import ECHO, open_mode

FIGURES = {
    "calls": "calls",
    "built_in": "built-in calls",
    "codes": "byte codes",
    "system": "system calls",
    "user": "user us",
    "kernel": "kernel us",
    "cpu": "CPU us",
}
"""What is counted, and the heads of its columns: functions in Python, functions in C called from
Python, ..."""


@attrs.frozen
class Operation:
    """One thing done again and again, and how often for each way of counting."""

    name: str
    begin: Callable[[loads.Address], contextlib.AbstractContextManager[Callable[[int], None]]]
    """Gets ready at an address, and gives a function that does it that many times."""
    timed: int
    """For the CPU."""
    called: int
    coded: int
    traced: int
    """For the system calls."""

    def scaled(self, share: float) -> Operation:
        """The same with another number of repetitions."""
        counts = {
            name: max(1, round(getattr(self, name) * share))
            for name in ("timed", "called", "coded", "traced")
        }
        return attrs.evolve(self, **counts)


@contextlib.contextmanager
def round_trips(address: loads.Address) -> Iterator[Callable[[int], None]]:
    """A message and its answer, on one connection."""
    with open_mode(address, ECHO) as connection:
        message = bytes(range(loads.MESSAGE))

        def talk(count: int) -> None:
            for _ in range(count):
                connection.sendall(message)
                if loads.receive_exactly(connection, len(message)) != message:
                    raise loads.LoadError("the echo differs")

        yield talk


@contextlib.contextmanager
def lives(address: loads.Address) -> Iterator[Callable[[int], None]]:
    """A connection, one byte each way, and its end."""

    def live(count: int) -> None:
        for _ in range(count):
            loads.ask_once(address)

    yield live


OPERATIONS = (
    Operation("round trip", round_trips, timed=4000, called=500, coded=200, traced=300),
    Operation("channel's life", lives, timed=1000, called=200, coded=60, traced=100),
)


class Counts(NamedTuple):
    """What one operation costs one party."""

    figures: dict[str, float]
    """By column; nan for what could not be counted."""
    functions: dict[str, float]
    """How often each function in Python was called, by ``room/file.py:function``."""
    built_in: dict[str, float]
    """How often each function in C."""
    system: dict[str, float]
    """How often each system call; empty if they could not be counted."""


def say(party: Party, word: str) -> Any:
    """Say a command of ``bench/role.py`` to a party; what it had counted before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(10)
        control.connect(str(party.log.with_name(CONTROL)))
        with control.makefile("rw") as stream:
            stream.write(f"{word}\n")
            stream.flush()
            return json.loads(stream.read())


def grown(before: Mapping[str, Any], after: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The difference of two answers, per operation."""
    difference: dict[str, Any] = {}
    for key, value in after.items():
        if isinstance(value, dict):
            known = before[key]
            names = {name: (total - known.get(name, 0)) / count for name, total in value.items()}
            difference[key] = {name: each for name, each in names.items() if each}
        else:
            difference[key] = (value - before[key]) / count
    return difference


def counted(rig: Rig, operation: Operation, way: str, count: int) -> dict[str, dict[str, Any]]:
    """Do it ``count`` times while the parties count in one way, and a tenth of that before."""
    parties = rig.parties.running
    for party in parties:
        say(party, way)
    try:
        with operation.begin(rig.entry) as do:
            do(max(1, count // 10))
            before = {party.name: say(party, "read") for party in parties}
            do(count)
            after = {party.name: say(party, "read") for party in parties}
    finally:
        for party in parties:
            say(party, "plain")
    return {name: grown(before[name], after[name], count) for name in before}


class Tracer:
    """strace attached to one party, until ``stop``."""

    def __init__(self, party: Party) -> None:
        self._summary = party.log.with_name("system-calls")
        command = ["strace", "-c", "-f", "-o", str(self._summary), "-p", str(party.process.pid)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        if "attached" not in said:
            self.stop()
            raise PartyFailed(said.strip())

    def stop(self) -> dict[str, int]:
        """Detach; how often each system call was made."""
        self._process.send_signal(signal.SIGINT)
        self._process.communicate()
        calls: dict[str, int] = {}
        for line in self._summary.read_text().splitlines():
            fields = line.split()
            # % time, seconds, usecs/call, calls, (errors,) name
            if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
                calls[fields[-1]] = int(fields[3])
        return calls


def traced(rig: Rig, operation: Operation) -> dict[str, dict[str, float]]:
    """System calls by party and name, per operation. Raises PartyFailed."""
    count = operation.traced
    with operation.begin(rig.entry) as do:
        do(max(1, count // 10))
        tracers: dict[str, Tracer] = {}
        try:
            for party in rig.parties.running:
                tracers[party.name] = Tracer(party)
            do(count)
        finally:
            totals = {name: tracer.stop() for name, tracer in tracers.items()}
    return {
        party: {name: total / count for name, total in calls.items()}
        for party, calls in totals.items()
    }


def cannot_trace() -> str:
    """Why system calls cannot be counted; empty if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() and scope.exists() and scope.read_text().strip() != "0":
        return f"only root may trace other processes here ({scope})"
    return ""


def measure(rig: Rig, operation: Operation) -> dict[str, Counts]:
    """Count one operation in every way, by party. Raises PartyFailed and LoadError."""
    plain = counted(rig, operation, "plain", operation.timed)
    called = counted(rig, operation, "calls", operation.called)
    coded = counted(rig, operation, "codes", operation.coded)
    system: dict[str, dict[str, float]] = {} if cannot_trace() else traced(rig, operation)
    counts: dict[str, Counts] = {}
    for party in plain:
        functions, built_in = called[party]["functions"], called[party]["built_in"]
        calls = system.get(party, {})
        figures = {
            "calls": sum(functions.values()),
            "built_in": sum(built_in.values()),
            "codes": coded[party]["codes"],
            "system": sum(calls.values()) if calls else float("nan"),
            "user": plain[party]["user"] * 1e6,
            "kernel": plain[party]["kernel"] * 1e6,
            "cpu": (plain[party]["user"] + plain[party]["kernel"]) * 1e6,
        }
        counts[party] = Counts(figures, functions, built_in, calls)
    return counts
