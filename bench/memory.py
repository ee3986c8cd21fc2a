"""Memory: of an end that waits, of an idle pair, of an open channel, of a stalled stream.

At the middle of LSTP 10,000 ends wait, then as many are paired and idle; this script speaks
the setup part of the protocol itself, each end from an address of its own. Through each system
connections are opened and left idle, and streams are filled whose reader has stalled; the growth
of each process is divided by their number ("ended": streams that the system gave up to bound its
memory). Buffers in the kernel are not in it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import attrs

from bench import loads, traffic
from bench.own import start_lstp_middle
from bench.parties import Layout, Parties, PartyFailed, Place, loopback, prepared
from bench.peers import SshPair
from bench.report import as_json, number, table, verdict
from bench.rig import describe, rigs
from bench.systems import choose

KIB = 1024.0
DEFAULT = ("ssh-pair", "stunnel", "chisel", "lstp")
HEADER = struct.Struct("!IBBHI")
COMMON_UNIQUE_INFO, TOPOLOGY_EXCHANGE, PROPERTY_EXCHANGE = 1, 2, 3
HELLO = bytes.fromhex("1603010040") + bytes(64)
"""Looks like the first TLS record of an end, as far as a middle can care."""

FAILURES = (PartyFailed, loads.LoadError, OSError, subprocess.CalledProcessError)

OURS = ("lstp", "usher")
PEERS_STALLED = 200
"""Stalled streams through a peer: ssh takes about 10 MiB for each."""

LEAST_TAKEN = 64 << 10
"""Bytes that any stalled stream takes if the tunnel works: the buffers of its sockets alone."""

AIM = 40 * KIB
"""Bytes per waiting or paired end at the middle (R2)."""


def settle(parties: Parties) -> None:
    """Wait until the processes have nothing more to do, at most 20 s."""
    deadline = time.monotonic() + 20
    spent, quiet = -1.0, 0
    while quiet < 3 and time.monotonic() < deadline:
        now = parties.cpu_seconds()
        quiet = quiet + 1 if now - spent < 0.02 else 0
        spent = now
        time.sleep(0.4)


def resident(parties: Parties) -> dict[str, int]:
    """Bytes by party, once they are quiet."""
    settle(parties)
    return {party.name: party.resident() for party in parties.running}


# -- ends at the middle --------------------------------------------------------


def setup(common: str, role: str, number: int) -> bytes:
    """The setup information of one end."""
    info = {"version": 1, "common": common, "unique": f"{role}-{number}", "role": role}
    hop = {"name": f"{role}-{number}", "role": role, "address": "", "nonce": os.urandom(16).hex()}
    data = b""
    for kind, body in ((COMMON_UNIQUE_INFO, info), (TOPOLOGY_EXCHANGE, {"hops": [hop]})):
        text = json.dumps(body).encode()
        data += HEADER.pack(len(text), kind, 0, 0, 0) + text
    return data


def dial(middle: loads.Address, number: int) -> socket.socket:
    """A connection to the middle from a loopback address of its own."""
    connection = socket.socket()
    connection.settimeout(10)
    connection.bind((f"127.{1 + number // 60000}.{number // 250 % 240}.{1 + number % 250}", 0))
    connection.connect(middle)
    return connection


def read_message(connection: socket.socket) -> int:
    """Read one message of the setup and return its type."""
    length, kind, _, _, _ = HEADER.unpack(loads.receive_exactly(connection, HEADER.size))
    body = loads.receive_exactly(connection, length)
    if kind not in (COMMON_UNIQUE_INFO, TOPOLOGY_EXCHANGE, PROPERTY_EXCHANGE):
        raise loads.LoadError(f"the middle said {body.decode(errors='replace')}")
    return int(kind)


def common_of(meeting: int) -> str:
    """The rendezvous id of a numbered meeting of this run."""
    digest = hashlib.sha256(f"{os.getpid()} {meeting}".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def something_arrived(connection: socket.socket) -> bool:
    """Whether bytes, or the end, can be read."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def waiting_ends(middle: loads.Address, first: int, count: int) -> list[socket.socket]:
    """Ends that wait at the middle, numbered from ``first``."""
    connections = []
    for index in range(first, first + count):
        connection = dial(middle, index)
        connection.sendall(setup(common_of(index), "server-end", index))
        connections.append(connection)
    return connections


