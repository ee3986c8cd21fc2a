"""What a firewall lets through, and its proxy: dante or squid, both with a password."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.system import reaper
from tests.system.places import PlacedProcesses

INSIDE_A = "10.1.0.1"
SOCKS_PORT = 1080
INSIDE_B = "10.2.0.1"
CONNECT_PORT = 3128
USER = "clerk"
PASSWORD = "open: sesame"
"""The same at both."""
PROXY_USER = "proxy"
"""System user and group that the proxies run as; Debian always has it."""

VIA_A = f"socks5://{USER}@{INSIDE_A}:{SOCKS_PORT}"
VIA_B = f"http://{USER}@{INSIDE_B}:{CONNECT_PORT}"
CONNECT_A = f"http://{USER}@{INSIDE_A}:{CONNECT_PORT}"
"""The other way out of company A, for those who have to get by with CONNECT on both sides (S2)."""


def rules(*proxy_ports: int) -> str:
    """The nftables rules of a firewall.

    From inside only its proxies can be reached, from outside nothing; nothing is forwarded, in
    either direction; and of the firewall's own programs only the proxies get out.
    Each kind of drop has its counter.
    """
    ports = ", ".join(map(str, proxy_ports))
    return f"""
table inet firewall {{
    counter from_internet {{ }}
    counter from_company {{ }}
    counter into_company {{ }}
    counter out_of_company {{ }}
    counter out_of_firewall {{ }}
    chain input {{
        type filter hook input priority 0; policy drop;
        iifname lo accept
        ct state established,related accept
        iifname inside tcp dport {{ {ports} }} accept
        iifname inside counter name from_company drop
        counter name from_internet drop
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname inside counter name out_of_company drop
        counter name into_company drop
    }}
    chain output {{
        type filter hook output priority 0; policy drop;
        oifname lo accept
        ct state established,related accept
        meta l4proto tcp meta skuid {PROXY_USER} accept
        meta l4proto tcp meta skgid {PROXY_USER} accept
        counter name out_of_firewall drop
    }}
}}
"""


def _hash(kind: str) -> str:
    """The password as /etc/shadow (-6) or squid's helper (-apr1) has it."""
    command = ["openssl", "passwd", kind, "-stdin"]
    done = subprocess.run(command, input=PASSWORD, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def accounts() -> dict[str, str]:
    """/etc/passwd and /etc/shadow with the user whom dante, which knows no other, is to know."""
    passwd, shadow = (Path(path).read_text() for path in ("/etc/passwd", "/etc/shadow"))
    return {
        "/etc/passwd": f"{passwd}{USER}:x:65533:65533::/nonexistent:/usr/sbin/nologin\n",
        "/etc/shadow": f"{shadow}{USER}:{_hash('-6')}:19000:0:99999:7:::\n",
    }


def start_dante(processes: PlacedProcesses) -> None:
    """SOCKS 5 on firewall A."""
    config = processes.directory / "danted.conf"
    config.write_text(f"""
logoutput: stderr
external.protocol: ipv4
internal: inside port = {SOCKS_PORT}
external: outside
user.privileged: root
user.unprivileged: {PROXY_USER}
clientmethod: none
socksmethod: username
client pass {{ from: 10.1.0.0/24 to: 0.0.0.0/0 }}
socks pass {{ from: 10.1.0.0/24 to: 0.0.0.0/0 command: connect }}
""")
    processes.start(
        "dante",
        *(sys.executable, reaper.__file__),  # it ends before its children do
        *(_program("danted"), "-f", config, "-p", processes.directory / "danted.pid"),
        ready=r"Dante/server.* running",
    )


def start_squid(processes: PlacedProcesses, inside: str) -> None:
    """CONNECT, to port 443 only, on the firewall whose address inside this is."""
    users = processes.directory / "users"
    users.write_text(f"{USER}:{_hash('-apr1')}\n")
    users.chmod(0o644)
    config = processes.directory / "squid.conf"
    config.write_text(f"""
http_port {inside}:{CONNECT_PORT}
pid_filename {processes.directory}/squid.pid
access_log none
cache_log /dev/null
cache deny all
pinger_enable off
max_filedescriptors 4096
shutdown_lifetime 0 seconds
visible_hostname {processes.place.name}
auth_param basic program {_program("basic_ncsa_auth")} {users}
auth_param basic children 1
acl known proxy_auth REQUIRED
acl tls_port port 443
http_access deny !CONNECT
http_access deny !tls_port
http_access deny !known
http_access allow known
""")
    processes.start(
        "squid",
        *(_program("squid"), "-N", "-d", "1", "-f", config),
        ready="Accepting HTTP Socket connections",
    )


def _program(name: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/lib/squid")
    assert path, f"{name} is missing: make system-test installs it"
    return path
