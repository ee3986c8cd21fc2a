"""The DTLS server of the library against the clients of OpenSSL and GnuTLS (rows W1, W8)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.acceptance.processes import Identities, Processes, free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "dtls_echo.py"


def start_echo(processes: Processes, identities: Identities) -> int:
    """The port of a running server."""
    server = processes.start("echo", sys.executable, EXAMPLE, identities("server"), 0)
    return int(server.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])


class Talk:
    """A program that sends what it reads; it is spoken to until it has answered."""

    def __init__(self, *command: object) -> None:
        self.child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""

    def until(self, word: str) -> str:
        assert self.child.stdout is not None
        while word not in self.said:
            character = self.child.stdout.read(1)
            assert character, f"{word!r} expected:\n{self.said}"
            self.said += character
        return self.said

    def say(self, line: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()

    def end(self) -> str:
        rest, _ = self.child.communicate(timeout=20)
        return self.said + rest


def s_client(port: int, ca: Path, *more: object) -> Talk:
    return Talk(
        "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", ca,
        "-verify_return_error", *more,
    )  # fmt: skip


def spoken_to(talk: Talk) -> str:
    """What it printed until the server has sent a line back, and after it was told to end."""
    talk.until("Verify return code: 0")
    talk.say("a line that comes back")
    talk.until("\na line that comes back\n")
    return talk.end()


def test_openssl_shakes_hands_resumes_and_comes_back_to_the_same_port(
    processes: Processes, identities: Identities, tmp_path: Path
) -> None:
    port, ca = start_echo(processes, identities), identities.directory / "ca.pem"
    own, session = f"127.0.0.1:{free_port()}", tmp_path / "session.pem"
    said = spoken_to(s_client(port, ca, "-dtls1_2", "-bind", own, "-sess_out", session))
    assert "New, TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in said
    said = spoken_to(s_client(port, ca, "-dtls1_2", "-bind", own, "-sess_in", session))
    assert "Reused, TLSv1.2" in said
    # One that is killed says no goodbye: the next begins at an address that is still live.
    killed = s_client(port, ca, "-dtls1_2", "-bind", own)
    killed.until("Verify return code: 0")
    killed.child.kill()
    killed.end()
    assert "New, TLSv1.2" in spoken_to(s_client(port, ca, "-dtls1_2", "-bind", own))


def test_a_device_that_shows_a_certificate_is_taken(
    processes: Processes, identities: Identities
) -> None:
    port, ca = start_echo(processes, identities), identities.directory / "ca.pem"
    meter = identities("meter")
    assert "New, TLSv1.2" in spoken_to(s_client(port, ca, "-dtls1_2", "-cert", meter))


def test_older_versions_are_not_served(processes: Processes, identities: Identities) -> None:
    port, ca = start_echo(processes, identities), identities.directory / "ca.pem"
    said = s_client(port, ca, "-dtls1", "-cipher", "ALL:@SECLEVEL=0").end()
    assert "Cipher is (NONE)" in said


def test_gnutls_shakes_hands_and_resumes(processes: Processes, identities: Identities) -> None:
    port, ca = start_echo(processes, identities), identities.directory / "ca.pem"
    talk = Talk(
        "gnutls-cli", "--udp", f"127.0.0.1:{port}", "--x509cafile", ca,
        "--verify-hostname", "server", "--resume", "--waitresumption",
    )  # fmt: skip
    talk.until("This is a resumed session")
    talk.until("Simple Client Mode")
    talk.say("a line that comes back")
    talk.until("\na line that comes back\n")
    assert "The certificate is trusted" in talk.end()