def check_waiting(connections: list[socket.socket]) -> int:
    """LoadError if the middle has refused or dropped one; some are met by a partner."""
    for connection in connections:
        while something_arrived(connection):
            read_message(connection)
    for index in range(0, len(connections), max(1, len(connections) // 50)):
        waiting = connections[index]
        host, port = waiting.getpeername()
        with dial((host, port), len(connections) + index) as partner:
            partner.sendall(setup(common_of(index), "client-end", index))
            for connection in (partner, waiting):
                while read_message(connection) != TOPOLOGY_EXCHANGE:
                    pass
    return 0


def idle_pairs(middle: loads.Address, first: int, count: int) -> list[socket.socket]:
    """``count`` ends that have been paired, partners behind each other."""
    connections = []
    for index in range(first, first + count, 2):
        common = common_of(index)
        server, client = dial(middle, index), dial(middle, index + 1)
        server.sendall(setup(common, "server-end", index))
        client.sendall(setup(common, "client-end", index + 1))
        for connection in (server, client):
            while read_message(connection) != TOPOLOGY_EXCHANGE:
                pass
        connections += [server, client]
        check_pairs([server, client])
    return connections


def check_pairs(connections: list[socket.socket]) -> int:
    """LoadError if a pair does not pass bytes unchanged in both directions."""
    for server, client in zip(connections[::2], connections[1::2], strict=True):
        for source, destination in ((client, server), (server, client)):
            source.sendall(HELLO)
            if loads.receive_exactly(destination, len(HELLO)) != HELLO:
                raise loads.LoadError("a pair does not pass bytes unchanged")
    return 0


# -- channels through a whole system -----------------------------------------------


def idle_channels(entry: loads.Address, first: int, count: int) -> list[socket.socket]:
    """Connections that have exchanged one message and are idle."""
    connections = []
    for _ in range(first, first + count):
        connection = traffic.open_mode(entry, traffic.ECHO)
        check_channels([connection])
        connections.append(connection)
    return connections


def check_channels(connections: list[socket.socket]) -> int:
    """LoadError if one does not echo."""
    for connection in connections:
        message = os.urandom(loads.MESSAGE)
        connection.sendall(message)
        if loads.receive_exactly(connection, len(message)) != message:
            raise loads.LoadError("the echo differs")
    return 0


def stalled_streams(entry: loads.Address, first: int, count: int) -> list[socket.socket]:
    """Streams into which nothing more goes, because their reader takes nothing.

    LoadError if the tunnel itself is stuck: when one took less than it must.
    """
    poll = select.poll()
    streams = {}
    data = bytes(1 << 18)
    for _ in range(first, first + count):
        connection = socket.create_connection(entry, 10)
        with contextlib.suppress(ConnectionError):  # refused at once: counted by check_stalled
            connection.sendall(traffic.STALL)
        connection.setblocking(False)
        streams[connection.fileno()] = connection
        poll.register(connection, select.POLLOUT)
    taken = dict.fromkeys(streams, 0)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        writable = poll.poll(3000)
        if not writable:
            break
        for descriptor, _ in writable:
            try:
                taken[descriptor] += streams[descriptor].send(data)
            except BlockingIOError:
                pass
            except ConnectionError:  # ended to bound memory: counted by check_stalled
                poll.unregister(descriptor)
                del taken[descriptor]
    least = min(taken.values(), default=LEAST_TAKEN)
    if least < LEAST_TAKEN:
        raise loads.LoadError(f"a stream took only {least} bytes before it stalled")
    return list(streams.values())


def check_stalled(connections: list[socket.socket]) -> int:
    """How many the tunnel has ended, which it may do to bound its memory."""
    return sum(something_arrived(connection) for connection in connections)


@attrs.frozen
class Load:
    """Something to have many of."""

    name: str
    open: Callable[[loads.Address, int, int], list[socket.socket]]
    """Called with the address, the number of the first one and how many."""
    check: Callable[[list[socket.socket]], int]
    """Called after the measurement, as what is no longer there costs nothing: how many were
    ended, where that is permitted; LoadError otherwise."""


class Growth(NamedTuple):
    """What a load cost."""

    by_party: dict[str, float]
    """Bytes for each one."""
    ended: int
    """How many were ended by the system."""
    of: int
    """How many there were."""


WAITING = Load("waiting end", waiting_ends, check_waiting)
PAIRED = Load("end of an idle pair", idle_pairs, check_pairs)
IDLE = Load("idle channel", idle_channels, check_channels)
STALLED = Load("stalled stream", stalled_streams, check_stalled)


def growth(
    load: Load, parties: Parties, place: Place, address: loads.Address, count: int
) -> Growth:
    """Bytes by party that each of ``count`` adds.

    The first tenth is opened beforehand, to use up memory the processes had taken already.
    """
    first = max(2, count // 20 * 2)
    with contextlib.ExitStack() as opened:

        def more(start: int, number: int) -> list[socket.socket]:
            added = place.call(lambda: load.open(address, start, number))
            for connection in added:
                opened.enter_context(connection)
            return added

        connections = more(0, first)
        before = resident(parties)
        connections += more(first, count - first)
        after = resident(parties)
        ended = place.call(lambda: load.check(connections))
    each = {name: (after[name] - before[name]) / (count - first) for name in before}
    return Growth(each, ended, of=count)


def measure_middle(layout: Layout, ends: int) -> dict[str, float]:
    """Bytes at a tunnelkit middle per waiting end and per end of an idle pair."""
    results = {}
    for load in (WAITING, PAIRED):
        with Parties() as parties:
            address = start_lstp_middle(parties, layout.middle)
            grown = growth(load, parties, layout.middle, address, ends // 2 * 2)
            results[load.name] = sum(grown.by_party.values())
    return results


def measure_bastion(layout: Layout, ends: int = 10) -> dict[str, float]:
    """Bytes at an sshd per client that waits with ``ssh -R``."""
    with Parties() as parties:
        ssh = SshPair().bastion(parties, layout.middle)
        sshd = parties.running[0]
        settle(parties)
        before = sshd.resident()
        for index in range(ends):
            port = layout.middle.free_port()
            command = [*ssh, "-R", f"127.0.0.1:{port}:127.0.0.1:1"]
            parties.start(f"ssh-{index}", command, layout.server)
            parties.wait_for_answer(layout.middle, ("127.0.0.1", port), tunnel=False)
        settle(parties)
        return {"sshd, waiting ssh -R": (sshd.resident() - before) / ends}


def main() -> int:
    """Run it; 0 if nothing failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.memory", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--only", default="", metavar="NAME,...", help="just these systems")
    parser.add_argument("--ends", type=int, help="ends at the middle (default 10000)")
    parser.add_argument("--channels", type=int, help="idle channels (default 1000)")
    parser.add_argument("--stalled", type=int, help="stalled streams (default 1000)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    tenth = 10 if options.quick else 1
    systems = choose(options.only, DEFAULT)
    notes = [f"{s.name}: not installed: {', '.join(s.missing())}" for s in systems if s.missing()]
    failures: list[str] = []
    at_middle: dict[str, float] = {}
    channels: dict[str, dict[str, Growth]] = {}
    with prepared(), loopback("reno") as (layout, _):
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200
        ends = min(options.ends or 10000 // tenth, room)
        takes: dict[str, Callable[[], dict[str, float]]] = {
            "lstp": partial(measure_middle, layout, ends),
            "ssh-pair": partial(measure_bastion, layout),
        }
        for system in systems:
            if system.name in takes and not system.missing():
                try:
                    at_middle.update(takes[system.name]())
                except FAILURES as error:
                    failures.append(f"{system.name}, ends at the middle: {describe(error)}")
        for load, wanted in (
            (IDLE, options.channels or 1000 // tenth),
            (STALLED, options.stalled or 1000 // tenth),
        ):
            # Each load meets fresh processes: memory once taken is seldom given back.
            for system in systems:
                with rigs([system], layout, failures, quiet_if_missing=True) as running:
                    for rig in running:
                        ours = load is IDLE or system.name in OURS
                        count = wanted if ours else min(wanted, PEERS_STALLED)
                        try:
                            grown = growth(load, rig.parties, layout.client, rig.entry, count)
                        except FAILURES as error:
                            failures.append(f"{system.name}, {load.name}: {describe(error)}")
                            continue
                        channels.setdefault(load.name, {})[system.name] = grown
    if options.json:
        print(as_json({"middle": at_middle, "channels": channels, "notes": notes + failures}))
    else:
        if at_middle:
            rows = [
                [
                    what,
                    number(size / KIB),
                    "" if "ssh" in what else verdict(size, AIM, at_most=True),
                ]
                for what, size in at_middle.items()
            ]
            print(table([f"at the middle, {ends} ends", "KiB each", ""], rows))
            print("(aim: at most 40 KiB; sshd: 10 clients)\n")
        for name_of_load, by_system in channels.items():
            rows = [
                [f"{name}: {party}", number(size / KIB), str(grown.of), str(grown.ended)]
                for name, grown in by_system.items()
                for party, size in [*grown.by_party.items(), ("all", sum(grown.by_party.values()))]
            ]
            print(table([name_of_load, "KiB each", "of", "ended"], rows) + "\n")
        print("\n".join(notes + failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
