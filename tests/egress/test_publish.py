"""``--publish``: its text, and what the inside answers (rows T1, T2)."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from tunnelkit.core.socket_table import SocketTable, TrustedSocket
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.publish import (
    Publisher,
    PublishSpec,
    check_publications,
    parse_publish,
)
from tunnelkit.egress.requests import Authorizer
from tunnelkit.errors import Code, ConfigError, NotAuthorized
from tunnelkit.net.sockets.poll import ReactorPoller
from tunnelkit.policy.acl import PolicyHolder
from tunnelkit.policy.destination import Destination, parse_destination

PUBLISHED = [
    ("web=127.0.0.1:80", ("web", "tcp:127.0.0.1:80", None)),
    ("web=tcp:[::1]:80,listen=8080", ("web", "tcp:[::1]:80", 8080)),
    ("web=Intranet.Example:80", ("web", "tcp:intranet.example:80", None)),
    ("pg.main=unix:/run/pg,a/s.5432,listen=5432", ("pg.main", "unix:/run/pg,a/s.5432", 5432)),
]


@pytest.mark.parametrize(("text", "means"), PUBLISHED)
def test_a_publication_is_a_name_a_destination_and_a_port(
    text: str, means: tuple[str, str, int | None]
) -> None:
    spec = parse_publish(text)
    assert (spec.name, str(spec.destination), spec.listen) == means
    assert spec.until is None


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        ("2030-01-02T03:04:05Z", 1893553445.0),
        ("2030-01-02T04:04:05+01:00", 1893553445.0),
        ("2030-01-02T03:04:05.500000+00:00", 1893553445.5),
        ("2001-01-01T00:00:00Z", 978307200.0),
    ],
)
def test_a_publication_ends_at_a_time(until: str, seconds: float) -> None:
    for text in (f"web=h:80,until={until},listen=1", f"web=h:80,listen=1,until={until}"):
        spec = parse_publish(text)
        assert (spec.until, spec.listen) == (seconds, 1)


def test_a_time_without_an_offset_is_local_time() -> None:
    local = datetime(2030, 1, 2, 3, 4)
    assert parse_publish("web=h:80,until=2030-01-02T03:04").until == local.timestamp()


def test_seconds_count_from_now() -> None:
    before = time.time()
    until = parse_publish("web=h:80,until=+90").until
    assert until is not None
    assert before + 90 <= until <= time.time() + 90


def test_a_time_in_more_than_ten_years_is_a_mistake() -> None:
    far = datetime.now(timezone.utc) + timedelta(days=365 * 10 + 5)
    with pytest.raises(ConfigError, match="10 years"):
        parse_publish(f"web=h:80,until={far.isoformat()}")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("web", "there is no '='"),
        ("=h:80", "service's name"),
        ("a b=h:80", "service's name"),
        ("@dns=h:80", "the protocol's own"),
        ("web=h", "expected"),
        ("web=h:0", "port"),
        ("web=udp:h:53", "expected"),
        ("web=service:git", "expected"),
        ("web=h:80,listen=0", "port"),
        ("web=h:80,listen=1,listen=2", "twice"),
        ("web=h:80,until=tomorrow", "'tomorrow' is not a time"),
        ("web=h:80,until=", "is not a time"),
        ("web=h:80,until=+1d", "is not a time"),
        ("web=h:80,until=9999-12-31T23:59:59", "10 years"),
        ("web=h:80,colour=blue", "expected"),
    ],
)
def test_mistakes_are_told_with_what_is_expected(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as raised:
        parse_publish(text)
    assert str(raised.value).startswith(f"publish '{text}': ")


@given(st.text(max_size=60))
def test_any_text_is_a_publication_or_a_mistake(text: str) -> None:
    try:
        said = parse_publish(f"web={text}").name
    except ConfigError as error:
        said = str(error)
    assert said == "web" or (said.startswith("publish 'web=") and "\n" not in said)


def test_a_name_is_published_once_and_there_are_not_too_many() -> None:
    check_publications([parse_publish(f"s{number}=h:80") for number in range(128)])
    with pytest.raises(ConfigError, match="web is published twice"):
        check_publications([parse_publish("web=h:80"), parse_publish("web=h:81")])
    with pytest.raises(ConfigError, match="more than 128"):
        check_publications([parse_publish(f"s{number}=h:80") for number in range(129)])


class FakeEgress(Egress):
    """Notes what is dialled, and what allows it."""

    def __init__(self, clock: Clock) -> None:
        reactor: Any = global_reactor
        super().__init__(clock, ReactorPoller(reactor), PolicyHolder())
        self.dialled: list[tuple[str, Authorizer | None]] = []

    def dial(
        self,
        request: Any,
        destination: Destination,
        make_side: Any = None,
        policy: Authorizer | None = None,
    ) -> None:
        self.dialled.append((str(destination), policy))


class FakeRequest:
    """A request of ``peer`` for a service."""

    peer = "client"
    gone = False

    def __init__(self, destination: str) -> None:
        self.destination = destination
        self.on_gone = None
        self.refused: Code | None = None

    def refuse(self, code: Code, reason: str) -> None:
        self.refused = code


class PublisherTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(5000)
        self.egress = FakeEgress(self.clock)
        self.table = SocketTable()
        self.announced: list[list[str]] = []
        self.publisher = Publisher(self.clock, self.egress, self.table, self.announce)
        self.addCleanup(self.publisher.stopService)

    def announce(self) -> None:
        self.announced.append([entry.name for entry in self.table])

    def publish(self, *texts: str) -> list[str]:
        return self.publisher.replace([parse_publish(text) for text in texts])

    def asked_for(self, name: str) -> Code | Authorizer | None:
        """What a request leads to: a refusal, or what allows the dial that has begun."""
        request: Any = FakeRequest(f"service:{name}")
        self.egress(request)
        if request.refused is not None:
            return Code(request.refused)
        return self.egress.dialled[-1][1]

    def allowed(self, name: str) -> Authorizer:
        found = self.asked_for(name)
        assert found is not None
        assert not isinstance(found, Code)
        return found

    def test_a_publication_allows_its_destination_and_no_other(self) -> None:
        self.publish("web=10.0.0.1:80")
        allowed = self.allowed("web")
        assert self.egress.dialled[-1][0] == "tcp:10.0.0.1:80"
        decision = allowed.authorize("client", "connect", "tcp", "10.0.0.1", 80)
        assert (decision.address, decision.port, decision.rule) == ("10.0.0.1", 80, "publish web")
        assert decision.peer == "client"
        for address, port in (("10.0.0.2", 80), ("10.0.0.1", 81), ("127.0.0.1", 80)):
            with pytest.raises(NotAuthorized):
                allowed.authorize("client", "connect", "tcp", address, port)
        assert self.asked_for("git") is Code.NO_SUCH_SERVICE

    def test_a_name_leads_to_no_special_address_but_localhost_does(self) -> None:
        self.publish("web=web.example:80", "own=localhost:80")
        web, own = self.allowed("web"), self.allowed("own")
        web.authorize("client", "connect", "tcp", "10.1.2.3", 80, "web.example")
        with pytest.raises(NotAuthorized):
            web.authorize("client", "connect", "tcp", "127.0.0.1", 80, "web.example")
        with pytest.raises(NotAuthorized):
            own.authorize("client", "connect", "tcp", "169.254.169.254", 80, "localhost")
        own.authorize("client", "connect", "tcp", "127.0.0.1", 80, "localhost")
        own.authorize("client", "connect", "tcp", "::1", 80, "localhost")

    def test_what_ends_while_it_is_being_dialled_is_not_connected(self) -> None:
        self.publish("web=10.0.0.1:80,until=+60", "git=10.0.0.1:9418")
        web, git = self.allowed("web"), self.allowed("git")
        self.clock.advance(59)
        web.authorize("client", "connect", "tcp", "10.0.0.1", 80)
        self.clock.advance(1.1)
        with pytest.raises(NotAuthorized, match="not published any more"):
            web.authorize("client", "connect", "tcp", "10.0.0.1", 80)
        self.publish("git=10.0.0.2:9418")
        with pytest.raises(NotAuthorized, match="not published any more"):
            git.authorize("client", "connect", "tcp", "10.0.0.1", 9418)

    def test_an_end_is_announced_when_it_comes_however_far_it_is(self) -> None:
        self.publish("web=10.0.0.1:80,until=+20000", "git=10.0.0.1:9418")
        assert self.announced == [["web", "git"]]
        self.clock.pump([3000] * 6)
        assert self.announced == [["web", "git"]]
        self.clock.advance(2001)
        assert self.announced == [["web", "git"], ["git"]]
        assert self.asked_for("web") is Code.NO_SUCH_SERVICE

    def test_a_reload_changes_what_has_changed_and_extends_nothing_else(self) -> None:
        self.publish("web=10.0.0.1:80,until=+60", "git=10.0.0.1:9418")
        self.clock.advance(50)
        assert self.publish("web=10.0.0.1:80,until=+60", "git=10.0.0.1:9419") == [
            "service git published"
        ]
        assert self.publish("web=10.0.0.1:80,until=+60") == ["service git withdrawn"]
        assert self.announced == [["web", "git"], ["web", "git"], ["web"]]
        assert self.publish("web=10.0.0.1:80,until=+60") == []
        self.clock.advance(11)
        assert self.announced[3:] == [[]]
        assert self.publish("web=10.0.0.1:80,until=+60") == []
        assert self.asked_for("web") is Code.NO_SUCH_SERVICE
        assert self.publish("web=10.0.0.1:80,until=+61") == ["service web published"]
        self.allowed("web")

    def test_what_has_ended_before_it_begins_is_not_published(self) -> None:
        spec = PublishSpec("x", "web", parse_destination("tcp:10.0.0.1:80"), until=1.0)
        assert self.publisher.replace([spec]) == ["service web not published, its time is over"]
        assert self.asked_for("web") is Code.NO_SUCH_SERVICE

    def test_a_service_that_a_program_accepts_is_not_taken_from_it(self) -> None:
        self.table.add(TrustedSocket("web"))
        with pytest.raises(ConfigError, match="accepted by a program"):
            self.publish("git=10.0.0.1:9418", "web=10.0.0.1:80")
        assert self.announced == []
        self.publish("git=10.0.0.1:9418")
        self.publish()
        assert [entry.name for entry in self.table] == ["web"]
