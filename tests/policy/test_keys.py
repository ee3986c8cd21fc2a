"""The private CA in memory, and its directory."""

from __future__ import annotations

import json
import os
import stat
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.net.tls.engine import certificate_name, spki_pin
from tunnelkit.policy.identity import identity_pem, load_identity
from tunnelkit.policy.key_directory import KeyDirectory
from tunnelkit.policy.keys import Authority, check_name, is_dns_name
from tunnelkit.policy.revocation import load_revocations

NOW = datetime.now(timezone.utc)


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    directory = KeyDirectory(tmp_path / "KEYS")
    directory.create()
    return directory


def revoked(keys: KeyDirectory) -> set[int]:
    """Serial numbers on the list in the directory."""
    revocations = load_revocations(keys.revocation_file, (keys.load().certificate,))
    assert revocations.problem == ""
    issuer = keys.load().certificate.subject.public_bytes()
    serials = [entry.serial for entry in keys.issued()]
    return {serial for serial in serials if revocations.is_revoked([(issuer, serial)])}


# -- names ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "Alice-2", "gate.example.com", "a_b", "7", "x" * 64])
def test_a_name_is_accepted_and_comes_back_from_the_certificate(name: str) -> None:
    assert check_name(name) == name
    assert certificate_name(AUTHORITY.issue(name).credentials.certificate) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a b",
        "-a",
        "a-",
        ".a",
        "a.",
        "a\n",
        "ä",
        "x" * 65,
        "a\x00",
        "a:b",
    ],
)
def test_what_cannot_be_a_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name") as caught:
        AUTHORITY.issue(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "dns"),
    [("a", True), ("a-b.example", True), ("a_b", False), ("a..b", False), ("10.0.0.1", False)],
)
def test_a_dns_name_is_told_from_other_names(name: str, dns: bool) -> None:
    assert is_dns_name(name) is dns


# -- in memory ------------------------------------------------------------

AUTHORITY = Authority.create()


def test_an_end_is_valid_for_a_year_and_the_ca_for_ten() -> None:
    certificate = AUTHORITY.issue("a").credentials.certificate
    year, ten = timedelta(days=365), timedelta(days=3650)
    now = datetime.now(timezone.utc)
    assert abs(certificate.not_valid_after_utc - now - year) < timedelta(minutes=5)
    assert abs(AUTHORITY.certificate.not_valid_after_utc - NOW - ten) < timedelta(minutes=5)


def test_an_end_is_never_valid_longer_than_its_ca() -> None:
    short = Authority.create(days=3)
    identity = short.issue("a", days=30)
    end = short.certificate.not_valid_after_utc
    assert identity.credentials.certificate.not_valid_after_utc == end


def test_an_expired_ca_issues_nothing() -> None:
    old = Authority.create(days=3, now=NOW - timedelta(days=30))
    with pytest.raises(ConfigError, match="the CA has expired on"):
        old.issue("a")
    with pytest.raises(ConfigError, match="the CA has expired on"):
        old.revocation_list({})


# -- files ----------------------------------------------------------------


