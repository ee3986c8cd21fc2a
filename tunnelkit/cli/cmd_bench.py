"""``tunnelkit bench``: what a tunnel that is up carries, to its own far end and back."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tunnelkit.cli.bench_loads import (
    Connections,
    Download,
    Load,
    Pings,
    Place,
    Upload,
    run_all,
)
from tunnelkit.cli.control_client import ask, running_roles
from tunnelkit.errors import ChannelRefused, Code, ConfigError
from tunnelkit.policy.destination import BENCH_SERVICE
from tunnelkit.policy.printable import printable
from tunnelkit.wire.measurement import MOST_SECONDS

MOST_STREAMS = 32
AT_ONCE = 16
"""Connections that are being made at the same time."""
PAUSE = 0.05
"""Seconds between messages beside a bulk load."""
_LOWEST_SECONDS = 0.05
_MIB = 1 << 20

_HINTS = {
    Code.NOT_ALLOWED: f"expected --allow {BENCH_SERVICE} there",
    Code.NO_SUCH_SERVICE: f"it has no {BENCH_SERVICE}: expected a newer tunnelkit there",
    Code.LIMIT: "expected fewer streams, or nobody else who measures",
}


def register(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "bench",
        help="how fast a tunnel is that is up: throughput, round trips, new connections",
        description="Measures a tunnel of a running end against its own far end, which has to "
        f"allow it: --allow {BENCH_SERVICE} there. Takes four times --seconds.",
    )
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="the running end: its name, its tunnel or its role, as `tunnelkit status` shows them "
        "(default: the only one here)",
    )
    parser.add_argument("--control", metavar="PATH", help="the control socket of that end instead")
    parser.add_argument(
        "--peer", metavar="NAME", help="the other end, where several are connected to that one"
    )
    parser.add_argument(
        "--seconds",
        metavar="SECONDS",
        type=float,
        default=3.0,
        help=f"that each measurement lasts, up to {MOST_SECONDS} (default: 3)",
    )
    parser.add_argument(
        "--streams",
        metavar="N",
        type=int,
        default=1,
        help=f"that carry bulk at the same time, up to {MOST_STREAMS} (default: 1)",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print what is measured, one result a line."""
    if not _LOWEST_SECONDS <= args.seconds <= MOST_SECONDS:
        raise ConfigError(f"--seconds: expected {_LOWEST_SECONDS:g} to {MOST_SECONDS}")
    if not 1 <= args.streams <= MOST_STREAMS:
        raise ConfigError(f"--streams: expected 1 to {MOST_STREAMS}")
    control, status = _end(args.name, args.control)
    peer = _peer(status, args.peer)
    measuring = _Measuring(Place(control, peer), args.seconds, args.streams)
    found: dict[str, object] = {
        "role": status.get("role"),
        "name": status.get("name"),
        "peer": peer,
        "seconds": args.seconds,
        "streams": args.streams,
    }
    labels = {name: label.format(peer=printable(peer)) for name, label, _, _ in _RESULTS}
    width = max(map(len, labels.values()))
    with measuring.progress:
        for name, _, measure, describe in _RESULTS:
            result = found[name] = measure(measuring, labels[name])
            if not args.json:
                measuring.progress.clear()
                print(f"{labels[name]:<{width}}  {describe(result)}", flush=True)
    if args.json:
        print(json.dumps(found))
    return 0


# -- which tunnel ---------------------------------------------------------


def _end(name: str | None, control: str | None) -> tuple[str, Mapping[str, Any]]:
    """The control socket of the end that is meant, and its status; raises `ConfigError`."""
    if control is not None:
        if name is not None:
            raise ConfigError("--control: expected it or NAME, not both")
        status: Mapping[str, Any] = ask(control, "status")
        if not _is_end(status):
            raise ConfigError(f"{status.get('role')} is no end of a tunnel: expected one")
        return control, status
    ends = [(place, status) for place, status in running_roles() if _is_end(status)]
    meant = [one for one in ends if name is None or name in _names(one[1])]
    if len(meant) == 1:
        return meant[0]
    known = ", ".join(dict.fromkeys(_shown(status) for _, status in (meant or ends)))
    if not ends:
        raise ConfigError("no end of a tunnel of this user is running here: expected one")
    if name is None:
        raise ConfigError(f"several ends are running here: expected NAME, one of {known}")
    if not meant:
        raise ConfigError(f"no end {printable(name)} is running here: expected one of {known}")
    places = " or ".join(place for place, _ in meant)
    raise ConfigError(f"several ends are called {printable(name)}: expected --control {places}")


def _is_end(status: Mapping[str, Any]) -> bool:
    return isinstance(status.get("peers"), list) and "tunnel" in status


def _names(status: Mapping[str, Any]) -> set[object]:
    return {status.get("name"), status.get("tunnel"), status.get("role")}


def _shown(status: Mapping[str, Any]) -> str:
    return printable(str(status.get("name")))


