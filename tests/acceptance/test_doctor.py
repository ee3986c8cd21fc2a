"""Each mistake gets an answer of its own that says what it means and what to do (row O9, R13)."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs
import pytest

from tests.acceptance.processes import TUNNELKIT, Identities, Processes, free_port
from tests.acceptance.tunnels import meeting, start_gate, start_server_end
from tunnelkit.policy.identity import identity_pem
from tunnelkit.policy.keys import Authority

Words = list[object]


@attrs.frozen
class World:
    """A middle with a server end at it, a middle that wants a token, a gate, and other servers."""

    directory: Path
    identities: Identities
    middle: str
    with_token: str
    gate: str
    strict_gate: str
    ssh: str
    web: str
    allowed: str
    closed: str

    def file(self, name: str, text: str | bytes, mode: int = 0o600) -> Path:
        path = self.directory / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    def client(self, *words: object, **changed: object) -> Words:
        """A client end that works, but for what is said."""
        options: dict[str, object] = {
            "middle": self.middle,
            "tunnel": "test",
            "identity": self.identities("client"),
            "peer": "server",
            "forward": f"0=tcp:{self.allowed}",
            **changed,
        }
        given = {name: value for name, value in options.items() if value}
        pairs = [word for name, value in given.items() for word in (f"--{name}", value)]
        return ["--patience", 4, "client", *pairs, *words]

    def portal(self, gate: str, name: str = "client", **changed: object) -> Words:
        identity = changed.get("identity", self.identities(name))
        peer = changed.get("peer", "server")
        return ["portal", "--gate", gate, "--identity", identity, "--peer", peer, "--socks", 0]


def answering(greeting: bytes) -> tuple[str, Callable[[], None]]:
    """A server that says ``greeting`` to everybody who says something, or comes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            with sock:
                sock.sendall(greeting)
                sock.settimeout(5)
                try:
                    while sock.recv(65536):
                        pass
                except OSError:
                    pass

    threading.Thread(target=serve, daemon=True).start()

    def close() -> None:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()

    return f"127.0.0.1:{listening.getsockname()[1]}", close


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("doctor")
    identities = Identities.create(directory / "keys")
    processes = Processes(directory)
    try:
        token = directory / "token"
        token.write_text("secret\n")
        token.chmod(0o600)
        middle = processes.role("lstp-middle", "--listen", "127.0.0.1:0")
        strict = processes.role(
            "lstp-middle", "--listen", "127.0.0.1:0", "--admission-token-file", token
        )
        ssh, close = answering(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
        processes.on_end(close)
        web, close = answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        processes.on_end(close)
        closed = f"127.0.0.1:{free_port()}"
        server = start_server_end(processes, identities, middle, [f"tcp:{web}", f"tcp:{closed}"])
        del server
        identities("revoked")
        identities.revoke("revoked")
        gate = start_gate(processes, identities, [f"tcp:{web}"])
        strict_gate = start_gate(
            processes, identities, [f"tcp:{web}"], "--crl", identities.revoked,
            peers=("client", "revoked"),
        )  # fmt: skip
        listening = "listening on"
        yield World(
            directory,
            identities,
            middle.address(listening),
            strict.address(listening),
            gate.address(listening),
            strict_gate.address(listening),
            ssh,
            web,
            web,
            closed,
        )
        assert meeting(middle)
    finally:
        processes.end()
        print(processes.logs())


def of_another_ca(world: World) -> Path:
    return world.file("stranger.pem", identity_pem(Authority.create().issue("client")))


def expired(world: World) -> Path:
    past = datetime.now(timezone.utc) - timedelta(days=30)
    return world.file(
        "expired.pem", identity_pem(Authority.create().issue("client", days=1, now=past))
    )


MISTAKES: dict[str, tuple[Callable[[World], Words], str, str]] = {
    # What is said, what comes back or what it means, what to do.
    "an option that there is not": (
        lambda w: w.client("--frobnicate", 1), "--frobnicate is not an option", "settings",
    ),
    "no middle": (lambda w: w.client(middle=""), "--middle is missing", "add what is expected"),
    "no peer": (lambda w: w.client(peer=""), "--peer is missing", "add what is expected"),
    "the end's own name as the other one's": (
        lambda w: w.client(peer="client"), "both ends use the same identity", "one for each",
    ),
    "a key file that is not there": (
        lambda w: w.client(identity=w.directory / "none.pem"), "not where it is said to be",
        "correct the path",
    ),
    "a key file that others can read": (
        lambda w: w.client(identity=w.file("o.pem", w.identities("client").read_bytes(), 0o644)),
        "others could use the key", "chmod 600",
    ),
    "a key file that is cut off": (
        lambda w: w.client(identity=w.file("half.pem", w.identities("client").read_bytes()[:400])),
        "half.pem", "settings",
    ),
    "an identity that has expired": (
        lambda w: w.client(identity=expired(w)), "has had its time", "keys renew",
    ),
    "a revocation list that is none": (
        lambda w: w.client("--crl", w.file("else.crl", "hello\n")), "else.crl", "settings",
    ),
    "a key of the file that there is not": (
        lambda w: w.client("--config", w.file("a.toml", 'sock = "1"\n')), "key sock: not known",
        "settings",
    ),
    "a file that is not TOML": (
        lambda w: w.client("--config", w.file("b.toml", "socks = \n")), "b.toml:1", "settings",
    ),
    "a rule that is none": (
        lambda w: w.client("--allow", "everything"), "--allow", "give what is expected",
    ),
    "a port that is none": (
        lambda w: w.client("--socks", "x"), "--socks", "give what is expected",
    ),
    "nothing to do": (
        lambda w: w.client(forward=""), "would be of no use", "give what is expected",
    ),
    "a name that there is not": (
        lambda w: w.client(middle="nobody.invalid:7000"), "resolver does not know the name",
        "look for a slip in the name",
    ),
    "nobody at that port": (
        lambda w: w.client(middle=w.closed), "nobody listens at that port",
        "start the other party, or correct the port",
    ),
    "an SSH server": (
        lambda w: w.client(middle=w.ssh), "an SSH server listens there", "correct host and port",
    ),
    "a web server": (
        lambda w: w.client(middle=w.web), "a web server listens there", "correct host and port",
    ),
    "a gate in place of a middle": (
        lambda w: w.client(middle=w.gate), "WRONG    setup", "",
    ),
    "a middle in place of a gate": (
        lambda w: w.portal(w.middle), "what listens there speaks something else",
        "a gate is dialled with --gate, a middle with --middle",
    ),
    "no token for the middle": (
        lambda w: w.client(middle=w.with_token), "admits only who has its token",
        "give --admission-token-file",
    ),
    "a proxy that is none": (
        lambda w: w.client("--via", f"http://{w.ssh}"), "WRONG    tcp", "",
    ),
    "another name of the tunnel": (
        lambda w: w.client(tunnel="tost"), "no other end waits there under the same name",
        "compare at both: --middle, --tunnel",
    ),
    "keys of another CA": (
        lambda w: w.portal(w.gate, identity=of_another_ca(w)), "another CA",
        "issue both identities from one `keys init`",
    ),
    "another name of the other end": (
        lambda w: w.client(peer="sorver"), "belongs to somebody else",
        "give the name that the certificate has",
    ),
    "a name that the other end does not know": (
        lambda w: w.portal(w.gate, "other"), "does not take this end in", "look at --peer",
    ),
    "a revoked certificate": (
        lambda w: w.portal(w.strict_gate, "revoked"), "has been revoked", "keys issue",
    ),
    "a destination that no rule allows": (
        lambda w: w.client(forward=f"0=tcp:{w.ssh}"), "no rule of the other end allows it",
        "give --allow at the other end",
    ),
    "a destination where nobody listens": (
        lambda w: w.client(forward=f"0=tcp:{w.closed}"), "nobody listens there",
        "start the server, or correct the port",
    ),
}  # fmt: skip


def doctor(*words: object) -> tuple[int, str]:
    done = subprocess.run(
        [*TUNNELKIT, "doctor", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_so_is_what_to_do(world: World, mistake: str) -> None:
    make, means, do = MISTAKES[mistake]
    status, said = doctor(*make(world))
    assert status == 1, said
    assert means in said, said
    assert do in said, said
    assert "Traceback" not in said
    assert said.endswith("1 wrong\n")


def test_what_works_is_gone_through_to_a_channel(world: World) -> None:
    status, said = doctor(*world.client())
    assert status == 0, said
    steps = [line[9:25].strip() for line in said.splitlines() if line.startswith("ok")]
    assert steps == [
        *("settings", "libraries", "descriptors", "identity", "revocation list", "rules", "tcp"),
        *("setup", "tls", "its certificate", "channel"),
    ]
    assert "with server, both proved" in said
    # The role is found by what the file says, where only one can be meant.
    file = world.file(
        "portal.toml",
        f'gate = "{world.gate}"\nidentity = "{world.identities("client")}"\n'
        'peer = "server"\nsocks = "0"\n',
    )
    status, said = doctor("--config", file)
    assert status == 0, said
    assert "the other end judges channels" in said


def test_wrong_usage_is_one_line_and_status_2(world: World) -> None:
    for words in ((), ("clent", "--socks", 1), ("--config", "none.toml"), ("--site", "a")):
        status, said = doctor(*words)
        assert status == 2, said
        assert said.count("\n") == 1, said
