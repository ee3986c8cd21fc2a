"""The systems that are compared: how each one is set up to do the same job.

The job: an application near the client end reaches a target near the server end through a middle,
encrypted. Neither end accepts connections from the other, except where ``legs`` says so.
"""

from __future__ import annotations

import abc
import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.loads import Address
from bench.parties import Layout, Parties, Place


class System(abc.ABC):
    """One way to do the job."""

    name: str
    """Short name for ``--only`` and the tables."""
    legs: str
    """What it does, for the explanation under the tables."""
    programs: tuple[str, ...] = ()
    """What must be installed."""

    def missing(self) -> list[str]:
        """The programs that are not on PATH."""
        return [program for program in self.programs if find(program) is None]

    @abc.abstractmethod
    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """Start it; returns where the client application connects, seen from its place.

        The target listens on port ``target`` of 127.0.0.1 at the server's place. The system is
        ready when the target answers through it. Raises PartyFailed.
        """


def find(program: str) -> str | None:
    """Path of a program: beside the running Python first, then on PATH, then in sbin."""
    beside = Path(sys.executable).with_name(program)
    if beside.exists():
        return str(beside)
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def path_of(program: str) -> str:
    """Like ``find`` for a program that has been found before."""
    return find(program) or program


class NoTunnel(System):
    """The applications connected directly: what the loads and the kernel can do."""

    name = "none"
    legs = "the applications connected directly"

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """Nothing to start."""
        return layout.server.address, target


class Ssh(System):
    """What the systems made of OpenSSH have in common."""

    programs = ("ssh", "sshd", "ssh-keygen")

    def bastion(self, parties: Parties, place: Place) -> list[str]:
        """Start an sshd; returns how to call a client of it that only forwards."""
        ssh, *options = start_sshd(parties, place)
        return [ssh, "-N", "-T", *options]


def start_sshd(
    parties: Parties, place: Place, *, name: str = "sshd", settings: str = ""
) -> list[str]:
    """Start an sshd with throw-away keys and further lines of configuration; returns how to call
    a client of it. Another one of the same parties needs another name."""
    directory = parties.directory / f"keys-of-{name}"
    directory.mkdir()
    for key in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)],
            check=True,
        )
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", 0o755, exist_ok=True)
    port = place.free_port()
    config = directory / "sshd_config"
    config.write_text(
        f"""\
ListenAddress {place.address}:{port}
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
MaxStartups 1000
MaxSessions 1000
{settings}
"""
    )
    parties.start(name, [path_of("sshd"), "-D", "-e", "-f", str(config)], place)
    parties.wait_for_answer(place, (place.address, port), tunnel=False)
    host_key = (directory / "host.pub").read_text()
    (directory / "known_hosts").write_text(f"[{place.address}]:{port} {host_key}")
    options = [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "ExitOnForwardFailure=yes",
        "StrictHostKeyChecking=yes",
        "Ciphers=aes128-gcm@openssh.com",
        f"UserKnownHostsFile={directory}/known_hosts",
    ]
    return [
        *(path_of("ssh"), "-F", "none", "-i", f"{directory}/user"),
        *(part for option in options for part in ("-o", option)),
        *("-p", str(port), "-l", getpass.getuser(), place.address),
    ]


class SshPair(Ssh):
    """Both ends dial a bastion; it decrypts and encrypts again."""

    name = "ssh-pair"
    legs = "ssh -R and ssh -L through a bastion sshd, AES-GCM (the bastion sees the plain text)"

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """The bastion, then the server side's ssh, then the client side's."""
        ssh = self.bastion(parties, layout.middle)
        between, entry = layout.middle.free_port(), layout.client.free_port()
        reverse = f"127.0.0.1:{between}:127.0.0.1:{target}"
        parties.start("ssh -R", [*ssh, "-R", reverse], layout.server)
        parties.wait_for_answer(layout.middle, ("127.0.0.1", between))
        forward = f"127.0.0.1:{entry}:127.0.0.1:{between}"
        parties.start("ssh -L", [*ssh, "-L", forward], layout.client)
        return "127.0.0.1", entry


class SshLeg(Ssh):
    """Half the job: one leg, the sshd beside the target."""

    name = "ssh-leg"
    legs = "ssh -L, one leg only: the sshd is beside the target and accepts connections"

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """The sshd at the server's place and one client."""
        ssh = self.bastion(parties, layout.server)
        entry = layout.client.free_port()
        forward = f"127.0.0.1:{entry}:127.0.0.1:{target}"
        parties.start("ssh -L", [*ssh, "-L", forward], layout.client)
        return "127.0.0.1", entry