def _peer(status: Mapping[str, Any], asked: str | None) -> str:
    """The other end that is meant; raises `ConfigError`."""
    peers: list[str] = status["peers"]
    if not peers:
        why = status.get("last_error") or f"it is {status.get('state')}"
        shown = printable(str(why))
        raise ConfigError(f"{_shown(status)} has no tunnel: {shown}: expected one that is up")
    if asked is None and len(peers) == 1:
        return peers[0]
    known = ", ".join(map(printable, peers))
    if asked is None:
        raise ConfigError(f"several are connected to {_shown(status)}: expected --peer, of {known}")
    if asked not in peers:
        raise ConfigError(
            f"--peer {printable(asked)}: not connected to {_shown(status)}: expected {known}"
        )
    return asked


# -- what is measured -----------------------------------------------------


class _Progress:
    """One line that says how far it is; only on a terminal."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Leave an empty line."""
        if self._shows:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        """In place of what is there."""
        if self._shows:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


class _Measuring:
    """One tunnel."""

    def __init__(self, place: Place, seconds: float, streams: int) -> None:
        self._place = place
        self._seconds = seconds
        self._streams = streams
        self.progress = _Progress()

    def round_trip(self, label: str) -> dict[str, object]:
        """Of small messages, with nothing beside them."""
        pings = Pings(self._place, self._seconds)
        self._run([pings], label, "{count:,} messages")
        return _distribution(pings.round_trips)

    def down(self, label: str) -> dict[str, object]:
        """Bulk from the far side, and a message now and then beside it."""
        loads = [Download(self._place, self._seconds) for _ in range(self._streams)]
        beside = self._beside(loads, label)
        seconds = max(load.last for load in loads) - min(load.began for load in loads)
        return _throughput(sum(load.count for load in loads), seconds, beside)

    def up(self, label: str) -> dict[str, object]:
        """Bulk to the far side, as it has arrived there, and the same beside it."""
        loads = [Upload(self._place, self._seconds) for _ in range(self._streams)]
        beside = self._beside(loads, label)
        seconds = max(load.took for load in loads)
        return _throughput(sum(load.count for load in loads), seconds, beside)

    def connections(self, label: str) -> dict[str, object]:
        """Channels that are opened, used once and closed."""
        loads = [Connections(self._place, self._seconds) for _ in range(AT_ONCE)]
        took = self._run(loads, label, "{count:,} connections")
        count = sum(load.count for load in loads)
        return {"per_second": count / took, "count": count, "at_once": AT_ONCE}

    def _beside(self, loads: Sequence[Load], label: str) -> Pings:
        pings = Pings(self._place, self._seconds, PAUSE)
        self._run([pings, *loads], label, "{mib:,.0f} MiB")
        return pings

    def _run(self, loads: Sequence[Load], label: str, so_far: str) -> float:
        def tick(seconds: float, count: int) -> None:
            left = max(0.0, self._seconds - seconds)
            done = so_far.format(count=count, mib=count / _MIB)
            self.progress.show(f"{label}: {done}, {left:.0f} s left")

        try:
            return run_all(loads, tick)
        except ChannelRefused as error:
            hint = f": {_HINTS[error.code]}" if error.code in _HINTS else ""
            whom = printable(self._place.peer)
            raise ConfigError(f"{whom}: {printable(error.reason)}{hint}") from None


def _throughput(count: int, seconds: float, beside: Pings) -> dict[str, object]:
    return {
        "bytes_per_second": count / seconds,
        "bytes": count,
        "seconds": seconds,
        "round_trip": _distribution(beside.round_trips),
    }


def _distribution(seconds: Sequence[float]) -> dict[str, object]:
    ordered = sorted(seconds)
    return {
        "median_ms": 1000 * statistics.median(ordered),
        "p99_ms": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
        "count": len(ordered),
    }


# -- how it is shown ------------------------------------------------------


def _number(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _show_round_trip(result: Mapping[str, Any]) -> str:
    return f"{_number(result['median_ms'])} ms, 99 % within {_number(result['p99_ms'])} ms"


def _show_throughput(result: Mapping[str, Any]) -> str:
    rate = result["bytes_per_second"]
    shown = f"{_number(rate / _MIB)} MiB/s ({_number(8 * rate / 1e6)} Mbit/s)"
    return f"{shown}; round trip meanwhile {_show_round_trip(result['round_trip'])}"


def _show_connections(result: Mapping[str, Any]) -> str:
    return f"{_number(result['per_second'])} per second, {result['at_once']} at once"


_RESULTS: tuple[tuple[str, str, Any, Any], ...] = (
    ("round_trip", "round trip", _Measuring.round_trip, _show_round_trip),
    ("down", "from {peer}", _Measuring.down, _show_throughput),
    ("up", "to {peer}", _Measuring.up, _show_throughput),
    ("new_connections", "new connections", _Measuring.connections, _show_connections),
)
"""In the order in which they are made: name, label, how, and how it is shown."""