def test_everything_written_is_for_the_owner_alone(keys: KeyDirectory, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        second = KeyDirectory(tmp_path / "SECOND")
        second.create()
        second.issue("alice")
        second.issue("bob", out=tmp_path / "bob.pem")
        second.renew("alice")
        second.revoke("bob")
    finally:
        os.umask(before)
    assert stat.S_IMODE(second.path.stat().st_mode) == 0o700
    files = [*second.path.iterdir(), tmp_path / "bob.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    names = {"ca.pem", "issued.json", "revoked.crl", "alice.pem", ".gitignore"}
    assert {path.name for path in second.path.iterdir()} == names


def test_an_issued_file_is_an_identity_of_this_ca(keys: KeyDirectory) -> None:
    _, path = keys.issue("alice")
    identity = load_identity(path)
    authority = keys.load()
    assert path == keys.path / "alice.pem"
    assert identity.credentials.authorities == (authority.certificate,)
    assert identity.rendezvous_secret == authority.rendezvous_secret


def test_all_identities_of_one_ca_share_the_rendezvous_secret(keys: KeyDirectory) -> None:
    first, second = keys.issue("a")[0], keys.issue("b")[0]
    assert first.rendezvous_secret == second.rendezvous_secret
    assert Authority.create().rendezvous_secret != first.rendezvous_secret


def test_nothing_is_ever_overwritten(keys: KeyDirectory, tmp_path: Path) -> None:
    taken = tmp_path / "taken.pem"
    taken.write_text("precious")
    with pytest.raises(ConfigError, match=r"taken\.pem: exists already"):
        keys.issue("alice", out=taken)
    assert taken.read_text() == "precious"
    dangling = tmp_path / "dangling.pem"
    dangling.symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="exists already"):
        keys.issue("alice", out=dangling)
    ca = (keys.path / "ca.pem").read_bytes()
    with pytest.raises(ConfigError, match=r"ca\.pem: exists already"):
        keys.create()
    for verb in (keys.issue, keys.renew):
        with pytest.raises(ConfigError, match="the CA's own file has this name"):
            verb("ca")
    assert (keys.path / "ca.pem").read_bytes() == ca


def test_a_name_is_issued_once_until_it_is_revoked(keys: KeyDirectory, tmp_path: Path) -> None:
    keys.issue("alice")
    with pytest.raises(ConfigError, match="alice has an identity already"):
        keys.issue("alice", out=tmp_path / "again.pem")
    keys.revoke("alice")
    keys.issue("alice", out=tmp_path / "again.pem")
    assert len(revoked(keys)) == 1


def test_a_directory_that_others_can_enter_is_refused(keys: KeyDirectory) -> None:
    keys.path.chmod(0o750)
    for verb in (keys.create, keys.load, lambda: keys.issue("a"), lambda: keys.revoke("a")):
        with pytest.raises(ConfigError, match=r"others can enter it \(mode 0750\): chmod 700"):
            verb()


def test_a_ca_file_that_others_can_read_is_refused(keys: KeyDirectory) -> None:
    (keys.path / "ca.pem").chmod(0o640)
    with pytest.raises(ConfigError, match=r"ca\.pem: others can reach it .*chmod 600"):
        keys.issue("a")


def test_places_that_do_not_exist_are_named(keys: KeyDirectory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        KeyDirectory(tmp_path / "no" / "such").create()
    with pytest.raises(ConfigError, match="No such file or directory"):
        KeyDirectory(tmp_path / "none").issue("a")
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        keys.issue("a", out=tmp_path / "no" / "a.pem")
    empty = tmp_path / "empty"
    empty.mkdir(0o700)
    with pytest.raises(ConfigError, match="there is no CA: 'tunnelkit keys init --dir"):
        KeyDirectory(empty).issue("a")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not a directory"):
        KeyDirectory(tmp_path / "file").create()


def test_revoking_puts_every_certificate_of_the_name_on_the_list(keys: KeyDirectory) -> None:
    assert revoked(keys) == set()
    first, _ = keys.issue("alice")
    second, _ = keys.renew("alice")
    keys.issue("bob")
    assert len(keys.revoke("alice")) == 2
    serials = {entry.credentials.certificate.serial_number for entry in (first, second)}
    assert revoked(keys) == serials
    keys.revoke("bob")
    assert len(revoked(keys)) == 3
    assert keys.revoke("bob") == []


def test_a_name_that_was_never_issued_cannot_be_revoked_or_renewed(keys: KeyDirectory) -> None:
    for verb in (keys.revoke, keys.renew):
        with pytest.raises(ConfigError, match="carol has never been issued"):
            verb("carol")


def test_renewing_makes_a_new_key_and_keeps_the_secret(keys: KeyDirectory) -> None:
    old, path = keys.issue("alice")
    keys.renew("alice", days=7)
    new = load_identity(path)
    assert spki_pin(new.credentials.certificate) != spki_pin(old.credentials.certificate)
    assert new.rendezvous_secret == old.rendezvous_secret
    assert new.credentials.certificate.not_valid_after_utc < NOW + timedelta(days=8)


def test_renewing_with_a_new_secret_changes_it_for_all_that_follow(keys: KeyDirectory) -> None:
    old, _ = keys.issue("alice")
    keys.issue("bob")
    renewed, _ = keys.renew("alice", rendezvous_secret=True)
    assert renewed.rendezvous_secret != old.rendezvous_secret
    assert keys.renew("bob")[0].rendezvous_secret == renewed.rendezvous_secret
    assert renewed.credentials.authorities == old.credentials.authorities


@pytest.mark.parametrize("content", ["", "[]", '{"issued": [{}]}', '{"issued": 5}', "\x80"])
def test_a_damaged_record_stops_the_command(keys: KeyDirectory, content: str) -> None:
    record = keys.path / "issued.json"
    record.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match="is not what 'tunnelkit keys' writes"):
        keys.issue("alice")
    assert record.read_text(encoding="latin-1") == content
    assert not (keys.path / "alice.pem").exists()


def test_an_identity_that_cannot_be_written_can_still_be_revoked(
    keys: KeyDirectory, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        keys.issue("alice", out=tmp_path / "no" / "alice.pem")
    assert [entry.name for entry in keys.issued()] == ["alice"]
    keys.revoke("alice")
    assert len(revoked(keys)) == 1


def test_commands_at_the_same_time_lose_no_certificate(keys: KeyDirectory) -> None:
    names = [f"end{number}" for number in range(12)]
    threads = [threading.Thread(target=keys.issue, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {entry.name for entry in keys.issued()} == set(names)
    entries = json.loads((keys.path / "issued.json").read_text())["issued"]
    assert len({entry["serial"] for entry in entries}) == 12


def test_an_identity_of_another_kind_is_not_taken_for_a_ca(keys: KeyDirectory) -> None:
    (keys.path / "ca.pem").write_bytes(identity_pem(AUTHORITY.issue("alice")))
    with pytest.raises(ConfigError, match="expected one CERTIFICATE"):
        keys.issue("a")
