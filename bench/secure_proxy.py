"""The Secure Proxy: pass-through beside two haproxies in a row, sessions, many clients.

Both ways lead to the same web server; they are started once and measured in turn (A B A B ...).
"""

from __future__ import annotations

import argparse
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import published_site
from bench.link import Link, Namespace, permitted
from bench.loads import Address
from bench.own import start_role
from bench.parties import Layout, Parties, Party, PartyFailed, Place, loopback, prepared
from bench.report import number, table
from bench.system import find, path_of

SERVER = "relay.example"
BULK, SITE = "bulk.example", "site.example"
GIB = float(1 << 30)
KIB = 1024.0
WIDE = ("--max-browsers-per-second", "100000", "--max-browser-burst", "100000",
    "--max-browsers-pending", "60000", "--max-browsers-pending-per-host", "60000")  # fmt: skip
"""One address is all the visitors here."""
POLICY = """
[clients.office]
publish = ["tunnel", "pass:bulk.example", "pass:site.example"]
[clients.laptop]
connect = ["office/tunnel"]
"""
HAPROXY = """\
global
    nbthread 1
    maxconn 4000
    tune.pipesize 1048576
defaults
    mode tcp
    option splice-auto
    option splice-request
    option splice-response
    timeout connect 10s
    timeout client 1h
    timeout server 1h
"""
SESSION = """
import sys, time
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import react
from twisted.application.service import IService
from tunnelkit import SecureProxyClient

async def main(reactor):
    place, identity = sys.argv[1:]
    for _ in range({times}):
        end = SecureProxyClient(reactor, server=place, server_name="{server}", identity=identity,
            target="office")
        began = time.monotonic()
        IService(end).startService()
        await end.up()
        print(time.monotonic() - began, flush=True)
        await maybeDeferred(IService(end).stopService)

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


class Way(NamedTuple):
    """One way to the web server that is up."""

    name: str
    parties: Parties
    front: Party
    """The process that browsers connect to."""
    entry: Address


def keys(directory: Path, *names: str) -> Path:
    """A directory of identities."""
    made = directory / "keys"
    for words in (["init"], *(["issue", name] for name in names)):
        command = [path_of("tunnelkit"), "keys", *words, "--dir", str(made)]
        subprocess.run(command, check=True, capture_output=True)
    return made


def listening(party: Party, pattern: str, seconds: float = 30.0) -> str:
    """What the group of ``pattern`` is in its log, once it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = re.search(pattern, party.log.read_text(errors="replace"))
        if found:
            return found[1]
        if party.process.poll() is not None:
            break
        time.sleep(0.02)
    raise PartyFailed(f"{party.name}: no '{pattern}': {party.log.read_text()[-300:]}")


def start_server(parties: Parties, place: Place, listen: str, policy: str, *more: str) -> Party:
    """A Communication Server with keys in its parties' directory; the last process started."""
    file = parties.directory / "policy.toml"
    file.write_text(policy)
    identity = str(parties.directory / "keys" / f"{SERVER}.pem")
    options = ["--listen", listen, "--identity", identity, "--policy", str(file), *more]
    start_role(parties, place, "secure-proxy-server", options)
    return parties.running[-1]


def start_client(parties: Parties, place: Place, server: str, name: str, *more: str) -> Party:
    """A client of it."""
    identity = str(parties.directory / "keys" / f"{name}.pem")
    options = ["--server", server, "--server-name", SERVER, "--identity", identity, *more]
    start_role(parties, place, "secure-proxy-client", options)
    return parties.running[-1]


def start_haproxies(place: Place, ports: tuple[int, int]) -> Way:
    """One that looks at the server name, and one behind it for each site."""
    parties = Parties()
    entry, *between = (place.free_port() for _ in range(3))
    first = parties.directory / "first.cfg"
    first.write_text(
        f"{HAPROXY}frontend browsers\n    bind 127.0.0.1:{entry} backlog 4096\n"
        "    tcp-request inspect-delay 5s\n"
        "    tcp-request content accept if { req.ssl_hello_type 1 }\n"
        f"    use_backend bulk if {{ req.ssl_sni {BULK} }}\n    default_backend site\n"
        f"backend bulk\n    server next 127.0.0.1:{between[0]}\n"
        f"backend site\n    server next 127.0.0.1:{between[1]}\n"
    )
    second = parties.directory / "second.cfg"
    second.write_text(
        HAPROXY
        + "".join(
            f"listen site{port}\n    bind 127.0.0.1:{port} backlog 4096\n"
            f"    server inside 127.0.0.1:{target}\n"
            for port, target in zip(between, ports, strict=True)
        )
    )
    parties.start("second", [path_of("haproxy"), "-db", "-f", str(second)], place)
    front = parties.start("first", [path_of("haproxy"), "-db", "-f", str(first)], place)
    parties.wait_for_answer(place, ("127.0.0.1", entry), tunnel=False)
    return Way("haproxy-pair", parties, front, ("127.0.0.1", entry))


