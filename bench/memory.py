"""Memory: of an end that waits, of an idle pair, of an open channel, of a stalled stream.

At the middle of LSTP 10,000 ends wait, then as many are paired and idle; this script speaks
the setup part of the protocol itself, each end from an address of its own. Through each system
connections are opened and left idle, and streams are filled whose reader has stalled; the growth
of each process is divided by their number. Buffers in the kernel are not in it.
"""

from __future__ import annotations

import argparse
import base64
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

from bench import loads, traffic
from bench.parties import Layout, Parties, PartyFailed, loopback, prepared
from bench.report import as_json, number, table, verdict
from bench.rig import Rig, describe, rigs
from bench.systems import SshPair, choose, start_lstp_middle

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

AIM = 40 * KIB
"""Bytes per waiting or paired end at the middle (R2)."""


def settle(parties: Parties) -> None:
    """Wait until the processes have nothing more to do, at most 20 s."""
    deadline = time.monotonic() + 20
    spent = -1.0
    while time.monotonic() < deadline:
        now = parties.cpu_seconds()
        if now - spent < 0.02:
            return
        spent = now
        time.sleep(0.5)


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


def fresh_common() -> str:
    """A rendezvous id that nobody else has."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")


def something_arrived(connection: socket.socket) -> bool:
    """Whether bytes, or the end, can be read."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def waiting_ends(middle: loads.Address, count: int) -> list[socket.socket]:
    """Ends that wait at the middle; LoadError if it refuses one."""
    connections = []
    for index in range(count):
        connection = dial(middle, index)
        connection.sendall(setup(fresh_common(), "server-end", index))
        connections.append(connection)
    for connection in connections:
        while something_arrived(connection):
            read_message(connection)
    return connections


def idle_pairs(middle: loads.Address, count: int) -> list[socket.socket]:
    """Pairs that have exchanged their first bytes; LoadError if one does not come about."""
    connections = []
    for index in range(count):
        common = fresh_common()
        server, client = dial(middle, 2 * index), dial(middle, 2 * index + 1)
        server.sendall(setup(common, "server-end", index))
        client.sendall(setup(common, "client-end", index))
        for connection in (server, client):
            while read_message(connection) != TOPOLOGY_EXCHANGE:
                pass
        for source, destination in ((client, server), (server, client)):
            source.sendall(HELLO)
            if loads.receive_exactly(destination, len(HELLO)) != HELLO:
                raise loads.LoadError("a pair does not pass bytes unchanged")
        connections += [server, client]
    return connections


def measure_middle(layout: Layout, ends: int) -> dict[str, float]:
    """Bytes at a tunnelkit middle per waiting end and per end of an idle pair."""
    results = {}
    for what, open_them, count in (
        ("waiting end", waiting_ends, ends),
        ("end of an idle pair", idle_pairs, ends // 2),
    ):
        with Parties() as parties:
            address = start_lstp_middle(parties, layout.middle)
            before = sum(resident(parties).values())
            connections = layout.middle.call(partial(open_them, address, count))
            results[what] = (sum(resident(parties).values()) - before) / len(connections)
            for connection in connections:
                connection.close()
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


# -- channels through a whole system -----------------------------------------------


def open_channels(entry: loads.Address, count: int) -> list[socket.socket]:
    """Connections that have exchanged one message and are idle."""
    connections = []
    for index in range(count):
        connection = traffic.open_mode(entry, traffic.ECHO)
        message = index.to_bytes(loads.MESSAGE, "big")
        connection.sendall(message)
        if loads.receive_exactly(connection, len(message)) != message:
            raise loads.LoadError("the echo differs")
        connections.append(connection)
    return connections


def stalled_streams(entry: loads.Address, count: int) -> list[socket.socket]:
    """Streams into which nothing more goes, because their reader takes nothing."""
    poll = select.poll()
    streams = {}
    data = bytes(1 << 18)
    for _ in range(count):
        connection = traffic.open_mode(entry, traffic.STALL)
        connection.setblocking(False)
        streams[connection.fileno()] = connection
        poll.register(connection, select.POLLOUT)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        writable = poll.poll(1000)
        if not writable:
            break
        for descriptor, _ in writable:
            try:
                streams[descriptor].send(data)
            except BlockingIOError:
                pass
    return list(streams.values())


def growth(rig: Rig, load: str, count: int) -> dict[str, float]:
    """Bytes by party and per connection that ``load`` adds."""
    open_them = open_channels if load == "idle channel" else stalled_streams
    before = resident(rig.parties)
    connections = rig.here(partial(open_them, rig.entry, count))
    after = resident(rig.parties)
    for connection in connections:
        connection.close()
    return {name: (after[name] - before[name]) / count for name in before}


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
    channels: dict[str, dict[str, dict[str, float]]] = {}
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
        for load, count in (
            ("idle channel", options.channels or 1000 // tenth),
            ("stalled stream", options.stalled or 1000 // tenth),
        ):
            # Each load meets fresh processes: memory once taken is seldom given back.
            for system in systems:
                with rigs([system], layout, failures, quiet_if_missing=True) as running:
                    for rig in running:
                        if load == "stalled stream" and system.name not in OURS:
                            count = min(count, PEERS_STALLED)
                        try:
                            parties = growth(rig, load, count)
                        except FAILURES as error:
                            failures.append(f"{system.name}, {load}: {describe(error)}")
                            continue
                        channels.setdefault(load, {})[system.name] = parties
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
        for load, by_system in channels.items():
            rows = [
                [f"{name}: {party}", number(size / KIB)]
                for name, parties in by_system.items()
                for party, size in [*parties.items(), ("all", sum(parties.values()))]
            ]
            print(table([load, "KiB each"], rows) + "\n")
        print("\n".join(notes + failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
