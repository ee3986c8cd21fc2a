"""``tunnelkit keys`` as its users see it: output, exit status, one line for a mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import tunnelkit
import tunnelkit.cli
from tunnelkit.cli import main as cli
from tunnelkit.policy.identity import load_identity

Capture = pytest.CaptureFixture[str]


def ok(capture: Capture, *argv: str) -> str:
    """Run a command line that must work; what it printed."""
    assert cli.main(argv) == 0
    captured = capture.readouterr()
    assert captured.err == ""
    return captured.out


def mistake(capture: Capture, *argv: str) -> str:
    """Run one that must not; its one line."""
    assert cli.main(argv) == 2
    captured = capture.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tunnelkit: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_lines_of_the_specification_work(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "made a CA in KEYS" in ok(capsys, "keys", "init", "--dir", "KEYS")
    assert "KEYS/alice.pem" in ok(capsys, "keys", "issue", "alice", "--dir", "KEYS")
    assert "bob.pem" in ok(capsys, "keys", "issue", "bob", "--dir", "KEYS", "--out", "bob.pem")
    assert "revoked 1 certificate of bob in KEYS/revoked.crl" in ok(
        capsys, "keys", "revoke", "bob", "--dir", "KEYS"
    )
    assert load_identity("KEYS/alice.pem").name == "alice"
    shown = ok(capsys, "keys", "show", "KEYS")
    assert "alice  valid until" in shown
    assert "bob  revoked since" in shown


def test_show_prints_the_fingerprint_and_nothing_secret(tmp_path: Path, capsys: Capture) -> None:
    keys = str(tmp_path / "KEYS")
    ok(capsys, "keys", "init", "--dir", keys)
    ok(capsys, "keys", "issue", "alice", "--dir", keys)
    path = f"{keys}/alice.pem"
    shown = ok(capsys, "keys", "show", path) + ok(capsys, "keys", "show", keys)
    assert load_identity(path).fingerprint in shown
    secrets = Path(path).read_text().splitlines()
    certificate_starts = secrets.index("-----BEGIN CERTIFICATE-----")
    for line in (*secrets[1 : certificate_starts - 1], secrets[-2]):
        assert line not in shown


def test_self_makes_identities_that_share_a_secret(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--secret", "secret.pem")
    first = ok(capsys, "keys", "self", "office", "--out", "office.pem", *words)
    assert "made a rendezvous secret in secret.pem" in first
    second = ok(capsys, "keys", "self", "laptop", "--out", "laptop.pem", *words)
    assert "rendezvous" not in second
    office, laptop = load_identity("office.pem"), load_identity("laptop.pem")
    assert office.rendezvous_secret == laptop.rendezvous_secret
    assert f"made laptop in laptop.pem: {laptop.fingerprint}" in second
    assert laptop.fingerprint in ok(capsys, "keys", "show", "laptop.pem")
    ok(capsys, "keys", "self", "other", "--out", "other.pem")
    assert load_identity("other.pem").rendezvous_secret != laptop.rendezvous_secret
    for name in ("secret.pem", "laptop.pem"):
        assert os.stat(name).st_mode & 0o777 == 0o600


def test_self_overwrites_nothing_and_wants_a_private_secret(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ok(capsys, "keys", "self", "office", "--out", "office.pem", "--secret", "secret.pem")
    words = ("keys", "self", "office", "--out")
    assert "office.pem: exists already" in mistake(capsys, *words, "office.pem")
    os.chmod("secret.pem", 0o644)
    line = mistake(capsys, *words, "new.pem", "--secret", "secret.pem")
    assert "--secret secret.pem: others can reach it" in line
    assert not os.path.exists("new.pem")


def test_the_directory_shows_the_fingerprint_of_each_identity(
    tmp_path: Path, capsys: Capture
) -> None:
    keys = str(tmp_path / "KEYS")
    ok(capsys, "keys", "init", "--dir", keys)
    ok(capsys, "keys", "issue", "alice", "--dir", keys)
    assert load_identity(f"{keys}/alice.pem").fingerprint in ok(capsys, "keys", "show", keys)


def test_renew_says_what_a_new_secret_means(tmp_path: Path, capsys: Capture) -> None:
    keys = str(tmp_path / "KEYS")
    ok(capsys, "keys", "init", "--dir", keys)
    ok(capsys, "keys", "issue", "alice", "--dir", keys)
    before = load_identity(f"{keys}/alice.pem")
    assert "renewed alice" in ok(capsys, "keys", "renew", "alice", "--dir", keys)
    out = ok(capsys, "keys", "renew", "alice", "--dir", keys, "--rendezvous-secret")
    assert "renew every other end" in out
    assert load_identity(f"{keys}/alice.pem").rendezvous_secret != before.rendezvous_secret


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("fly",), "there is no command 'fly', expected one of"),
        (("fl\ny",), "there is no command 'fl\\ny'"),
        (("keys",), "the following arguments are required: ACTION"),
        (("keys", "fly"), "invalid choice: 'fly'"),
        (("keys", "issue", "--dir", "KEYS"), "the following arguments are required: NAME"),
        (("keys", "issue", "a", "--dir", "KEYS"), "keys KEYS: No such file or directory"),
        (("keys", "issue", "a"), "keys keys: No such file or directory: 'tunnelkit keys init"),
        (("keys", "issue", "a/b", "--dir", "KEYS"), "'a/b' cannot be a name"),
        (("keys", "issue", "a", "--dir", "KEYS", "--days", "0"), "expected a number from 1 to"),
        (("keys", "issue", "a", "--dir", "KEYS", "--days", "x"), "expected a number from 1 to"),
        (("keys", "issue", "a", "--dir", "KEYS", "--fast"), "unrecognized arguments: --fast"),
        (("keys", "show", "none.crl"), "revocation list none.crl: there is no such file"),
        (("keys", "show", "none.pem"), "identity none.pem: there is no such file"),
        (("keys", "show", "."), "others can enter it"),
    ],
)
def test_each_mistake_is_one_line_and_status_2(
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    argv: Sequence[str],
    expected: str,
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert expected in mistake(capsys, *argv)


def test_version_and_help(capsys: Capture) -> None:
    for option, expected in (("--version", tunnelkit.__version__), ("--help", "keys")):
        with pytest.raises(SystemExit) as caught:
            cli.main([option])
        assert caught.value.code == 0
        assert expected in capsys.readouterr().out


def test_a_broken_command_does_not_hurt_the_others(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cmd_broken.py").write_text("import there_is_no_such_module\n")
    monkeypatch.setattr(tunnelkit.cli, "__path__", [*tunnelkit.cli.__path__, str(tmp_path)])
    keys = str(tmp_path / "KEYS")
    ok(capsys, "keys", "init", "--dir", keys)
    assert "the command broken does not work here" in mistake(capsys, "broken")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "broken" in capsys.readouterr().out


def test_ctrl_c_is_quiet(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "command_names", interrupted)
    assert cli.main(["keys"]) == 130
    assert capsys.readouterr() == ("", "")


def test_the_installed_command_ends_quietly_when_nobody_reads_on(tmp_path: Path) -> None:
    keys = str(tmp_path / "KEYS")
    command = [sys.executable, "-m", "tunnelkit.cli.main", "keys"]
    subprocess.run([*command, "init", "--dir", keys], check=True, timeout=30)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as nobody:
        done = subprocess.run(
            [*command, "show", keys], stdout=nobody, stderr=subprocess.PIPE, timeout=30
        )
    assert done.stderr == b""
    assert done.returncode == 141


def test_a_list_can_be_short_lived_and_made_again(tmp_path: Path, capsys: Capture) -> None:
    keys = str(tmp_path / "KEYS")
    path = Path(keys) / "revoked.crl"
    ok(capsys, "keys", "init", "--dir", keys)
    ok(capsys, "keys", "issue", "alice", "--dir", keys)

    def days() -> float:
        crl = x509.load_pem_x509_crl(path.read_bytes())
        assert crl.next_update_utc is not None
        return (crl.next_update_utc - crl.last_update_utc).total_seconds() / 86400

    ok(capsys, "keys", "revoke", "alice", "--dir", keys, "--days", "7")
    assert 7 <= days() < 7.1
    assert "made" in ok(capsys, "keys", "revoke", "--dir", keys, "--days", "30")
    assert 30 <= days() < 30.1
    ok(capsys, "keys", "revoke", "--dir", keys)
    assert days() > 3000


def test_a_key_that_never_leaves_its_machine_gets_a_certificate(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ok(capsys, "keys", "init", "--dir", "KEYS")
    assert "it stays here" in ok(capsys, "keys", "sign-request", "alice")
    key = Path("alice.pem").read_bytes()
    assert b"PRIVATE KEY" in key
    assert b"PRIVATE" not in Path("alice.csr").read_bytes()
    said = ok(capsys, "keys", "sign", "alice.csr", "--dir", "KEYS")
    answer = Path("alice.crt").read_bytes()
    assert b"PRIVATE" not in answer
    assert Path("alice.pem").stat().st_mode & 0o777 == 0o600
    assert Path("alice.crt").stat().st_mode & 0o777 == 0o600
    Path("alice.pem").write_bytes(key + answer)
    identity = load_identity("alice.pem")
    assert identity.name == "alice"
    assert identity.fingerprint in said
    ok(capsys, "keys", "issue", "bob", "--dir", "KEYS")
    assert identity.rendezvous_secret == load_identity("KEYS/bob.pem").rendezvous_secret
    assert "alice  valid until" in ok(capsys, "keys", "show", "KEYS")
    assert "revoked 1 certificate of alice" in ok(
        capsys, "keys", "revoke", "alice", "--dir", "KEYS"
    )


def test_what_cannot_be_signed_is_said_in_one_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ok(capsys, "keys", "init", "--dir", "KEYS")
    ok(capsys, "keys", "sign-request", "alice")
    assert "exists already" in mistake(capsys, "keys", "sign-request", "alice")
    assert "cannot be a name" in mistake(capsys, "keys", "sign-request", "a b")
    sign = ("keys", "sign", "alice.csr", "--dir", "KEYS")
    ok(capsys, *sign)
    assert "alice has an identity already: --again" in mistake(capsys, *sign, "--out", "b.crt")
    assert "exists already" in mistake(capsys, *sign, "--again")
    ok(capsys, *sign, "--again", "--out", "b.crt")
    assert "is no request" in mistake(capsys, "keys", "sign", "alice.pem", "--dir", "KEYS")
    request = x509.load_pem_x509_csr(Path("alice.csr").read_bytes())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    Path("forged.csr").write_bytes(forged)
    assert "has not signed it" in mistake(capsys, "keys", "sign", "forged.csr", "--dir", "KEYS")
