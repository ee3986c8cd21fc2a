"""Mixed traffic for an hour, with reloads, restarts and revocations (figure R15).

::

    python -m tests.soak                  # an hour
    python -m tests.soak --minutes 10

Prints what each process holds, every ten seconds, and at the end the curves of memory,
descriptors and timers. Status 1: one of them went on growing after the first fifth, a request
failed that nothing explains, or a role wrote an error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs

from tests.acceptance.applications import Application, echo, receive, wait_until
from tests.acceptance.processes import Identities, Processes, Role, tunnelkit

SAMPLE = 10.0
"""Seconds between two looks at what the processes hold."""
EVENT = 20.0
"""Seconds between two disturbances."""
EXPLAINED = 30.0
"""Seconds after a restart in which requests may fail."""
WHAT = ("memory", "descriptors", "timers")
_BARS = "▁▂▃▄▅▆▇█"
_GROWTH = {"memory": 6 << 20, "descriptors": 10, "timers": 10}
"""What may come on top of a tenth."""


def holdings(control: Path) -> dict[str, int]:
    """What the role at a control socket holds."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(control))
        sock.sendall(b"resources\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += sock.recv(4096)
    return {name: int(value) for name, value in json.loads(answer).items()}


@attrs.define
class Traffic:
    """Requests of one kind, one after the other, in a thread."""

    name: str
    request: Callable[[], None]
    disturbed: Callable[[], bool]
    """Whether a failure is explained at the moment."""
    done: int = 0
    explained: int = 0
    failures: list[str] = attrs.field(factory=list)
    over: threading.Event = attrs.field(factory=threading.Event)
    thread: threading.Thread = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: threading.Thread(target=self.run), takes_self=True),
    )

    def run(self) -> None:
        """Until it is over."""
        while not self.over.wait(0.02):
            try:
                self.request()
                self.done += 1
            except (OSError, AssertionError) as error:
                if self.disturbed():
                    self.explained += 1
                else:
                    self.failures.append(f"{time.strftime('%H:%M:%S')} {error!r}")


class Soak:
    """Two tunnels to one application, and what disturbs them."""

    def __init__(self, processes: Processes, identities: Identities, target: str) -> None:
        self.processes = processes
        self.identities = identities
        self.target = target
        self.directory = processes.directory
        self.disturbed_until = 0.0
        self.samples: dict[str, list[dict[str, int]]] = {}
        self.crl = identities.directory / "revoked.crl"
        self.forwards = 0
        common = ("--allow", target, "--crl", self.crl)
        peers = [word for name in ("client", "guest") for word in ("--peer", name)]
        self.middle = self.start("lstp-middle", "--listen", "127.0.0.1:0")
        self.place = self.middle.address("listening on")
        self.far = self.start("lstp-server-end", *self.meet("server"), *peers, *common)
        self.gate = self.start(
            "usher-gate", "--listen", "127.0.0.1:0", "--identity", identities("server"),
            *peers, *common,
        )  # fmt: skip
        self.config = self.directory / "client.toml"
        self.configure(())
        self.near = self.start_near()
        self.portal = self.start_portal()

    def meet(self, name: str) -> tuple[object, ...]:
        """The options of an LSTP end."""
        return (*("--middle", self.place, "--tunnel", "soak", "--identity", self.identities(name)),)

    def start(self, role: str, *options: object) -> Role:
        """A role with a control socket."""
        control = self.directory / f"{role}.control"
        return self.processes.role(role, *options, "--control", control)

    def configure(self, more: tuple[str, ...]) -> None:
        """Write the client's configuration, with further forwards."""
        forwards = ", ".join(f'"{forward}"' for forward in (f"0={self.target}", *more))
        self.config.write_text(f"forward = [{forwards}]\n")

    def start_near(self) -> Role:
        return self.start(
            "lstp-client-end", *self.meet("client"), "--peer", "server", "--config", self.config
        )

    def start_portal(self, name: str = "client") -> Role:
        options = (
            "--gate", self.gate.address("listening on"), "--identity", self.identities(name),
            "--peer", "server", "--forward", f"0={self.target}",
        )  # fmt: skip
        if name == "client":
            return self.start("usher-portal", *options)
        return self.processes.role("usher-portal", *options)

    # -- traffic -----------------------------------------------------------------------------

    def ask(self, end: Callable[[], Role]) -> None:
        """A connection, a few exchanges of some size."""
        size = random.choice((10, 1_000, 50_000))
        with socket.create_connection(("127.0.0.1", end().port("forward")), 20) as sock:
            for _ in range(3):
                data = random.randbytes(size)
                sock.sendall(data)
                assert receive(sock, size) == data

    def leave(self, end: Callable[[], Role]) -> None:
        """A connection that is reset in the middle of something."""
        with socket.create_connection(("127.0.0.1", end().port("forward")), 20) as sock:
            sock.sendall(bytes(20_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0] + [0] * 4))

    def disturbed(self) -> bool:
        return time.monotonic() < self.disturbed_until

    # -- events ------------------------------------------------------------------------------

    def reload(self) -> str:
        """A forward more, or one less."""
        self.forwards = (self.forwards + 1) % 3
        self.configure(tuple(f"0={self.target}" for _ in range(self.forwards)))
        self.near.process.child.send_signal(signal.SIGHUP)
        return f"reload: {self.forwards} forwards more"

    def revoke(self) -> str:
        """A guest comes, is revoked and cut."""
        number = next(_NUMBERS)
        if number:
            tunnelkit("keys", "renew", "guest", "--dir", self.identities.directory)
        guest = self.start_portal("guest")
        since = len(self.gate.process.lines)
        self.identities.revoke("guest")
        self.gate.wait_for("guest has been revoked: cut", since=since)
        guest.process.stop()
        return "a guest came and was revoked"

    def restart_near(self) -> str:
        self.disturbed_until = float("inf")
        self.near.process.stop(60)
        self.near = self.start_near()
        return "the client end was started again"

    def restart_portal(self) -> str:
        self.disturbed_until = float("inf")
        self.portal.process.kill()
        (self.directory / "usher-portal.control").unlink(missing_ok=True)
        self.portal = self.start_portal()
        return "the portal was killed and started again"

    def restart_middle(self) -> str:
        self.disturbed_until = float("inf")
        since = len(self.near.process.lines)
        self.middle.process.stop(60)
        host_and_port = self.place
        self.middle = self.start("lstp-middle", "--listen", host_and_port)
        self.near.wait_for("with server is up", since=since, limit=60)
        return "the middle was started again"

    def disturb(self, event: Callable[[], str]) -> str:
        """Let it happen; what it was."""
        before = self.disturbed_until
        what = event()
        if self.disturbed_until != before:
            self.disturbed_until = time.monotonic() + EXPLAINED
        return what

    # -- what they hold ----------------------------------------------------------------------

    def sample(self, minute: float) -> str:
        """Look once; a line of it."""
        texts = []
        for role in ("lstp-middle", "lstp-server-end", "usher-gate"):
            held = holdings(self.directory / f"{role}.control")
            self.samples.setdefault(role, []).append(held)
            memory = held["memory"] / (1 << 20)
            texts.append(f"{role} {memory:.1f} MiB {held['descriptors']} fd {held['timers']} t")
        return f"{minute:6.2f} min  " + "   ".join(texts)


