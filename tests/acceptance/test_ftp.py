"""tnftp by way of dante's socksify to vsftpd at the far side, active and passive (finding U-3).

In active mode the client asks the SOCKS server for a port (BIND) and names it to the FTP server,
which accepts none but an address that it sees the client come from. socksify goes directly to
addresses of this machine, and so is told a name.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from tests.acceptance.processes import Processes, free_port
from tests.acceptance.tunnels import Transport

SIZE = 300_000
SERVER = """
listen=YES
background=NO
listen_address=127.0.0.1
listen_port={port}
anon_root={root}
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
run_as_launching_user=YES
seccomp_sandbox=NO
connect_from_port_20=NO
"""
CLIENT = """
errorlog: stderr
resolveprotocol: fake
route {{
    from: 0.0.0.0/0 to: 0.0.0.0/0 via: 127.0.0.1 port = {port}
    command: bind connect
    protocol: tcp
    proxyprotocol: socks_v5
    method: none
}}
"""


def start_ftp_server(processes: Processes, content: bytes) -> int:
    """Serves ``file`` to anybody; its port."""
    root = processes.directory / "files"
    root.mkdir()
    (root / "file").write_bytes(content)
    root.chmod(0o555)
    port = free_port()
    settings = processes.directory / "vsftpd.conf"
    settings.write_text(SERVER.format(port=port, root=root))
    processes.start("vsftpd", "/usr/sbin/vsftpd", settings)
    return port


def test_tnftp_fetches_in_active_and_in_passive_mode(
    processes: Processes, transport: Transport
) -> None:
    content = random.randbytes(SIZE)
    port = start_ftp_server(processes, content)
    # Where the data goes in passive mode is agreed on only then.
    allow = ["tcp:localhost:1024-65535@127.0.0.0/8", "listen:127.0.0.1:0"]
    tunnel = transport(allow, "--socks", "0")
    settings = processes.directory / "socks.conf"
    settings.write_text(CLIENT.format(port=tunnel.socks.rpartition(":")[2]))
    url = f"ftp://localhost:{port}/file"
    for mode, data in (("-A", "listen:"), ("-p", rf"tcp:localhost:(?!{port} )")):
        since = len(tunnel.server.process.lines)
        done = fetch(settings, mode, url, processes.directory)
        assert done.returncode == 0, done.stdout
        fetched = processes.directory / "fetched"
        assert fetched.read_bytes() == content
        fetched.unlink()
        # The commands in one channel, the data in another one.
        for destination in (f"tcp:localhost:{port} ", data):
            tunnel.server.wait_for(rf"destination={destination}.*outcome=done", since=since)


def fetch(settings: Path, mode: str, url: str, there: Path) -> subprocess.CompletedProcess[str]:
    """What tnftp does."""
    return subprocess.run(
        ["socksify", "tnftp", mode, "-a", "-d", "-o", "fetched", url],
        cwd=there,
        env={**os.environ, "SOCKS_CONF": str(settings), "HOME": str(there)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
