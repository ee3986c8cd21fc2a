"""X11: programs near one end draw on an X server near the other, beside ``ssh -X``.

The rates are those of x11perf. All ways lead to the same X server, which is without shared memory.
On the emulated link the slow leg is between the programs and everything else. A ratio above 1
means that tunnelkit is faster.
"""

from __future__ import annotations

import abc
import argparse
import contextlib
import itertools
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.interactive import SCENES, Scene, network
from bench.link import congestion_controls, permitted
from bench.own import issue_identities, start_lstp_middle, start_role
from bench.parties import Layout, Parties, PartyFailed, Place, prepared
from bench.peers import start_sshd
from bench.report import as_json, median, number, table, verdict
from bench.rig import describe
from bench.system import find, path_of

TESTS = {
    "noop": "requests without effect",
    "rect100": "rectangles 100x100",
    "ftext": "letters",
    "aa10text": "letters, smooth",
    "copywinwin100": "copies 100x100",
    "putimage100": "PutImage 100x100",
    "getimage100": "GetImage 100x100",
    "pointer": "QueryPointer",
    "prop": "GetProperty",
}
"""Tests of x11perf."""
WAITING = frozenset({"getimage100", "pointer", "prop"})
"""Those that wait for an answer each time. Their CPU says more on a machine with other work."""
DEFAULT_SCENES = ("loopback", "before")
LIMIT = 20.0
"""Seconds until a way has to work."""

_RESULT = re.compile(r"(\d+) reps @ .*\(\s*([\d.]+)/sec\)")
_displays = itertools.count(1000 + os.getpid() % 1000)

Environment = dict[str, str]


class Rate(NamedTuple):
    """How fast one test was."""

    operations: float
    """Per second."""
    cpu: float
    """Seconds of the way's own processes per operation."""


Rates = dict[str, list[Rate]]
"""By test, one figure per run."""


def free_display() -> int:
    """The number of a display that nobody has."""
    return next(
        n
        for n in _displays
        if not any(map(os.path.exists, (f"/tmp/.X{n}-lock", f"/tmp/.X11-unix/X{n}")))
    )


class XServer:
    """Xvfb near the server end."""

    def __init__(self, parties: Parties, place: Place) -> None:
        self.number = free_display()
        self.place = place
        self.authority = parties.directory / "authority"
        cookie = os.urandom(16).hex()
        for display in (f":{self.number}", f"{place.address}:{self.number}"):
            command = [path_of("xauth"), "-q", "-f", str(self.authority), "add", display, "."]
            subprocess.run([*command, cookie], check=True, capture_output=True)
        screen = ("-screen", "0", "1024x768x24", "-extension", "MIT-SHM", "-noreset")
        command = [path_of("Xvfb"), f":{self.number}", *screen, "-listen", "tcp"]
        parties.start("Xvfb", [*command, "-auth", str(self.authority)], place)
        parties.wait_for_answer(place, (place.address, 6000 + self.number), tunnel=False)

    @property
    def environment(self) -> Environment:
        """For programs at the same place."""
        return {"DISPLAY": f":{self.number}", "XAUTHORITY": str(self.authority)}


class Way(abc.ABC):
    """One way to the X server."""

    name: str
    legs: str
    """What it does, for the explanation under the tables."""
    programs: tuple[str, ...] = ("Xvfb", "x11perf", "xdpyinfo", "xauth")

    @abc.abstractmethod
    def start(self, parties: Parties, layout: Layout, server: XServer) -> Environment:
        """Start it; returns the environment of programs near the client end.

        Raises PartyFailed.
        """


class Direct(Way):
    """The programs connected directly, by TCP."""

    name = "none"
    legs = "the programs connected directly, by TCP"

    def start(self, parties: Parties, layout: Layout, server: XServer) -> Environment:
        """Nothing to start."""
        return {**server.environment, "DISPLAY": f"{server.place.address}:{server.number}"}