class Stunnel(System):
    """Mutual TLS 1.3 end to end, one connection per connection; the middle relays TCP."""

    name = "stunnel"
    legs = "stunnel, haproxy (TCP, splice), stunnel; the server side accepts connections"
    programs = ("stunnel", "haproxy", "openssl")

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """The server side's stunnel, haproxy, the client side's stunnel."""
        directory = parties.directory
        certificate, key = directory / "tls.crt", directory / "tls.key"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=bench"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        inner, relay = layout.server.free_port(), layout.middle.free_port()
        entry = layout.client.free_port()

        def stunnel(side: str, place: Place, accept: str, connect: str, client: bool) -> None:
            config = directory / f"stunnel-{side}.conf"
            config.write_text(
                f"""\
foreground = yes
pid =
syslog = no
debug = 3
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[job]
client = {"yes" if client else "no"}
accept = {accept}
connect = {connect}
cert = {certificate}
key = {key}
CAfile = {certificate}
verifyPeer = yes
sslVersionMin = TLSv1.3
"""
            )
            parties.start(f"stunnel-{side}", [path_of("stunnel"), str(config)], place)

        server, middle = layout.server.address, layout.middle.address
        stunnel("server", layout.server, f"{server}:{inner}", f"127.0.0.1:{target}", False)
        config = directory / "haproxy.cfg"
        config.write_text(
            f"""\
global
    tune.pipesize 1048576
defaults
    mode tcp
    option splice-auto
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen job
    bind {middle}:{relay}
    server target {server}:{inner}
"""
        )
        parties.start("haproxy", [path_of("haproxy"), "-db", "-f", str(config)], layout.middle)
        parties.wait_for_answer(layout.middle, (middle, relay), tunnel=False)
        stunnel("client", layout.client, f"127.0.0.1:{entry}", f"{middle}:{relay}", True)
        return "127.0.0.1", entry


class Chisel(System):
    """A Go tunnel: SSH over a WebSocket, reverse and forward through one server."""

    name = "chisel"
    legs = "chisel, a reverse and a forward client at one server (it sees the plain text)"
    programs = ("chisel",)

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """The server, the reverse client, the forward client."""
        chisel = path_of("chisel")
        middle = layout.middle.address
        port, between = layout.middle.free_port(), layout.middle.free_port()
        entry = layout.client.free_port()
        serve = [chisel, "server", "--reverse", "--host", middle, "--port", str(port)]
        parties.start("chisel server", serve, layout.middle)
        parties.wait_for_answer(layout.middle, (middle, port), tunnel=False)
        client = [chisel, "client", f"{middle}:{port}"]
        reverse = f"R:127.0.0.1:{between}:127.0.0.1:{target}"
        parties.start("chisel reverse", [*client, reverse], layout.server)
        parties.wait_for_answer(layout.middle, ("127.0.0.1", between))
        forward = f"127.0.0.1:{entry}:127.0.0.1:{between}"
        parties.start("chisel forward", [*client, forward], layout.client)
        return "127.0.0.1", entry


class GsNetcat(System):
    """gs-netcat with a relay of its own."""

    name = "gs-netcat"
    legs = "gs-netcat at both ends and its relay, encrypted end to end"
    programs = ("gs-netcat", "gsrnd")

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """The relay, the listening end, the client end."""
        middle = layout.middle.address
        port, entry = layout.middle.free_port(), layout.client.free_port()
        parties.start("gsrnd", [path_of("gsrnd"), "-p", str(port)], layout.middle)
        parties.wait_for_answer(layout.middle, (middle, port), tunnel=False)
        environment = {
            name: value
            for prefix in ("GSOCKET", "GS")
            for name, value in ((f"{prefix}_HOST", middle), (f"{prefix}_PORT", str(port)))
        }
        gs_netcat = [path_of("gs-netcat"), "-q", "-s", os.urandom(12).hex()]
        inside = [*gs_netcat, "-l", "-d", "127.0.0.1", "-p", str(target)]
        parties.start("gs-netcat server", inside, layout.server, environment)
        outside = [*gs_netcat, "-p", str(entry)]
        parties.start("gs-netcat client", outside, layout.client, environment)
        return "127.0.0.1", entry


class Frp(System):
    """frp with a secret TCP proxy and a visitor, both encrypting."""

    name = "frp"
    legs = "frp, stcp proxy and visitor at one server, transport.useEncryption"
    programs = ("frps", "frpc")

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """The server, the proxy side, the visitor side."""
        directory, middle = parties.directory, layout.middle.address
        port, entry = layout.middle.free_port(), layout.client.free_port()
        secret = os.urandom(12).hex()
        at = f'serverAddr = "{middle}"\nserverPort = {port}\n'
        common = f'type = "stcp"\nsecretKey = "{secret}"\ntransport.useEncryption = true\n'
        files = {
            "frps": f'bindAddr = "{middle}"\nbindPort = {port}\n',
            "proxy": at + "[[proxies]]\n" + common + 'name = "job"\nlocalIP = "127.0.0.1"\n'
            f"localPort = {target}\n",
            "visitor": at + "[[visitors]]\n" + common + 'name = "visitor"\nserverName = "job"\n'
            f'bindAddr = "127.0.0.1"\nbindPort = {entry}\n',
        }
        for name, text in files.items():
            (directory / f"{name}.toml").write_text(text)
        parties.start("frps", [path_of("frps"), "-c", f"{directory}/frps.toml"], layout.middle)
        parties.wait_for_answer(layout.middle, (middle, port), tunnel=False)
        frpc = [path_of("frpc"), "-c"]
        parties.start("frpc proxy", [*frpc, f"{directory}/proxy.toml"], layout.server)
        parties.start("frpc visitor", [*frpc, f"{directory}/visitor.toml"], layout.client)
        return "127.0.0.1", entry


