"""`tunnelkit keys` writes all that an end needs (row Q3)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from tests.cli.test_keys import Capture, mistake, ok
from tunnelkit.errors import ConfigError
from tunnelkit.policy.identity import load_identity
from tunnelkit.roles.registry import roles
from tunnelkit.services.endpoint_strings import Ends
from tunnelkit.services.options import options_for

PLACE = ("--middle", "relay.example:7000", "--tunnel", "work")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    monkeypatch.delenv("TUNNELKIT_KEYS", raising=False)
    monkeypatch.chdir(tmp_path)
    ok(capsys, "keys", "init")
    return tmp_path


def configuration(role: str, *words: str) -> Any:
    """What the role makes of these options; raises `ConfigError`."""
    options = options_for(roles()[role])()
    options.parse(words)
    return options.config


def test_two_names_are_each_others_peers_and_the_settings_run_from_anywhere(
    directory: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ok(capsys, "keys", "issue", "office", "laptop", *PLACE)
    assert "tunnelkit server --config office.toml --allow" in said
    assert "bring keys/office.pem, keys/office.toml and keys/revoked.crl" in said
    moved = directory / "elsewhere"
    shutil.copytree("keys", moved)
    monkeypatch.chdir("/")
    rule = ("--allow", "tcp:127.0.0.1:22")
    server = configuration("lstp-server-end", "--config", str(moved / "office.toml"), *rule)
    assert server.identity.name == "office"
    assert server.peers == {"laptop"}
    assert server.middle == ("relay.example", 7000)
    assert server.identity_file == str(moved / "office.pem")


def test_what_an_end_is_for_makes_its_settings_whole(capsys: Capture) -> None:
    office = ("--peer", "laptop", "--allow", "tcp:10.1.2.3:22", "--via", "socks5://proxy:1080")
    said = ok(capsys, "keys", "issue", "office", *PLACE, *office)
    assert "tunnelkit server --config office.toml\n" in said
    laptop = ("--peer", "office", "--forward", "0=tcp:10.1.2.3:22", "--socks", "0")
    said = ok(capsys, "keys", "issue", "laptop", *PLACE, *laptop)
    assert "tunnelkit client --config laptop.toml\n" in said
    configuration("lstp-server-end", "--config", "keys/office.toml")
    configuration("lstp-client-end", "--config", "keys/laptop.toml")


def test_the_settings_work_in_endpoint_strings(capsys: Capture) -> None:
    ok(capsys, "keys", "issue", "office", "laptop", *PLACE)
    ends = Ends(MemoryReactorClock())
    for name, kind in (("office", "server-end"), ("laptop", "client-end")):
        key, _ = ends.settle({"config": f"keys/{name}.toml"}, kind)
        assert f"keys/{name}.pem" in key


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("a", "--tunnel", "work"), "--tunnel: no settings are written: expected --middle too"),
        (("a", "--middle", "relay:1", "--peer", "b"), "--tunnel is missing"),
        (("a", *PLACE), "--peer: expected NAME of an end that a is to meet"),
        (("a", *PLACE, "--peer", "a"), "--peer: expected NAME of an end that a is to meet"),
        (("a", "b", *PLACE, "--socks", "1"), "--socks: there are several names"),
        (("a", "b", "--out", "c.pem"), "--out: there are several names"),
        (
            ("a", "--middle", "relay", "--tunnel", "w", "--peer", "b"),
            "--middle: the port is missing in 'relay'",
        ),
        (("a", *PLACE, "--peer", "b", "--allow", "tcp:1"), "--allow: "),
        (("a", *PLACE, "--peer", "b", "--forward", "x"), "--forward: "),
        (("a", *PLACE, "--peer", "b", "--via", "ftp://p"), "--via"),
    ],
)
def test_a_mistake_writes_nothing(
    capsys: Capture, directory: Path, words: tuple[str, ...], expected: str
) -> None:
    before = sorted(directory.rglob("*"))
    assert expected in mistake(capsys, "keys", "issue", *words)
    assert sorted(directory.rglob("*")) == before


def test_settings_that_are_there_are_not_replaced(capsys: Capture) -> None:
    Path("keys/office.toml").write_text("mine")
    line = mistake(capsys, "keys", "issue", "office", "laptop", *PLACE)
    assert "keys/office.toml: exists already" in line
    assert ok(capsys, "keys", "list") == "nothing has been issued in keys yet\n"


def test_the_directory_may_come_from_the_environment(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUNNELKIT_KEYS", str(tmp_path / "other"))
    ok(capsys, "keys", "init")
    ok(capsys, "keys", "issue", "office")
    assert load_identity(tmp_path / "other" / "office.pem").name == "office"


def test_the_list_has_a_line_for_each_certificate(capsys: Capture) -> None:
    ok(capsys, "keys", "issue", "office", "laptop")
    ok(capsys, "keys", "renew", "office", "laptop")
    ok(capsys, "keys", "revoke", "laptop")
    lines = ok(capsys, "keys", "list").splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["office", "valid"],
        ["laptop", "revoked"],
        ["office", "valid"],
        ["laptop", "revoked"],
    ]


def test_where_no_keys_are_the_list_says_how_to_make_them(capsys: Capture, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    for _ in range(2):
        said = mistake(capsys, "keys", "list", "--dir", str(empty))
        assert f"'tunnelkit keys init --dir {empty}' makes" in said
        empty.mkdir(mode=0o700, exist_ok=True)


def test_one_new_secret_for_all_that_are_renewed_together(capsys: Capture) -> None:
    ok(capsys, "keys", "issue", "office", "laptop")
    before = load_identity("keys/office.pem").rendezvous_secret
    ok(capsys, "keys", "renew", "office", "laptop", "--rendezvous-secret")
    office, laptop = load_identity("keys/office.pem"), load_identity("keys/laptop.pem")
    assert office.rendezvous_secret == laptop.rendezvous_secret != before


def test_a_revocation_list_is_shown_with_the_names_on_it(capsys: Capture) -> None:
    ok(capsys, "keys", "issue", "office", "laptop")
    shown = ok(capsys, "keys", "show", "keys/revoked.crl")
    assert "number       1" in shown
    assert "entries      0" in shown
    ok(capsys, "keys", "revoke", "laptop")
    shown = ok(capsys, "keys", "show", "keys/revoked.crl")
    assert "number       2" in shown
    assert shown.splitlines()[-1].endswith("laptop")
    shutil.copy("keys/revoked.crl", "alone.crl")
    assert "laptop" not in ok(capsys, "keys", "show", "alone.crl")
    Path("no.crl").write_text("none")
    assert "no.crl: is not a certificate revocation list" in mistake(
        capsys, "keys", "show", "no.crl"
    )


def test_revoking_says_what_to_bring_where_and_offers_a_new_secret(capsys: Capture) -> None:
    ok(capsys, "keys", "issue", "office", "laptop", "phone", "tablet")
    before = load_identity("keys/office.pem")
    said = ok(capsys, "keys", "revoke", "laptop")
    assert "bring keys/revoked.crl to every other end" in said
    assert "tunnelkit keys revoke laptop --rendezvous-secret" in said
    shutil.move("keys/phone.pem", "phone.pem")
    key = Path("keys/tablet.pem").read_bytes()
    Path("keys/tablet.pem").write_bytes(key.replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"))
    said = ok(capsys, "keys", "revoke", "laptop", "--rendezvous-secret")
    office = load_identity("keys/office.pem")
    assert f"renewed office in keys/office.pem: {office.fingerprint}" in said
    assert office.rendezvous_secret != before.rendezvous_secret
    assert "not renewed: phone has no file" in said
    assert "not renewed: tablet has a passphrase" in said
    assert "renewed laptop" not in said
    line = mistake(capsys, "keys", "revoke", "--rendezvous-secret")
    assert "expected NAME that is to be revoked" in line


def test_a_list_of_another_ca_beside_the_identity_is_refused_and_can_be_left_out(
    capsys: Capture,
) -> None:
    ok(capsys, "keys", "issue", "office", "laptop", *PLACE)
    ok(capsys, "keys", "init", "--dir", "other")
    shutil.copy("other/revoked.crl", "keys/revoked.crl")
    words = ("--config", "keys/office.toml", "--allow", "tcp:127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"is not signed by this end's CA: .* or --no-crl"):
        configuration("lstp-server-end", *words)
    assert configuration("lstp-server-end", *words, "--no-crl").crl_file is None
    with pytest.raises(ConfigError, match="there is --no-crl too"):
        configuration("lstp-server-end", *words, "--no-crl", "--crl", "other/revoked.crl")


def test_the_keys_do_not_get_into_a_repository(capsys: Capture) -> None:
    assert Path("keys/.gitignore").read_text() == "*\n"


def test_what_is_there_already_names_the_command_that_goes_on(capsys: Capture) -> None:
    assert "tunnelkit keys issue NAME" in mistake(capsys, "keys", "init")
    ok(capsys, "keys", "issue", "office")
    assert "tunnelkit keys renew office" in mistake(capsys, "keys", "issue", "office")
