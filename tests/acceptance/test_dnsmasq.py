"""dnsmasq asks through the tunnel a resolver that loses datagrams (finding U-2)."""

from __future__ import annotations

import subprocess

from tests.acceptance.processes import Identities, Processes, free_port
from tests.acceptance.tunnels import start_usher_tunnel
from tests.acceptance.udp_servers import UdpServer, name_server


class Forgetful:
    """A resolver that loses the first question for each name."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        """The names, in order."""

    def __call__(self, query: bytes) -> bytes | None:
        name = query[12 : query.index(b"\0", 12)]
        self.asked.append(name)
        return name_server(query) if self.asked.count(name) > 1 else None


def test_a_lost_question_is_asked_again_for_dnsmasq(
    processes: Processes, identities: Identities
) -> None:
    forgetful = Forgetful()
    resolver = UdpServer(forgetful)
    processes.on_end(resolver.close)
    far = ("--dns-server", f"127.0.0.1:{resolver.port}")
    tunnel = start_usher_tunnel(
        processes, identities, ["service:@dns"], "--dns", "0", server=far
    )  # fmt: skip
    upstream = tunnel.client.address("dns").replace(":", "#")
    port = free_port()
    processes.start(
        "dnsmasq", "/usr/sbin/dnsmasq", "--keep-in-foreground", "--log-facility=-",
        "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", "--user=root",
        "--bind-interfaces", "--listen-address=127.0.0.1", f"--port={port}", f"--server={upstream}",
        ready="started",
    )  # fmt: skip
    # Both at once; dig does not ask again.
    names = [f"{name}.corp.example" for name in ("www", "mail")]
    digs = [
        subprocess.Popen(
            ["dig", "+short", "+tries=1", "+time=9", "@127.0.0.1", "-p", str(port), name],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for name, dig in zip(names, digs, strict=True):
        said, _ = dig.communicate(timeout=30)
        assert (dig.returncode, said) == (0, "192.0.2.77\n"), name
    assert all(forgetful.asked.count(name) > 1 for name in forgetful.asked)
