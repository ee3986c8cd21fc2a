"""Company A, firewall A, the internet, firewall B, company B; see docs/design/laboratory.md.

    company A --- firewall A --- internet ~~~ firewall B --- company B
    10.1.0.0/24   SOCKS 5        middles      CONNECT 443    10.2.0.0/24

Everything is routed, so that it is the firewalls' rules alone that stop a packet. Nothing has
a name on the machine: namespaces, devices and mounts exist only as long as the processes that
use them, and those are ended by a keeper process even if the tests are killed.
"""

from __future__ import annotations

import json

from bench.link import Link
from tests.system import firewalls
from tests.system.network import Network, route, wire

WORKPLACE_A = "10.1.0.2"
WIKI = "10.1.0.80"
"""Another machine of company A: its web and ssh server."""
RESOLVER = "10.1.0.53"
"""The only one that knows WIKI_NAME."""
WIKI_NAME = "wiki.company-a.example"
WORKPLACE_B = "10.2.0.2"
MIDDLES = ("192.0.2.10", "192.0.2.20", "192.0.2.30")
"""Addresses in the internet where middles may listen, on `MIDDLE_PORT`."""
MIDDLE_PORT = 443

_OUTSIDE_A = "198.51.100.2"
_GATEWAY_A = "198.51.100.1"
_NOBODY_RESOLVES = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"

UNDISTURBED = 1e9
"""Bits per second of the link before firewall B unless a test changes it."""


class Laboratory(Network):
    """Five places, wired and walled; a context manager.

    ``leg`` is the link between the internet and firewall B: `Link.change` gives it delay, loss,
    disorder and a rate. `counters` says what the firewalls have dropped.
    """

    def build(self) -> None:
        """See `Network`."""
        files = firewalls.accounts()
        alone = {"/etc/resolv.conf": _NOBODY_RESOLVES}
        company_a = {"/etc/resolv.conf": f"nameserver {RESOLVER}\n"}
        self.company_a = self.place("company-a", company_a)
        self.firewall_a = self.place("firewall-a", alone | files)
        self.internet = self.place("internet", alone)
        self.firewall_b = self.place("firewall-b", alone)
        self.company_b = self.place("company-b", alone)
        self.keep()
        inside_a, inside_b = firewalls.INSIDE_A, firewalls.INSIDE_B
        for place in self.places:
            place.run(["ip", "link", "set", "dev", "lo", "up"])
            # A connection must not begin slowly because an earlier one, on another link, met loss.
            place.set("net/ipv4/tcp_no_metrics_save", 1)
        for place in (self.firewall_a, self.internet, self.firewall_b):
            place.set("net/ipv4/ip_forward", 1)
        wire(self.firewall_a, "inside", [inside_a], self.company_a, [WORKPLACE_A, WIKI, RESOLVER])
        wire(self.firewall_b, "inside", [inside_b], self.company_b, [WORKPLACE_B])
        wire(self.firewall_a, "outside", [_OUTSIDE_A], self.internet, [_GATEWAY_A])
        near, far = self.internet.namespace, self.firewall_b.namespace
        self.leg = self._stack.enter_context(Link(near, far, rate=UNDISTURBED, round_trip=0))
        self.calm()
        for address in MIDDLES:
            self.internet.run(["ip", "address", "add", f"{address}/32", "dev", "lo"])
        route(self.company_a, "default", inside_a)
        route(self.company_b, "default", inside_b)
        route(self.firewall_a, "default", _GATEWAY_A)
        route(self.firewall_b, "default", self.leg.near_address)
        route(self.internet, "10.1.0.0/24", _OUTSIDE_A)
        route(self.internet, "10.2.0.0/24", self.leg.far_address)
        for firewall, ports in (
            (self.firewall_a, (firewalls.SOCKS_PORT, firewalls.CONNECT_PORT)),
            (self.firewall_b, (firewalls.CONNECT_PORT,)),
        ):
            firewall.run(["nft", "-f", "-"], given=firewalls.rules(*ports))

    def start_proxies(self) -> None:
        """The firewalls' proxies: dante on A, squid on both."""
        on_a = self.processes(self.firewall_a)
        firewalls.start_dante(on_a)
        firewalls.start_squid(on_a, firewalls.INSIDE_A)
        firewalls.start_squid(self.processes(self.firewall_b), firewalls.INSIDE_B)

    def calm(self) -> None:
        """Make the link one without delay and loss again."""
        self.leg.change(rate=UNDISTURBED, round_trip=0, queue=4 << 20)

    def cut(self) -> None:
        """Lose every packet on the link, in silence: nobody is told, until `calm`."""
        self.leg.change(rate=UNDISTURBED, round_trip=0, loss=1.0)

    def congestion(self, name: str) -> None:
        """Choose TCP's congestion control for connections made from now on."""
        for place in self.places:
            place.set("net/ipv4/tcp_congestion_control", name)

    def counters(self) -> dict[str, int]:
        """Packets that each firewall has dropped: ``a into_company`` and so on."""
        found = {}
        for letter, firewall in (("a", self.firewall_a), ("b", self.firewall_b)):
            listed = json.loads(firewall.run(["nft", "-j", "list", "counters"]).stdout)
            for item in listed["nftables"]:
                if counter := item.get("counter"):
                    found[f"{letter} {counter['name']}"] = int(counter["packets"])
        return found
