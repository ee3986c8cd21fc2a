"""A protocol in one file of somebody else's on the one port: `examples/port_protocol.py` (S14)."""

from __future__ import annotations

import shutil
import socket
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.acceptance.communication import SERVER, Communication, start_server
from tests.acceptance.processes import Identities, Processes
from tests.peers.secureproxy_peer import Client, authority_of

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "port_protocol.py"


def ask(server: Communication, *alpn: str, name: str = SERVER) -> tuple[str | None, bytes]:
    """What TLS agrees on, and what is answered to half a request."""
    authority = authority_of(server.identities(SERVER))
    context = ssl.create_default_context(cadata=authority)
    context.check_hostname = False
    context.set_alpn_protocols(alpn)
    with (
        socket.create_connection(("127.0.0.1", server.port), 20) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        tls.sendall(f"GET /healthz HTTP/1.1\r\nHost: {SERVER}\r\n\r\n".encode())
        return tls.selected_alpn_protocol(), tls.recv(1000)


def test_a_further_protocol_is_found_by_its_name_and_the_others_go_on(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    plug_ins = tmp_path / "mine" / "twisted" / "plugins"
    plug_ins.mkdir(parents=True)
    shutil.copy(EXAMPLE, plug_ins / "clock.py")
    server = start_server(processes, identities, env={"PYTHONPATH": str(tmp_path / "mine")})
    for offered in (("clock/1",), ("h2", "clock/1", "http/1.1")):
        agreed, said = ask(server, *offered)
        assert agreed == "clock/1"
        told = datetime.fromisoformat(said.decode().strip())
        assert abs(datetime.now(timezone.utc) - told) < timedelta(minutes=5)
    agreed, said = ask(server, "http/1.1", "clock/1")
    assert (agreed, said[:12]) == ("http/1.1", b"HTTP/1.1 200")
    for offered, name in ((("clock/2",), SERVER), (("clock/1",), "app.example")):
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            ask(server, *offered, name=name)
    # A client of the server goes on as before.
    Client(server.port, SERVER, identities("server")).present("tunnel")