class SshX(Way):
    """The sshd is beside the programs."""

    name = "ssh -X"
    legs = "ssh -X, AES-GCM, one leg only: the sshd is beside the programs and accepts connections"
    programs = (*Way.programs, "ssh", "sshd", "ssh-keygen")

    def start(self, parties: Parties, layout: Layout, server: XServer) -> Environment:
        """The sshd, and a session with a display that stays."""
        return self.session(parties, layout, server, self.sshd(parties, layout))

    def sshd(self, parties: Parties, layout: Layout) -> list[str]:
        """Beside the programs, with displays; how to call a client of it."""
        settings = f"X11Forwarding yes\nXAuthLocation {path_of('xauth')}\n"
        settings += f"SetEnv XAUTHORITY={parties.directory}/shown"
        return start_sshd(parties, layout.client, settings=settings)

    def session(
        self, parties: Parties, layout: Layout, server: XServer, ssh: Sequence[str]
    ) -> Environment:
        """The display of a session; the X server is trusted with it, as by ``ssh -Y``."""
        command = [ssh[0], "-Y", *ssh[1:], "echo display is $DISPLAY; exec sleep 86400"]
        party = parties.start("ssh", command, layout.server, server.environment)
        deadline = time.monotonic() + LIMIT
        while not (found := re.search(r"display is (\S+)", party.log.read_text())):
            parties.check()
            if time.monotonic() > deadline:
                raise PartyFailed("ssh: the session has no display")
            time.sleep(0.02)
        return {"DISPLAY": found[1], "XAUTHORITY": f"{parties.directory}/shown"}


class SshPairX(SshX):
    """Both sides dial a bastion, which cannot read them."""

    name = "ssh pair"
    legs = "ssh -R from the programs' side to a bastion sshd, ssh -X through it (ssh in ssh)"

    def start(self, parties: Parties, layout: Layout, server: XServer) -> Environment:
        """The bastion, the way back to the sshd beside the programs, and a session through it."""
        inner = self.sshd(parties, layout)
        bastion, *options = start_sshd(parties, layout.middle, name="bastion")
        between = layout.middle.free_port()
        target = f"{inner[-1]}:{inner[inner.index('-p') + 1]}"
        reverse = ["-N", "-T", "-R", f"127.0.0.1:{between}:{target}"]
        parties.start("ssh -R", [bastion, *reverse, *options], layout.client)
        parties.wait_for_answer(layout.middle, ("127.0.0.1", between), tunnel=False)
        hop = shlex.join([bastion, "-W", f"127.0.0.1:{between}", *options])
        return self.session(
            parties, layout, server, [inner[0], "-o", f"ProxyCommand={hop}", *inner[1:]]
        )


class Tunnelkit(Way):
    """What both transports have in common."""

    programs = (*Way.programs, "tunnelkit", "twistd")

    def start(self, parties: Parties, layout: Layout, server: XServer) -> Environment:
        """Keys and both ends; the one near the programs is a display."""
        issue_identities(parties)
        number = free_display()
        keys = f"{parties.directory}/keys"
        near = ["--identity", f"{keys}/client.pem", "--peer", "server", "--x11", str(number)]
        far = ["--identity", f"{keys}/server.pem", "--peer", "client"]
        far += ["--allow", f"x11::{server.number}"]
        display = f"127.0.0.1:{number}"
        environment = {"DISPLAY": display, "XAUTHORITY": f"{parties.directory}/shown"}
        self.start_ends(parties, layout, (near, environment), (far, server.environment))
        parties.wait_for_answer(layout.client, ("127.0.0.1", 6000 + number), tunnel=False)
        return environment

    @abc.abstractmethod
    def start_ends(
        self,
        parties: Parties,
        layout: Layout,
        near: tuple[list[str], Environment],
        far: tuple[list[str], Environment],
    ) -> None:
        """Start both, given their options and environments, and what is between them."""