def issue_identities(parties: Parties) -> None:
    """Make ``keys/client.pem`` and ``keys/server.pem`` in the parties' directory."""
    keys = str(parties.directory / "keys")
    for arguments in (["init"], ["issue", "client"], ["issue", "server"]):
        subprocess.run(
            [path_of("tunnelkit"), "keys", *arguments, "--dir", keys],
            check=True,
            capture_output=True,
        )


def start_role(
    parties: Parties,
    place: Place,
    role: str,
    options: list[str],
    environment: Mapping[str, str] = {},
) -> None:
    """Start a tunnelkit role under twistd."""
    command = [path_of("twistd"), "-n", "--pidfile=", role, *options]
    parties.start(role, command, place, environment)


def start_lstp_middle(parties: Parties, place: Place) -> Address:
    """Start an LSTP middle and wait until it listens."""
    address = place.address, place.free_port()
    start_role(parties, place, "lstp-middle", ["--listen", f"{address[0]}:{address[1]}"])
    parties.wait_for_answer(place, address, tunnel=False)
    return address


class Lstp(System):
    """tunnelkit's LSTP: encrypted end to end, the middle passes bytes through."""

    name = "lstp"
    legs = "tunnelkit over LSTP: client end, middle, server end; TLS 1.3 end to end"
    programs = ("tunnelkit", "twistd")
    options: tuple[str, ...] = ()
    """For both ends."""

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """Keys, the middle, the server end, the client end."""
        issue_identities(parties)
        host, port = start_lstp_middle(parties, layout.middle)
        common = ["--middle", f"{host}:{port}", "--tunnel", "bench", *self.options]
        inside = f"tcp:127.0.0.1:{target}"
        entry = layout.client.free_port()
        server = ["--identity", f"{parties.directory}/keys/server.pem", "--peer", "client"]
        server += ["--allow", inside]
        start_role(parties, layout.server, "lstp-server-end", [*common, *server])
        client = ["--identity", f"{parties.directory}/keys/client.pem", "--peer", "server"]
        client += ["--forward", f"127.0.0.1:{entry}={inside}"]
        start_role(parties, layout.client, "lstp-client-end", [*common, *client])
        return "127.0.0.1", entry


class CompressedLstp(Lstp):
    """The same, with what the channels carry compressed."""

    name = "lstp-compress"
    legs = f"{Lstp.legs}; --compress at both ends"
    options = ("--compress",)


class Usher(System):
    """tunnelkit's Usher: a gate that listens, a portal that dials it; no middle."""

    name = "usher"
    legs = "tunnelkit over Usher: portal and gate, TLS 1.3, one leg (no middle)"
    programs = ("tunnelkit", "twistd")

    def start(self, parties: Parties, layout: Layout, target: int) -> Address:
        """Keys, the gate at the client's place, the portal at the server's."""
        issue_identities(parties)
        gate = layout.client.address, layout.client.free_port()
        inside = f"tcp:127.0.0.1:{target}"
        entry = layout.client.free_port()
        client = ["--listen", f"{gate[0]}:{gate[1]}", "--peer", "server"]
        client += ["--identity", f"{parties.directory}/keys/client.pem"]
        client += ["--forward", f"127.0.0.1:{entry}={inside}"]
        start_role(parties, layout.client, "usher-gate", client)
        parties.wait_for_answer(layout.client, gate, tunnel=False)
        server = ["--gate", f"{gate[0]}:{gate[1]}", "--peer", "client", "--allow", inside]
        server += ["--identity", f"{parties.directory}/keys/server.pem"]
        start_role(parties, layout.server, "usher-portal", server)
        return "127.0.0.1", entry


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        *(NoTunnel(), SshPair(), SshLeg(), Stunnel(), Chisel(), GsNetcat(), Frp()),
        *(Lstp(), Usher()),
    )
}


def choose(only: str, default: tuple[str, ...] = tuple(SYSTEMS)) -> list[System]:
    """The systems named in ``only`` (comma-separated; empty: ``default``).

    Raises SystemExit for an unknown name.
    """
    names = only.split(",") if only else default
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        raise SystemExit(f"no system {unknown[0]!r}; known: {', '.join(SYSTEMS)}")
    return [SYSTEMS[name] for name in names]