def start_secure_proxy(place: Place, ports: tuple[int, int], spares: int) -> Way:
    """A server and a client that publishes both sites."""
    parties = Parties()
    keys(parties.directory, SERVER, "office", "laptop")
    front = start_server(parties, place, "127.0.0.1:0", POLICY, *WIDE)
    where = listening(front, r"listening on (\S+);")
    sites = [
        word
        for host, port in zip((BULK, SITE), ports, strict=True)
        for word in ("--publish", f"pass:{host}=tcp:127.0.0.1:{port}",
            "--allow", f"tcp:127.0.0.1:{port}")
    ]  # fmt: skip
    start_client(parties, place, where, "office", *sites, "--spares", str(spares))
    listening(front, f"(what=pass:{SITE} allowed=True)")
    host, _, port = where.rpartition(":")
    return Way(f"spares-{spares}", parties, front, (host, int(port)))


def cpu_of(party: Party) -> float:
    """CPU seconds of one process."""
    fields = Path(f"/proc/{party.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / 100


def measure(way: Way, seconds: float) -> dict[str, float]:
    """Each load once."""
    before, all_before = cpu_of(way.front), way.parties.cpu_seconds()
    received = published_site.bulk(way.entry, BULK, seconds, warm=0)
    gib = received / GIB
    front, whole = cpu_of(way.front) - before, way.parties.cpu_seconds() - all_before
    pages, failed = published_site.visits(way.entry, SITE, seconds)
    if failed:
        raise PartyFailed(f"{failed} visits failed")
    context = published_site.visitor()
    firsts = []
    for _ in range(10):
        time.sleep(0.05)
        firsts.append(published_site.visit(way.entry, SITE, context) * 1000)
    return {
        "bulk MiB/s": received / seconds / (1 << 20),
        "front CPU s/GiB": front / gib,
        "both CPU s/GiB": whole / gib,
        "new/s": pages,
        "first byte ms": statistics.median(firsts),
        "lowest": min(firsts),
    }


def sites(layout: Layout, runs: int, seconds: float) -> None:
    """Pass-through beside haproxy."""
    place = layout.middle
    with Parties() as applications:
        keys(applications.directory, SITE)
        certificate = applications.directory / "keys" / f"{SITE}.pem"
        ports = (place.free_port(), place.free_port())
        command = [sys.executable, published_site.__file__, str(certificate), *map(str, ports)]
        applications.start("site", command, place)
        applications.wait_for_answer(place, ("127.0.0.1", ports[1]), tunnel=False)
        ways = [start_secure_proxy(place, ports, 4), start_secure_proxy(place, ports, 0)]
        if find("haproxy"):
            ways.insert(0, start_haproxies(place, ports))
        else:
            print("haproxy: not installed")
        figures: dict[str, dict[str, list[float]]] = {way.name: {} for way in ways}
        try:
            for _ in range(runs):
                for way in ways:
                    for name, value in place.call(partial(measure, way, seconds)).items():
                        figures[way.name].setdefault(name, []).append(value)
        finally:
            for way in ways:
                way.parties.stop()
    for title, choose in (("median", statistics.median), ("lowest", min), ("highest", max)):
        rows = [
            [way, *(number(choose(values)) for values in columns.values())]
            for way, columns in figures.items()
        ]
        print(table([title, *next(iter(figures.values()))], rows) + "\n")


def reload(layout: Layout, seconds: float) -> None:
    """A policy that changes all the time, under visits."""
    place = layout.middle
    with Parties() as applications:
        keys(applications.directory, SITE)
        certificate = applications.directory / "keys" / f"{SITE}.pem"
        ports = (place.free_port(), place.free_port())
        command = [sys.executable, published_site.__file__, str(certificate), *map(str, ports)]
        applications.start("site", command, place)
        applications.wait_for_answer(place, ("127.0.0.1", ports[1]), tunnel=False)
        way = start_secure_proxy(place, ports, 4)
        policy = way.parties.directory / "policy.toml"
        running: list[tuple[float, int]] = []
        try:
            end = time.monotonic() + seconds
            times = 0

            def change() -> None:
                nonlocal times
                while time.monotonic() < end:
                    times += 1
                    new = policy.with_suffix(".new")
                    new.write_text(f"{POLICY}[clients.n{times}]\n")
                    new.replace(policy)
                    way.front.process.send_signal(signal.SIGHUP)
                    time.sleep(0.25)

            changing = threading.Thread(target=change)
            changing.start()
            running.append(place.call(lambda: published_site.visits(way.entry, SITE, seconds)))
            changing.join()
        finally:
            way.parties.stop()
    rate, failed = running[0]
    print(f"policy read again {times} times: {number(rate)} visits/s, {failed} failed\n")


def death(layout: Layout) -> None:
    """How long it takes to notice that a client has stopped without a word."""
    with Parties() as parties:
        keys(parties.directory, SERVER, "office")
        server = start_server(parties, layout.middle, "127.0.0.1:0", POLICY)
        where = listening(server, r"listening on (\S+);")
        client = start_client(parties, layout.middle, where, "office", "--publish", "tunnel")
        listening(server, "(office is present)")
        client.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        listening(server, "(office is not present any more)", 60)
        client.process.send_signal(signal.SIGCONT)
    print(f"a control connection's death: noticed after {time.monotonic() - began:.1f} s\n")


def trips(times: int, round_trip: float = 0.2) -> None:
    """One-way trips of a leg from the initiator's SYN to a tunnel that is up."""
    if not permitted():
        print("trips: only as root, who may make a link\n")
        return
    with (
        Namespace() as near,
        Namespace() as far,
        Link(near, far, rate=1e9, round_trip=round_trip) as link,
        Parties() as parties,
    ):
        keys(parties.directory, SERVER, "office", "laptop")
        middle, clients = Place(near, link.near_address), Place(far, link.far_address)
        server = start_server(parties, middle, f"{link.near_address}:0", POLICY)
        where = listening(server, r"listening on (\S+);")
        start_client(parties, clients, where, "office", "--publish", "tunnel")
        listening(server, "(who=office action=publish what=tunnel allowed=True)")
        program = SESSION.format(times=times, server=SERVER)
        identity = str(parties.directory / "keys" / "laptop.pem")
        command = [sys.executable, "-c", program, where, identity]
        done = far.call(
            lambda: subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        )
    taken = [float(line) / (round_trip / 2) for line in done.stdout.split()]
    shown = f"median {statistics.median(taken):.1f}, lowest {min(taken):.1f}"
    print(f"one-way trips of {round_trip / 2:g} s from SYN to UP: {shown} (aim: at most 20)\n")


def memory(layout: Layout, clients: int) -> None:
    """What a registered client costs the server."""
    with Parties() as parties:
        keys(parties.directory, SERVER)
        logins = parties.directory / "logins"
        logins.touch(mode=0o600)
        logins.write_text("".join(f"n{n}:secret-of-n{n}\n" for n in range(clients)))
        policy = "".join(f"[clients.n{n}]\n" for n in range(clients))
        more = ("--login-file", str(logins))
        server = start_server(parties, layout.middle, "127.0.0.1:0", policy, *more)
        where = listening(server, r"listening on (\S+);", 120)
        crowd: list[subprocess.Popen[str]] = []
        first = clients // 10

        def register(start: int, count: int) -> None:
            words = [where.rpartition(":")[2], SERVER, str(start), str(count)]
            crowd.append(
                layout.middle.call(
                    lambda: subprocess.Popen(
                        [sys.executable, "-m", "bench.registered", *words],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                    )
                )
            )  # fmt: skip
            output = crowd[-1].stdout
            assert output is not None
            if output.readline() != f"{count} present\n":
                raise PartyFailed("a client was not let in")

        try:
            register(0, first)
            before = server.resident()
            register(first, clients - first)
            after = server.resident()
        finally:
            for process in crowd:
                process.terminate()
                process.communicate()
    each = (after - before) / (clients - first) / KIB
    print(f"{clients:,} registered clients: {number(each)} KiB each (aim: at most 40)\n")


def main() -> int:
    """Run what was asked for; 0 if all of it could be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.secure_proxy", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a load (default 1.5)")
    parser.add_argument("--clients", type=int, default=10_000, help="registered (default 10000)")
    parser.add_argument(
        "--only", default="", metavar="NAME,...", help="sites, reload, trips, death, memory"
    )
    parser.add_argument("--congestion-control", default="reno", metavar="NAME")
    options = parser.parse_args()
    status = 0
    with prepared(), loopback(options.congestion_control) as (layout, setting):
        print(f"{setting}.\n")
        parts: dict[str, Callable[[], None]] = {
            "sites": lambda: sites(layout, options.runs, options.seconds),
            "reload": lambda: reload(layout, max(5.0, options.seconds)),
            "trips": lambda: trips(options.runs),
            "death": lambda: death(layout),
            "memory": lambda: memory(layout, options.clients),
        }
        chosen = [name for name in options.only.split(",") if name] or list(parts)
        if unknown := set(chosen) - set(parts):
            parser.error(f"no such part: {', '.join(sorted(unknown))}")
        for name in chosen:
            try:
                parts[name]()
            except (PartyFailed, OSError, subprocess.CalledProcessError) as error:
                print(f"{name}: {error}\n")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
