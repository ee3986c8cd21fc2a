"""Mistakes in ``tunnelkit pair`` (row Q2): one line, and nothing is written."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tunnelkit.cli.main import main
from tunnelkit.policy.identity import identity_pem
from tunnelkit.policy.key_directory import KeyDirectory
from tunnelkit.policy.keys import Authority
from tunnelkit.services.paired_files import PairedFiles, entrances


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--middle", "127.0.0.1:1", "7-gravel-tulip"), "the code is not complete"),
        (("--middle", "127.0.0.1:1", "7-gravel-tulip-xyz"), "'xyz' is not a word of a code"),
        (("--middle", "127.0.0.1:1"), "no code was given"),
        (("--middle", "127.0.0.1", "7-gravel-tulip-otter"), "--middle: "),
        (("--middle", "127.0.0.1:1", "--allow", "ssh"), "allow rule 'ssh'"),
        (("--middle", "127.0.0.1:1", "--allow", "tcp:10.1.2.3:22", "7-a-b-c"), "a code is given"),
        (("--gate", "127.0.0.1:1", "--allow", "tcp:10.1.2.3:22"), "expected --listen"),
        (("--listen", "127.0.0.1:0"), "expected --allow PATTERN too"),
        (("--listen", "127.0.0.1:0", "--publish", "wiki=localhost:80"), "expected --middle"),
        (("--middle", "127.0.0.1:1", "--publish", "wiki"), "publish 'wiki'"),
        (("--middle", "127.0.0.1:1", "--issue"), "--issue: the inside has the CA"),
        (("--middle", "127.0.0.1:1", "--allow", "tcp:a:1", "--issue"), "keys"),
        (("--middle", "127.0.0.1:1", "--tunnel", "work"), "the inside says what"),
        (("--middle", "127.0.0.1:1", "--allow", "tcp:10.1.2.3:22", "--socks", "1080"), "--socks"),
        (("--middle", "127.0.0.1:1", "--name", "a b"), "cannot be a name"),
        ((), "where the two meet is missing: expected --middle, --server, --gate or --listen"),
        (("--middle", "127.0.0.1:1", "--control", "c"), "expected --again too"),
        (("--again", "--middle", "127.0.0.1:1"), "--middle: the two are paired"),
        (("--again", "--control", "nowhere"), "--control nowhere: No such file or directory"),
        (("--again", "7-gravel-tulip-otter"), "CODE: the two are paired: expected --again alone"),
        (("--server", "127.0.0.1:1"), "--server-ca is missing"),
        (("--server", "127.0.0.1:1", "--server-ca", "system"), "--login-file is missing"),
        (("--middle", "127.0.0.1:1", "--target", "office"), "it is for a Communication Server"),
    ],
)
def test_a_mistake_is_one_line(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    keys = tmp_path / "keys"
    assert main(["pair", "--name", "laptop", "--dir", str(keys), *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not keys.exists()


def test_an_end_that_has_a_ca_or_is_paired_already_is_not_paired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> str:
        words = ("--middle", "127.0.0.1:1", "7-gravel-tulip-otter")
        assert main(["pair", "--name", "laptop", "--dir", str(tmp_path), *words]) == 2
        return capsys.readouterr().err

    config, identity = tmp_path / "laptop.toml", tmp_path / "laptop.pem"
    config.touch()
    assert "laptop.toml is there without laptop.pem: expected both" in told()
    identity.write_bytes(identity_pem(Authority.create().issue("laptop")))
    identity.chmod(0o600)
    assert "was issued by a CA: whoever has one needs no pairing" in told()
    identity.unlink()
    files = PairedFiles(tmp_path, "laptop")
    config.unlink()
    files.keep(files.identity(), {"allow": ["tcp:10.1.2.3:22"]}, "sha256:" + "0" * 64)
    assert "laptop is paired already: run it" in told()
    inside = ("--middle", "127.0.0.1:1", "--allow", "tcp:10.1.2.3:22", "--issue")
    KeyDirectory(tmp_path).create()
    config.rename(tmp_path / "aside")
    assert main(["pair", "--name", "laptop", "--dir", str(tmp_path), *inside]) == 2
    assert "laptop.pem is not of the CA in" in capsys.readouterr().err
    (tmp_path / "aside").rename(config)
    assert main(["pair", "--name", "laptop", "--dir", str(tmp_path), *inside]) == 2
    assert "has no line 'peer = ['" in capsys.readouterr().err
    # An inside may have several; its settings must be as they were written.
    config.write_text(config.read_text().replace("peer-pin = [", "peer-pin=["))
    words = ("--middle", "127.0.0.1:1", "--allow", "tcp:10.1.2.3:22")
    assert main(["pair", "--name", "laptop", "--dir", str(tmp_path), *words]) == 2
    assert "has no line 'peer-pin = ['" in capsys.readouterr().err


def test_the_other_ends_words_open_nothing_but_local_ports() -> None:
    hostile = ["tcp:a:1\nallow=*", "tcp:x:99999", "listen:0.0.0.0:1", "tcp:[::1]:70000", '"]']
    (socks,) = entrances(hostile)["socks"]
    assert "forward" not in entrances(hostile)
    assert socks.startswith("127.0.0.1:")
    assert entrances([], ["a b", "../x", "wiki:1", "\n"]) == {"socks": [socks]}
    (forward,) = entrances([], ["wiki"])["forward"]
    assert forward.endswith("=service:wiki")
    (forward,) = entrances(["10.1.2.3:22"])["forward"]
    assert forward.endswith("=10.1.2.3:22")
    others = ["udp:53", "x11:1", "listen:8000", "tcp:*:22"]
    assert "forward" not in entrances(others)
    many = entrances([f"tcp:10.0.0.{number}:22" for number in range(50)])
    assert len(many["forward"]) == 8
    assert all(one.startswith("127.0.0.1:") for one in many["forward"])
