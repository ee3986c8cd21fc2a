"""The office, the laptop and the relay of the tutorial, and the internet in between.

office --- internet --- relay        From outside nobody gets to the office or the laptop;
laptop ------'                       both get out, to anywhere.
"""

from __future__ import annotations

from tests.system.network import Network, route, wire

RELAY = "192.0.2.10"
RELAY_NAME = "relay.example"
OFFICE = "10.1.0.2"
LAPTOP = "10.2.0.2"

_RULES = """
table inet firewalls {
    counter uninvited { }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        oifname relay accept
        counter name uninvited drop
    }
}
"""


class Machines(Network):
    """Four places."""

    def build(self) -> None:
        """See `Network`."""
        hosts = {"/etc/hosts": f"127.0.0.1 localhost\n{RELAY} {RELAY_NAME}\n"}
        self.office = self.place("office", hosts)
        self.laptop = self.place("laptop", hosts)
        self.relay = self.place("relay", hosts)
        self.internet = self.place("internet", {})
        self.keep()
        for place in self.places:
            place.run(["ip", "link", "set", "dev", "lo", "up"])
        self.internet.set("net/ipv4/ip_forward", 1)
        for place, device, address, gateway in (
            (self.office, "office", OFFICE, "10.1.0.1"),
            (self.laptop, "laptop", LAPTOP, "10.2.0.1"),
            (self.relay, "relay", RELAY, "192.0.2.1"),
        ):
            wire(self.internet, device, [gateway], place, [address])
            route(place, "default", gateway)
        self.internet.run(["nft", "-f", "-"], given=_RULES)