_NUMBERS = itertools.count()


def curve(values: list[int]) -> str:
    """A line of bars."""
    least, most = min(values), max(values)
    step = max(1, len(values) // 60)
    return "".join(
        _BARS[round((value - least) / max(1, most - least) * (len(_BARS) - 1))]
        for value in values[::step]
    )


def grows(what: str, values: list[int]) -> bool:
    """Whether it goes on growing after the first fifth."""
    settled = values[len(values) // 5 :]
    third = max(1, len(settled) // 3)
    early, late = statistics.median(settled[:third]), statistics.median(settled[-third:])
    return late > early * 1.1 + _GROWTH[what]


def soak(minutes: float, directory: Path) -> bool:
    """Whether all was level and everything explained."""
    processes = Processes(directory)
    with Application(echo) as server:
        try:
            world = Soak(processes, Identities.create(directory / "keys"), server.destination)
            return _run(world, minutes)
        finally:
            processes.end()


def _run(world: Soak, minutes: float) -> bool:
    ends: dict[str, Callable[[], Role]] = {
        "lstp": lambda: world.near,
        "usher": lambda: world.portal,
    }
    traffic = [
        Traffic(f"{verb.__name__} by {name}", partial(verb, end), world.disturbed)
        for name, end in ends.items()
        for verb in (world.ask, world.ask, world.leave)
    ]
    events = itertools.cycle(
        (world.reload, world.revoke, world.restart_near, world.reload, world.restart_portal)
    )
    for each in traffic:
        each.thread.start()
    began = time.monotonic()
    next_event, middle_at = began + EVENT, began + minutes * 30
    while (now := time.monotonic()) < began + minutes * 60:
        print(world.sample((now - began) / 60), flush=True)
        if now >= middle_at:
            middle_at = float("inf")
            print(f"   {world.disturb(world.restart_middle)}", flush=True)
        elif now >= next_event:
            next_event = now + EVENT
            print(f"   {world.disturb(next(events))}", flush=True)
        pause = threading.Event()
        pause.wait(max(0.0, SAMPLE - (time.monotonic() - now)))
    for each in traffic:
        each.over.set()
    for each in traffic:
        each.thread.join(60)
    wait_until(lambda: not any(each.thread.is_alive() for each in traffic))
    return _report(world, traffic)


def _report(world: Soak, traffic: list[Traffic]) -> bool:
    good = True
    for role, samples in world.samples.items():
        for what in WHAT:
            values = [held[what] for held in samples]
            bad = role != "lstp-middle" and grows(what, values)
            good &= not bad
            unit = 1 << 20 if what == "memory" else 1
            least, most = min(values) / unit, max(values) / unit
            print(
                f"{role:16} {what:11} {curve(values)} {least:.0f} to {most:.0f}"
                f"{'  GROWS' if bad else ''}"
            )
    for each in traffic:
        print(f"{each.name}: {each.done} done, {each.explained} failed at a restart")
        for failure in each.failures[:5]:
            print(f"   unexplained: {failure}")
        good &= not each.failures
    for process in (world.middle, world.far, world.gate, world.near, world.portal):
        for line in process.process.lines:
            if " error " in line or "Traceback" in line or " critical " in line:
                print(f"{process.process.name}: {line}")
                good = False
    return good


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    minutes: float = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        good = soak(minutes, Path(directory))
    print("level, and everything is explained" if good else "NOT as it should be")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
