"""A service of company A that the internet may use for a while, and nothing else of it (T1-T3)."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.acceptance.processes import Role
from tests.system import firewalls
from tests.system.crossings import Running, lstp_middle, lstp_options, middle_at
from tests.system.laboratory import MIDDLE_PORT, MIDDLES, WIKI, Laboratory
from tests.system.places import Place
from tests.system.services import HEADING, SSH, Services

WINDOW = f"{MIDDLES[2]}:{MIDDLE_PORT}"
"""Where the service appears; the port is one that company B's proxy connects to."""
WIKI_SERVICE = f"wiki={WIKI}:80,listen={MIDDLE_PORT}"
AT_ONCE = 1.0
"""Seconds after which nobody gets in any more (T3)."""
REFUSED = {7: "connection refused", 52: "empty reply", 56: "reset"}
"""How curl ends if it gets nothing."""
WATCH = f"""
table inet watch {{
    counter asked {{ }}
    chain output {{
        type filter hook output priority 0;
        ip daddr {WIKI} tcp flags & (syn | ack) == syn counter name asked
    }}
}}
"""
"""In company A: counts connections to its servers."""


class Inside:
    """The end in company A that publishes what its configuration file says."""

    def __init__(self, running: Running) -> None:
        self.place = running.lab.company_a
        self._file = self.place.directory / "inside.toml"
        self._write(WIKI_SERVICE)
        options = lstp_options(running, self.place, "inside", "outside")
        self.role = running.at(self.place).role("lstp-server-end", *options, "--config", self._file)

    def _write(self, *services: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"allow = []\npublish = {json.dumps(services)}\n")
        os.replace(new, self._file)

    def publish(self, *services: str) -> None:
        """Publish these and nothing else from now on."""
        since = len(self.role.process.lines)
        self._write(*services)
        self.role.process.child.send_signal(signal.SIGHUP)
        self.role.wait_for("Reloaded: .*service", since=since)


def start_outside(running: Running) -> Role:
    """The end in the internet: the window, and ports for what is not published."""
    ports = ("--forward", "0=service:wiki", "--forward", "0=service:git", "--forward", f"0={SSH}")
    return running.at(running.lab.internet).role(
        *("lstp-client-end", "--middle", middle_at(0), "--tunnel", "companies"),
        *("--identity", running.identities("outside"), "--peer", "inside"),
        *("--allow", f"listen:{WINDOW}", *ports),
    )


def asked(lab: Laboratory) -> int:
    """Connections to company A's servers so far."""
    listed = lab.company_a.run(["nft", "-j", "list", "counter", "inet", "watch", "asked"]).stdout
    found = [item["counter"]["packets"] for item in json.loads(listed)["nftables"][1:]]
    return int(found[0])


def look(place: Place, address: str, *options: object) -> str:
    """The page behind ``address``, or how curl did not get it."""
    url = f"http://{address}/page.html"
    done = place.run(["curl", "-sS", "--max-time", 10, *options, url], check=False)
    return done.stdout if done.returncode == 0 else REFUSED[done.returncode]


@pytest.fixture
def watched(lab: Laboratory, services: Services) -> Laboratory:
    """The laboratory with a counter in company A."""
    lab.company_a.run(["nft", "-f", "-"], given=WATCH)
    return lab


def test_a_service_appears_is_used_is_withdrawn_and_expires(
    watched: Laboratory, running: Running
) -> None:
    lab = watched
    lstp_middle(running)
    inside = Inside(running)
    outside = start_outside(running)
    dropped = lab.counters()
    opened = f"Listening on {WINDOW} for service wiki of inside"
    closed = f"Closed {WINDOW} for service wiki"
    by_name, never_published, no_service = (outside.address("forward", n) for n in range(3))

    # It is used from the internet, and from company B through company B's own proxy.
    outside.wait_for(opened)
    through_b = ("--proxytunnel", "--proxy", f"{firewalls.INSIDE_B}:{firewalls.CONNECT_PORT}")
    password = ("--proxy-user", f"{firewalls.USER}:{firewalls.PASSWORD}")
    assert HEADING in look(lab.internet, WINDOW)
    assert HEADING in look(lab.internet, by_name)
    assert HEADING in look(lab.company_b, WINDOW, *through_b, *password)
    assert asked(lab) == 3

    # Anything else is refused: outside already, or by the inside before it connects anywhere.
    heard = len(inside.role.process.lines)
    assert look(lab.internet, never_published) in REFUSED.values()
    outside.wait_for("service:git.*does not publish")
    assert len(inside.role.process.lines) == heard, "the inside has not been asked"
    assert look(lab.internet, no_service) in REFUSED.values()
    inside.role.wait_for("(?i)not.allowed", since=heard)
    assert asked(lab) == 3

    since = len(outside.process.lines)
    inside.publish()
    withdrawn = time.monotonic()
    outside.wait_for(closed, since=since)
    assert look(lab.internet, WINDOW) == "connection refused"
    assert look(lab.internet, by_name) in REFUSED.values()
    assert time.monotonic() - withdrawn < AT_ONCE

    since = len(outside.process.lines)
    began = time.monotonic()
    inside.publish(f"{WIKI_SERVICE},until=+2")
    outside.wait_for(opened, since=since)
    assert HEADING in look(lab.internet, WINDOW)
    outside.wait_for(closed, since=since)
    assert look(lab.internet, WINDOW) == "connection refused"
    assert look(lab.internet, by_name) in REFUSED.values()
    assert 1 < time.monotonic() - began < 2 + AT_ONCE

    since = len(outside.process.lines)
    inside.publish(WIKI_SERVICE)
    outside.wait_for(opened, since=since)
    assert HEADING in look(lab.internet, WINDOW)
    inside.role.process.kill()
    lost = time.monotonic()
    outside.wait_for(f"{closed}.*control session has ended", since=since)
    assert look(lab.internet, WINDOW) == "connection refused"
    assert time.monotonic() - lost < AT_ONCE
    assert asked(lab) == 5
    assert lab.counters() == dropped, "nobody has tried another way in or out"