class LstpX(Tunnelkit):
    """Both sides dial a middle."""

    name = "lstp"
    legs = "tunnelkit over LSTP: client end, middle, server end; TLS 1.3 end to end"

    def start_ends(
        self,
        parties: Parties,
        layout: Layout,
        near: tuple[list[str], Environment],
        far: tuple[list[str], Environment],
    ) -> None:
        """The middle, the server end, the client end."""
        host, port = start_lstp_middle(parties, layout.middle)
        common = ["--middle", f"{host}:{port}", "--tunnel", "bench"]
        start_role(parties, layout.server, "lstp-server-end", [*common, *far[0]], far[1])
        start_role(parties, layout.client, "lstp-client-end", [*common, *near[0]], near[1])


class UsherX(Tunnelkit):
    """One leg."""

    name = "usher"
    legs = "tunnelkit over Usher: portal and gate, TLS 1.3, one leg (no middle)"

    def start_ends(
        self,
        parties: Parties,
        layout: Layout,
        near: tuple[list[str], Environment],
        far: tuple[list[str], Environment],
    ) -> None:
        """The gate beside the programs, the portal beside the X server."""
        host, port = layout.client.address, layout.client.free_port()
        listen = ["--listen", f"{host}:{port}"]
        start_role(parties, layout.client, "usher-gate", [*listen, *near[0]], near[1])
        parties.wait_for_answer(layout.client, (host, port), tunnel=False)
        dial = ["--gate", f"{host}:{port}"]
        start_role(parties, layout.server, "usher-portal", [*dial, *far[0]], far[1])


WAYS: dict[str, Way] = {way.name: way for way in (Direct(), SshX(), SshPairX(), LstpX(), UsherX())}
PAIRS = (("lstp", "ssh pair"), ("lstp", "ssh -X"), ("usher", "ssh -X"))
"""Ours and the peers that they are compared with."""


