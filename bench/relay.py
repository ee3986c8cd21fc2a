"""The pass-through relay alone: what a middle does for a pair, beside other TCP relays.

Every relay listens, connects to the target and copies. All are started once and measured in turn,
again and again (A B A B ...). Figures are medians; CPU is that of the relay's own process.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tunnelkit
from bench import loads
from bench.loads import Address
from bench.parties import Layout, Parties, PartyFailed, loopback, prepared
from bench.report import median, number, table, verdict
from bench.rig import Rig, describe, rigs
from bench.system import NoTunnel, System, find, path_of

MIB = float(1 << 20)

COLUMNS = {
    "bulk": "1 stream MiB/s",
    "bulk_cpu": "CPU s/GiB",
    "bulk16": "16 streams MiB/s",
    "bulk16_cpu": "CPU s/GiB",
    "fifty": "50 conn ping/s",
    "new": "new conn/s",
}

PEER = "haproxy-splice"

AIMS = (
    ("bulk", 0.97, False),
    ("bulk_cpu", 1.1, True),
    ("bulk16", 0.97, False),
    ("bulk16_cpu", 1.1, True),
    ("fifty", 0.9, False),
    ("new", 0.9, False),
)
"""Column, ratio to PEER that is aimed at, and whether that is an upper limit."""


class _Relay(System):
    """A relay that a subclass starts between ``entry`` and ``target``."""

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """Start it at the middle's place."""
        entry = layout.middle.free_port()
        config = parties.directory / "relay.conf"
        config.write_text(self.config(entry, target, parties.directory))
        parties.start(
            self.name,
            self.command(str(config), entry, target),
            layout.middle,
            {"PYTHONPATH": str(Path(tunnelkit.__file__).parents[1])},
        )
        return "127.0.0.1", entry

    def config(self, entry: int, target: int, directory: Path) -> str:
        """The text of its configuration file."""
        return ""

    def command(self, config: str, entry: int, target: int) -> list[str]:
        """Program and arguments."""
        raise NotImplementedError


class Haproxy(_Relay):
    """haproxy in TCP mode."""

    programs = ("haproxy",)

    def __init__(self, name: str, legs: str, options: str) -> None:
        self.name = name
        self.legs = legs
        self._options = options

    def config(self, entry: int, target: int, directory: Path) -> str:
        """One listener, one thread, as the others have."""
        return f"""\
global
    nbthread 1
    maxconn 4000
    tune.pipesize 1048576
defaults
    mode tcp
    {self._options}
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen job
    bind 127.0.0.1:{entry} backlog 4096
    server target 127.0.0.1:{target}
"""

    def command(self, config: str, entry: int, target: int) -> list[str]:
        """In the foreground."""
        return [path_of("haproxy"), "-db", "-f", config]


class Nginx(_Relay):
    """nginx's stream module with a buffer of 256 KiB."""

    name = "nginx-stream"
    legs = "nginx, stream module, 256 KiB buffer"
    programs = ("nginx",)

    def missing(self) -> list[str]:
        """Also the module, which Debian packages on its own."""
        nginx = find("nginx")
        if nginx is None:
            return ["nginx"]
        built = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=False).stderr
        if re.search(r"--with-stream(\s|$)", built) or self._module().exists():
            return []
        return ["nginx's stream module"]

    @staticmethod
    def _module() -> Path:
        return Path("/usr/lib/nginx/modules/ngx_stream_module.so")

    def config(self, entry: int, target: int, directory: Path) -> str:
        """One worker."""
        load = f"load_module {self._module()};\n" if self._module().exists() else ""
        return f"""\
{load}daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4000; }}
stream {{
    server {{
        listen 127.0.0.1:{entry} backlog=4096;
        proxy_pass 127.0.0.1:{target};
        proxy_buffer_size 256k;
        tcp_nodelay on;
    }}
}}
"""

    def command(self, config: str, entry: int, target: int) -> list[str]:
        """In the foreground."""
        return [path_of("nginx"), "-c", config]


class PythonRelay(_Relay):
    """One of `RELAYS` in a process of its own."""

    def __init__(self, name: str, legs: str) -> None:
        self.name = name
        self.legs = legs

    def command(self, config: str, entry: int, target: int) -> list[str]:
        """This module, as the relay."""
        root = Path(__file__).resolve().parents[1]
        run = f"import sys; sys.path.insert(0, {str(root)!r}); import bench.relay as r; r.serve()"
        return [sys.executable, "-c", run, self.name, str(entry), str(target)]


def serve_ours(entry: int, target: int) -> None:
    """Listener, connect and Relay of tunnelkit."""
    import socket

    from twisted.internet import reactor

    from tunnelkit.core.decision import Decision
    from tunnelkit.errors import DialError
    from tunnelkit.net.sockets.connect import Attempt
    from tunnelkit.net.sockets.loop_poller import take_over
    from tunnelkit.net.sockets.poll import Poller
    from tunnelkit.net.sockets.relay import Relay
    from tunnelkit.net.sockets.tcp import Listener, bind_tcp
    from tunnelkit.net.sockets.timer import use_monotonic_clock

    def decision(action: str, port: int) -> Decision:
        return Decision("", action, "tcp", "127.0.0.1", port, "bench")

    use_monotonic_clock(reactor)  # as every role does
    take_over(reactor)
    poller = Poller.of(reactor)
    onwards = decision("connect", target)

    def ended(relay: Relay, ab: int, ba: int, outcome: str) -> None:
        """Nobody keeps a record."""

    class Arrival:
        """One that goes on to the target, as the ends' channels do."""

        def __init__(self, near: socket.socket) -> None:
            self.near = near

        def connected(self, attempt: Attempt, far: socket.socket, own: Any) -> None:
            Relay(poller, self.near, far, ended).start()

        def failed(self, attempt: Attempt, error: DialError) -> None:
            self.near.close()

    def accepted(near: socket.socket, address: tuple[str, int]) -> None:
        Attempt(poller, onwards, Arrival(near)).start(10.0)

    Listener(poller, bind_tcp(decision("bind", entry)), accepted)


