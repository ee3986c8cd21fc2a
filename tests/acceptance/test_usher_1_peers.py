"""A peer that speaks only `usher/1`: each front end that cannot work with it says so at once."""

from __future__ import annotations

from tests.acceptance.processes import Identities, Processes
from tests.acceptance.tunnels import start_gate
from tests.frontends.test_x11 import free_display
from tests.peers.misbehaving_portal import MisbehavingPortal


def test_front_ends_that_cannot_work_are_named_when_the_tunnel_comes_up(
    processes: Processes, identities: Identities
) -> None:
    gate = start_gate(
        processes, identities, [],
        "--dns", "0", "--x11", free_display(), "--forward", "0=unix:/run/there",
        "--forward", "0=service:wiki", "--forward", "0=udp:ns.example:53",
        "--forward", "0=tcp:web.example:80", "--socks", "0",
    )  # fmt: skip
    place = ("127.0.0.1", gate.port("listening on"))
    portal = MisbehavingPortal(place, identities("client"), "usher/1")
    try:
        for what, lacking in (
            ("--dns to service:@dns", "sessions to service: destinations"),
            ("--x11 to service:@x11", "sessions to service: destinations"),
            ("--forward to unix:/run/there", "sessions to unix: destinations"),
            ("--forward to service:wiki", "sessions to service: destinations"),
            ("--forward to udp:ns.example:53", "datagrams but between IPv4 addresses"),
        ):
            gate.wait_for(
                rf"warn +\[usher-gate\] {what} cannot work with client: usher/1 has no {lacking}; "
                "the far side would have to offer usher/1.1"
            )
    finally:
        portal.cut()
    assert sum("cannot work" in line for line in gate.process.lines) == 5
