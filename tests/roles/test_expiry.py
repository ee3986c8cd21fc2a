"""Certificates that come to their end: said before, and tunnels end with them (U-14, X30)."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.net.channels.ends import FAR, NEAR, EndsCase
from tunnelkit.core.lstp.mux import MuxConfig
from tunnelkit.net.channels.end import context_for
from tunnelkit.net.lstp.protocol import LstpProtocol
from tunnelkit.roles.credential_watch import CredentialWatch
from tunnelkit.roles.expiry import ExpiryWarnings, Term

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
TERM = Term("certificate of a", BEGIN, BEGIN + timedelta(days=100), "make a new one")


class WarningsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[str] = []
        observer: Any = self._note
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.warnings = ExpiryWarnings()

    def _note(self, event: LogEvent) -> None:
        if "remedy" in event:
            self.said.append(f"{event['log_level'].name} {event['what']}")

    def said_on(self, day: float) -> list[str]:
        """What is said when it is that day of the hundred."""
        self.said.clear()
        self.warnings.look([TERM], BEGIN + timedelta(days=day))
        return list(self.said)

    def test_it_is_said_early_and_late_and_each_day_and_when_it_is_over(self) -> None:
        assert self.said_on(1) == self.said_on(79.9) == []
        assert self.said_on(80.1) == ["warn certificate of a"]
        assert self.said_on(80.2) == self.said_on(81) == []
        assert self.said_on(81.2) == ["warn certificate of a"]
        assert self.said_on(95.1) == ["warn certificate of a"]
        assert self.said_on(95.2) == []
        assert self.said_on(100.1) == ["error certificate of a"]
        assert self.said_on(100.2) == []
        assert self.said_on(101.2) == ["error certificate of a"]

    def test_a_new_one_is_counted_anew(self) -> None:
        assert self.said_on(99)
        self.said.clear()
        newer = Term(TERM.what, BEGIN, BEGIN + timedelta(days=300), "")
        self.warnings.look([newer], BEGIN + timedelta(days=100))
        assert self.said == []


class CutTest(EndsCase):
    async def test_a_tunnel_ends_with_the_certificate_of_its_peer(self) -> None:
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        protocol = LstpProtocol(MuxConfig(), self.shared.budget)
        near, far = await self.pair(
            "usher", [protocol], [LstpProtocol(MuxConfig(), self.shared.budget)]
        )
        make = partial(context_for, protocols=[protocol])
        file = self.ca.identity_file("watcher", directory)
        watch = CredentialWatch(self.shared, str(file), None, make)
        until = self.ca.credentials(NEAR).certificate.not_valid_after_utc
        before = near.connections + far.connections
        watch.look(until - timedelta(hours=1))
        assert all(connection.up for connection in before)
        watch.look(until + timedelta(seconds=1))
        await self.until(lambda: not any(connection.up for connection in before))
        assert {connection.peer for connection in before} == {NEAR, FAR}