def serve_portforward(entry: int, target: int) -> None:
    """Twisted's own."""
    from twisted.internet import reactor
    from twisted.protocols.portforward import ProxyFactory

    factory: Any = ProxyFactory("127.0.0.1", target)
    reactor.listenTCP(entry, factory, backlog=4096, interface="127.0.0.1")


RELAYS: dict[str, Callable[[int, int], None]] = {
    "tunnelkit": serve_ours,
    "portforward": serve_portforward,
}


def serve() -> None:
    """Be one of `RELAYS`: name, entry port and target port are the arguments."""
    from twisted.internet import reactor

    name, entry, target = sys.argv[1:]
    RELAYS[name](int(entry), int(target))
    reactor.run()


def systems() -> list[System]:
    """All relays, in the order of the table."""
    splice = "option splice-auto\n    option splice-request\n    option splice-response"
    return [
        NoTunnel(),
        Haproxy(PEER, "haproxy, mode tcp, splice, pipes of 1 MiB", splice),
        Haproxy("haproxy-copy", "haproxy, mode tcp, copying 16 KiB", ""),
        Nginx(),
        PythonRelay("portforward", "twisted.protocols.portforward"),
        PythonRelay("tunnelkit", "tunnelkit.net: Listener, Attempt, Relay"),
    ]


def measure(rig: Rig, seconds: float) -> dict[str, float]:
    """Each load once on one relay."""
    one = rig.bulk(seconds, 1, warm=0.2)
    sixteen = rig.bulk(seconds, 16, warm=0.2)
    fifty = rig.here(lambda: loads.many_connections(rig.entry, seconds))
    new = rig.here(lambda: loads.new_connections(rig.entry, seconds))
    return {
        "bulk": one.rate / MIB,
        "bulk_cpu": one.cpu,
        "bulk16": sixteen.rate / MIB,
        "bulk16_cpu": sixteen.cpu,
        "fifty": fifty,
        "new": new,
    }


def main() -> int:
    """Run it; 0 if every relay that is installed could be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.relay", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="under 30 s in all, rougher")
    parser.add_argument("--only", default="", metavar="NAME,...", help="just these relays")
    parser.add_argument("--runs", type=int, help="rounds (default 5, quick 2)")
    parser.add_argument("--seconds", type=float, help="time of a load (default 0.6, quick 0.3)")
    parser.add_argument("--congestion-control", default="reno", metavar="NAME")
    options = parser.parse_args()
    runs = options.runs or (2 if options.quick else 5)
    seconds = options.seconds or (0.3 if options.quick else 0.6)
    wanted = [name for name in options.only.split(",") if name]
    chosen = [system for system in systems() if not wanted or system.name in wanted]
    unknown = set(wanted) - {system.name for system in chosen}
    if unknown:
        parser.error(f"no such relay: {', '.join(sorted(unknown))}")
    results: dict[str, dict[str, list[float]]] = {}
    notes: list[str] = []
    with (
        prepared(),
        loopback(options.congestion_control) as (layout, setting),
        rigs(chosen, layout, notes) as running,
    ):
        for run in range(runs):
            for rig in running:
                columns = results.setdefault(rig.system.name, {name: [] for name in COLUMNS})
                try:
                    for column, figure in measure(rig, seconds).items():
                        columns[column].append(figure)
                except (PartyFailed, loads.LoadError) as error:
                    notes.append(f"{rig.system.name}: run {run + 1} failed: {describe(error)}")
    medians = {
        name: {column: median(figures) for column, figures in columns.items()}
        for name, columns in results.items()
    }
    print(f"Medians of {runs} alternating runs. {setting}.\n")
    rows = [[name, *map(number, figures.values())] for name, figures in medians.items()]
    print(table(["relay", *COLUMNS.values()], rows))
    if "tunnelkit" in medians and PEER in medians:
        compared = []
        for column, aim, at_most in AIMS:
            ratio = medians["tunnelkit"][column] / medians[PEER][column]
            label = COLUMNS[column]
            if column.endswith("_cpu"):
                label = f"{COLUMNS[column.partition('_')[0]].rpartition(' ')[0]} {label}"
            limit = ("at most " if at_most else "at least ") + number(aim, "x")
            ok = verdict(ratio, aim, at_most=at_most)
            compared.append([label, number(ratio, "x"), limit, ok])
        print("\n" + table([f"tunnelkit to {PEER}", "measured", "aim", ""], compared))
    print()
    for system in chosen:
        if system.name in results:
            print(f"{system.name}: {system.legs}")
    for note in notes:
        print(note)
    return 1 if any("not installed" not in note for note in notes) else 0


if __name__ == "__main__":
    sys.exit(main())