class Programs:
    """Programs near the client end, by one way."""

    def __init__(self, way: Way, layout: Layout, server: XServer) -> None:
        self.way = way
        self.parties = Parties()
        self._place = layout.client
        self._repetitions: dict[str, int] = {}
        try:
            self._environment = way.start(self.parties, layout, server)
            self._wait()
        except BaseException:
            self.parties.stop()
            raise

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of them to its end."""
        return self._place.call(
            lambda: subprocess.run(
                [path_of(command[0]), *command[1:]],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
            )
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + LIMIT
        while (tried := self.run("xdpyinfo")).returncode:
            self.parties.check()
            if time.monotonic() > deadline:
                raise PartyFailed(f"no X server answers: {tried.stderr.strip()}")
            time.sleep(0.1)

    def rate(self, test: str, seconds: float) -> Rate:
        """Run it for about that time. Raises PartyFailed."""
        while True:
            before = self.parties.cpu_seconds()
            repetitions = self._repetitions.setdefault(test, 2)
            done = self.run("x11perf", "-repeat", "1", "-reps", str(repetitions), f"-{test}")
            result = _RESULT.search(done.stdout)
            if done.returncode or not result:
                self.parties.check()
                raise PartyFailed(f"x11perf -{test}: {done.stderr.strip().splitlines()[:1]}")
            rate = float(result[2])
            taken = max(1e-6, int(result[1]) / rate)
            self._repetitions[test] = 1 + int(repetitions * min(20.0, seconds / taken))
            if taken > seconds / 2:
                return Rate(rate, (self.parties.cpu_seconds() - before) / int(result[1]))


def measure(
    scene: Scene, ways: Sequence[Way], tests: Sequence[str], options: argparse.Namespace
) -> tuple[dict[str, Rates], list[str]]:
    """All ways in turn, test by test, and what went wrong."""
    notes = []
    with contextlib.ExitStack() as stack:
        layout = stack.enter_context(network(scene, options.congestion_control))
        server = XServer(stack.enter_context(Parties()), layout.server)
        running = []
        for way in ways:
            try:
                programs = Programs(way, layout, server)
            except (PartyFailed, OSError, subprocess.SubprocessError) as error:
                notes.append(f"{way.name}, {scene.title}: did not start: {describe(error)}")
                continue
            stack.callback(programs.parties.stop)
            running.append(programs)
        results: dict[str, Rates] = {
            each.way.name: {test: [] for test in tests} for each in running
        }
        for _, test, programs in itertools.product(range(options.runs), tests, running):
            try:
                rate = programs.rate(test, options.seconds)
            except (PartyFailed, subprocess.TimeoutExpired) as error:
                notes.append(f"{programs.way.name}, {scene.title}: {describe(error)}")
                continue
            results[programs.way.name][test].append(rate)
    return results, list(dict.fromkeys(notes))


def show(scene: Scene, results: Mapping[str, Rates], tests: Sequence[str]) -> None:
    """One table: rates, and the ratios of ours to their peers."""
    pairs = [pair for pair in PAIRS if results.keys() >= set(pair)]
    head = [f"{scene.title}: operations/s", *results, *(f"{o} / {p}" for o, p in pairs), ""]
    rows = []
    for test in tests:
        rates = {
            name: median([r.operations for r in result[test]]) for name, result in results.items()
        }
        ratios = [rates[ours] / rates[peer] for ours, peer in pairs]
        rows.append(
            [
                f"{test}: {TESTS[test]}",
                *map(number, rates.values()),
                *(number(ratio, "x") for ratio in ratios),
                verdict(min(ratios), 1.0) if ratios else "",
            ]
        )
    print(f"{table(head, rows)}\n(aim: not slower)\n")
    head = [f"{scene.title}: CPU us per operation", *results]
    rows = [
        [
            test,
            *(number(median([r.cpu for r in result[test]]) * 1e6) for result in results.values()),
        ]
        for test in tests
        if test in WAITING
    ]
    if rows:
        print(f"{table(head, rows)}\n")


def chosen(text: str, known: Mapping[str, object], what: str) -> list[str]:
    """The comma-separated names in ``text``; raises SystemExit for an unknown one."""
    names = text.split(",")
    for name in names:
        if name not in known:
            raise SystemExit(f"no {what} {name!r}; known: {', '.join(known)}")
    return names


def main() -> int:
    """Run it; 0 if nothing failed."""
    scenes = {scene.name: scene for scene in SCENES if scene.interactive == 1 and not scene.behind}
    parser = argparse.ArgumentParser(
        prog="python -m bench.x11", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="one round and shorter")
    parser.add_argument("--only", default=",".join(WAYS), metavar="NAME,...", help="these ways")
    parser.add_argument("--tests", default=",".join(TESTS), metavar="NAME,...", help="of x11perf")
    parser.add_argument(
        "--scenes", default=",".join(DEFAULT_SCENES), metavar="NAME,...", help=", ".join(scenes)
    )
    parser.add_argument("--runs", type=int, help="rounds (default 3, quick 1)")
    parser.add_argument("--seconds", type=float, help="each test's time (default 1, quick 0.3)")
    parser.add_argument("--congestion-control", default="reno", choices=congestion_controls())
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    options.runs = options.runs or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.3 if options.quick else 1.0)
    ways = [WAYS[name] for name in chosen(options.only, WAYS, "way")]
    tests = chosen(options.tests, TESTS, "test")
    missing = {way.name: [name for name in way.programs if not find(name)] for way in ways}
    notes = [
        f"{name}: not installed: {', '.join(names)}" for name, names in missing.items() if names
    ]
    ways = [way for way in ways if not missing[way.name]]
    failures: list[str] = []
    collected: dict[str, object] = {}
    with prepared():
        for name in chosen(options.scenes, scenes, "scene"):
            scene = scenes[name]
            if scene.rate and not permitted():
                failures.append(f"{scene.title}: needs root for its network namespaces")
                continue
            results, wrong = measure(scene, ways, tests, options)
            failures += wrong
            collected[name] = results
            if not options.json:
                show(scene, results, tests)
    if options.json:
        print(as_json({"scenes": collected, "notes": notes + failures}))
    else:
        for way in ways:
            print(f"{way.name}: {way.legs}")
        print(
            f"Medians of {options.runs} runs, TCP congestion control {options.congestion_control}."
        )
        print("\n".join(notes + failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
