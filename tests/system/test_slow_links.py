"""Delay, loss, disorder and a limited rate before firewall B: exact, fast, responsive (R6, R12)."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from bench import loads, traffic
from tests.system.crossings import CROSSINGS, PARALLEL, Running, Start
from tests.system.laboratory import MIDDLES, Laboratory
from tests.system.loads import Fetching, serve
from tests.system.services import EVERYTHING, HTTP, MIB, TRAFFIC, Services

PATIENCE = 150.0
"""Seconds for one transfer; TCP itself gets 16 KiB/s through the worst of the links."""
STREAMS = 4


@attrs.frozen
class Weather:
    """What the link is like."""

    milliseconds: int
    """Round trip."""
    percent: int
    """Packets lost, each way."""
    megabits: int
    """Per second, each way."""
    disorder: int = 0
    """Of 100 packets so many are overtaken by others, and as many arrive twice, each way."""

    def __str__(self) -> str:
        disorder = f"-{self.disorder}%-disorder" if self.disorder else ""
        return f"{self.milliseconds}ms-{self.percent}%-{self.megabits}Mbit{disorder}"

    def come(self, lab: Laboratory) -> None:
        """Make it so."""
        lab.leg.change(
            rate=self.megabits * 1e6,
            round_trip=self.milliseconds / 1e3,
            loss=self.percent / 100,
            reorder=self.disorder / 100,
            duplicate=self.disorder / 100,
        )


WEATHERS = [Weather(*x) for x in itertools.product((0, 50, 200, 500), (0, 1, 5), (10, 100))]
DISORDERLY = [
    Weather(0, 0, 100, 10),
    Weather(50, 1, 10, 5),
    Weather(200, 0, 100, 5),
    Weather(500, 5, 10, 5),
]
FIRST = "lstp"
"""The kind of tunnel that gets `OFTEN` in `make system-test`."""
OFTEN = {
    Weather(0, 5, 100),
    Weather(0, 0, 100, 10),
    Weather(50, 1, 10),
    Weather(200, 0, 100),
    Weather(500, 0, 10),
}
OFTEN_FOR_ALL = {Weather(50, 1, 10, 5)}
"""Those that every kind gets there; the others are only for `make system-test-long`."""


def weathers(
    kinds: Mapping[str, Start],
    those: list[Weather],
    often: set[Weather],
    often_for_all: Set[Weather] = frozenset(),
) -> pytest.MarkDecorator:
    """A test for each kind of tunnel and each weather, those that are not ``often`` marked as
    long."""
    params = []
    for (kind, start), weather in itertools.product(kinds.items(), those):
        is_often = weather in often_for_all or (kind == FIRST and weather in often)
        marks = [] if is_often else [pytest.mark.long]
        params.append(pytest.param(start, weather, id=f"{kind}-{weather}", marks=marks))
    return pytest.mark.parametrize(("start", "weather"), params)


def upload(address: traffic.Address, data: bytes) -> bytes:
    """The SHA-256 that the other side has seen."""
    head = traffic.HASH + struct.pack("!Q", len(data))
    with traffic.open_mode(address, head, PATIENCE) as connection:
        connection.sendall(data)
        return loads.receive_exactly(connection, 32)


@pytest.mark.timeout(240)
@weathers(CROSSINGS, WEATHERS + DISORDERLY, OFTEN, OFTEN_FOR_ALL)
def test_everything_arrives_as_it_was_sent(
    lab: Laboratory, running: Running, services: Services, start: Start, weather: Weather
) -> None:
    size = MIB // 4 if weather.percent else 4 * MIB
    digest = services.add("file", size)
    data = (services.pages / "file").read_bytes()
    weather.come(lab)
    crossing = start(running, EVERYTHING, [HTTP, TRAFFIC])
    host, port = crossing.forward()

    def download(number: int) -> str:
        copy = lab.company_b.directory / f"copy-{number}"
        fetch = ["curl", "-sS", "--fail", "-o", copy, f"http://{host}:{port}/file"]
        lab.company_b.run(fetch, limit=PATIENCE)
        return hashlib.sha256(copy.read_bytes()).hexdigest()

    def send(_: int) -> str:
        return lab.company_b.call(lambda: upload(crossing.forward(1), data)).hex()

    with ThreadPoolExecutor(4) as pool:
        transfers = [pool.submit(way, number) for number in range(2) for way in (download, send)]
    assert [transfer.result() for transfer in transfers] == [digest] * len(transfers)


FAST = Weather(50, 0, 100)
RATED = [FAST, Weather(200, 0, 10), Weather(200, 0, 100), Weather(500, 0, 10)]
RATED_WITH_LOSS = [Weather(50, 1, 10), Weather(50, 5, 10), Weather(200, 1, 10)]


def share_of_plain_tcp(lab: Laboratory, running: Running, start: Start, weather: Weather) -> float:
    """Rate of a few streams through the tunnel, as part of what as many connections of
    plain TCP get on the same link."""
    seconds = max(8.0, 40 * weather.milliseconds / 1e3)  # the start takes round trips, not seconds
    weather.come(lab)
    plain = serve(running.at(lab.internet), MIDDLES[1])
    crossing = start(running, EVERYTHING, [TRAFFIC])
    alone = Fetching(running.at(lab.firewall_b), plain, STREAMS, seconds, as_proxy=True).rate()
    within = Fetching(running.at(lab.company_b), crossing.forward(), STREAMS, seconds).rate()
    print(f"{weather}: plain TCP {alone / 1e6:.2f}, tunnel {within / 1e6:.2f} Mbit/s")
    return within / alone


@weathers(CROSSINGS, RATED, {FAST})
def test_streams_get_most_of_what_plain_tcp_gets(
    lab: Laboratory, running: Running, services: Services, start: Start, weather: Weather
) -> None:
    assert share_of_plain_tcp(lab, running, start, weather) >= 0.7


@weathers(PARALLEL, RATED_WITH_LOSS, set())
def test_under_loss_they_do_too_on_as_many_connections(
    lab: Laboratory, running: Running, services: Services, start: Start, weather: Weather
) -> None:
    # A lost packet halves the rate of the connection that it belonged to, of one that carries
    # everything as of one of many: what is compared has the same number of connections.
    assert share_of_plain_tcp(lab, running, start, weather) >= 0.7


INTERACTIVE = 100
FAR = 0.200
ALLOWANCE = 0.100
"""Seconds that bulk may cost an interactive message, at the 99th percentile (R12)."""


def late(lab: Laboratory, address: traffic.Address) -> float:
    """99th percentile of the round trips of small messages on many streams, in seconds.

    The first quarter of them only gets TCP out of its slow start.
    """
    trips = lab.company_b.call(lambda: loads.ping(address, 8.0, INTERACTIVE))
    return loads.quantile(trips[len(trips) // 4 :], 0.99)


@pytest.mark.long
@pytest.mark.parametrize("bulk", [False, True], ids=["alone", "beside-bulk"])
@pytest.mark.parametrize("start", CROSSINGS.values(), ids=CROSSINGS)
def test_interactive_streams_stay_responsive_far_away(
    lab: Laboratory, running: Running, services: Services, start: Start, bulk: bool
) -> None:
    rate = 20e6
    lab.leg.change(rate=rate, round_trip=FAR)
    crossing = start(running, EVERYTHING, [TRAFFIC])
    if bulk:
        stream = Fetching(running.at(lab.company_b), crossing.forward(), 1, 60)
        stream.wait_for(rate / 8 * 5)
    measured = late(lab, crossing.forward())
    print(f"p99 {measured * 1e3:.0f} ms")
    assert measured <= FAR + ALLOWANCE
