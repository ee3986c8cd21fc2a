"""What company A has and company B wants: web pages, ssh, a git repository, names."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import attrs

from bench import traffic
from tests.system.laboratory import RESOLVER, WIKI, WIKI_NAME
from tests.system.places import PlacedProcesses

MIB = 1 << 20
HTTP = f"tcp:{WIKI}:80"
SSH = f"tcp:{WIKI}:22"
DNS = f"tcp:{RESOLVER}:53"
TRAFFIC = f"tcp:{WIKI}:9000"
"""Bulk and echo, see bench/traffic.py."""
# All servers of company A are addresses of the machine that the end runs on (X33).
HTTP_BY_NAME = f"tcp:{WIKI_NAME}:80@{WIKI}"
SSH_BY_NAME = f"tcp:{WIKI_NAME}:22@{WIKI}"
NAMES = "service:@dns"
EVERYTHING = (HTTP, SSH, DNS, TRAFFIC, HTTP_BY_NAME, SSH_BY_NAME, NAMES)
"""Rules for an end that lets the other company reach all of it."""

COLOURS = ("#c81e1e", "#1e8c3c", "#1e46c8")
"""Of the three bars across the page, top to bottom; each a third of the window."""
HEADING = "Minutes of company A"
PAGE = f"""<!DOCTYPE html>
<html><head><title>{HEADING}</title><link rel="stylesheet" href="style.css"></head>
<body><div id="a"><h1>{HEADING}</h1></div><div id="b"></div><div id="c"></div>
<script src="script.js"></script></body></html>
"""
STYLE = (
    "body { margin: 0; font-family: sans-serif } div { height: 33.4vh; overflow: hidden }"
    " h1 { color: white; text-align: center }"
    + "".join(f" #{name} {{ background: {c} }}" for name, c in zip("abc", COLOURS, strict=True))
)
SCRIPT = 'document.getElementById("b").innerHTML = "<h1>written by a script</h1>";'


@attrs.frozen
class Services:
    """The services of company A, all running."""

    processes: PlacedProcesses
    pages: Path
    """What the web server serves; `add` makes more."""
    user_key: Path
    """With it, ssh lets root in."""
    repository: Path
    """A bare git repository; the web server has it as /project.git too."""
    commit: str
    """Its newest."""

    def add(self, name: str, size: int) -> str:
        """Make a file of ``size`` bytes that look random on the web server; its SHA-256."""
        data = hashlib.shake_128(name.encode()).digest(size)
        (self.pages / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()


def start_services(processes: PlacedProcesses) -> Services:
    """Start them all, on the addresses above."""
    pages = processes.directory / "pages"
    pages.mkdir()
    for name, content in (("page.html", PAGE), ("style.css", STYLE), ("script.js", SCRIPT)):
        (pages / name).write_text(content)
    serve = ("-m", "http.server", "80", "--bind", WIKI, "--directory", pages)
    processes.start("web", sys.executable, *serve, ready="Serving HTTP")
    processes.start(
        "resolver",
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file="),
        *("--no-resolv", "--no-hosts", "--bind-interfaces", f"--listen-address={RESOLVER}"),
        *(f"--address=/{WIKI_NAME}/{WIKI}", "--log-facility=-"),
        ready="started, version",
    )
    counter = processes.directory / "received"
    address = ("serve", WIKI, 9000, "--counter", counter)
    processes.start("traffic", sys.executable, traffic.__file__, *address, ready="serving")
    repository, commit = _make_repository(processes, pages)
    return Services(processes, pages, _start_sshd(processes), repository, commit)


def _start_sshd(processes: PlacedProcesses) -> Path:
    host_key, user_key = (processes.directory / name for name in ("host_key", "user_key"))
    for key in (host_key, user_key):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(make, check=True, timeout=20)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # a fresh installation has not made it
    config = processes.directory / "sshd_config"
    config.write_text(
        f"Port 22\nListenAddress {WIKI}\nHostKey {host_key}\n"
        f"AuthorizedKeysFile {user_key}.pub\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    processes.start("sshd", "/usr/sbin/sshd", "-D", "-e", "-f", config, ready="Server listening")
    return user_key


def _make_repository(processes: PlacedProcesses, pages: Path) -> tuple[Path, str]:
    """A repository of a few commits, with a file that does not compress."""
    work = processes.directory / "work"
    bare = pages / "project.git"

    def git(*words: object) -> str:
        identity = ("-c", "user.name=clerk", "-c", "user.email=clerk@company-a.example")
        return processes.place.run(["git", *identity, *words]).stdout.strip()

    git("init", "--quiet", work)
    for number in range(5):
        (work / f"file-{number}").write_bytes(hashlib.shake_128(b"%d" % number).digest(MIB))
        git("-C", work, "add", ".")
        git("-C", work, "commit", "--quiet", "-m", f"Add file {number}")
    git("clone", "--quiet", "--bare", work, bare)
    git("-C", bare, "update-server-info")  # for a web server that knows nothing of git
    return bare, git("-C", work, "rev-parse", "HEAD")
