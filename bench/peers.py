"""Other ways to do the job: how each one is set up."""

from __future__ import annotations

import getpass
import os
import subprocess

from bench.loads import Address
from bench.parties import Layout, Parties, Place
from bench.system import System, path_of


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
