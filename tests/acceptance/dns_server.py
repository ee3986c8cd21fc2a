"""A DNS server for one test, of twisted.names: the zone ``test`` and records of all sorts.

``python -m tests.acceptance.dns_server`` listens on a free port of 127.0.0.1,
UDP and TCP, prints it, and prints the name of every question.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, error, reactor
from twisted.names import common, dns, server

SOA = dns.Record_SOA(b"ns.test", b"root.test", 1, 2, 3, 4, minimum=60, ttl=60)
RECORDS: dict[tuple[bytes, int], list[Any]] = {
    (b"www.test", dns.A): [dns.Record_A("192.0.2.80", ttl=300)],
    (b"www.test", dns.AAAA): [dns.Record_AAAA("2001:db8::80", ttl=300)],
    (b"long.test", dns.TXT): [dns.Record_TXT(bytes([65 + n]) * 200, ttl=300) for n in range(30)],
    (b"odd.test", 65281): [dns.UnknownRecord(b"\xc0\xff\x00odd", ttl=300)],
}


class Zone(common.ResolverBase):
    """Answers from `RECORDS`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's own

    def _lookup(self, name: bytes, cls: int, type: int, timeout: Any) -> Any:  # noqa: A002  # its name there
        print(f"ASKED {name.decode()} {type}", flush=True)
        found = RECORDS.get((name.lower(), type), [])
        answers = [dns.RRHeader(name, type, dns.IN, 300, one, auth=True) for one in found]
        soa = [] if found else [dns.RRHeader(b"test", dns.SOA, dns.IN, 60, SOA, auth=True)]
        known = any(owner == name.lower() for owner, _ in RECORDS)
        if not known:
            return defer.fail(dns.AuthoritativeDomainError(name))
        return defer.succeed((answers, soa, []))


def main() -> None:
    """Serve until killed."""
    names: Any = reactor
    while True:
        factory = server.DNSServerFactory(clients=[Zone()])
        udp = names.listenUDP(0, dns.DNSDatagramProtocol(factory), interface="127.0.0.1")
        port = udp.getHost().port
        try:
            names.listenTCP(port, factory, interface="127.0.0.1")
            break
        except error.CannotListenError:
            udp.stopListening()
    print(f"LISTENING {port}", flush=True)
    names.run()


if __name__ == "__main__":
    main()
