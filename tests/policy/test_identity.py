"""Identity files: what programs make of them, and the one line for each thing that is wrong."""

from __future__ import annotations

import base64
import os
import re
import ssl
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from tunnelkit.errors import ConfigError
from tunnelkit.policy.identity import (
    SECRET_LABEL,
    identity_pem,
    key_pem,
    load_identity,
    parse_pin,
    parse_secret,
    secret_pem,
)
from tunnelkit.policy.keys import Authority, self_signed

AUTHORITY = Authority.create()
IDENTITY = AUTHORITY.issue("alice")
PEM = identity_pem(IDENTITY)
KEY = key_pem(IDENTITY.credentials.private_key)
CERTIFICATE = IDENTITY.credentials.certificate.public_bytes(Encoding.PEM)
CA = AUTHORITY.certificate.public_bytes(Encoding.PEM)
SECRET = secret_pem(AUTHORITY.rendezvous_secret)
NOW = datetime.now(timezone.utc)


def write(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    path = directory / "alice.pem"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def complaint(path: Path, passphrase: bytes | None = None) -> str:
    """The one line about a file that cannot be used."""
    with pytest.raises(ConfigError) as caught:
        load_identity(path, passphrase=passphrase)
    message = str(caught.value)
    assert message.startswith("identity ")
    assert "\n" not in message
    return message


def test_an_identity_file_is_read_back_as_it_was_issued(tmp_path: Path) -> None:
    identity = load_identity(write(tmp_path, PEM))
    assert identity.name == "alice"
    assert identity.rendezvous_secret == AUTHORITY.rendezvous_secret
    assert identity.credentials.certificate == IDENTITY.credentials.certificate
    assert identity.credentials.authorities == (AUTHORITY.certificate,)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", identity.fingerprint)
    assert identity_pem(identity) == PEM


def test_nothing_secret_shows_in_the_repr() -> None:
    shown = repr(IDENTITY) + str(IDENTITY) + repr(AUTHORITY)
    assert "alice" in shown
    assert "rendezvous_secret" not in shown
    assert "private_key" not in shown


def test_ordinary_tls_programs_load_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(path)
    context.load_verify_locations(path)
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-purpose", purpose, "-CAfile", path, path]
        subprocess.run(command, check=True, capture_output=True, timeout=20)
    subprocess.run(["openssl", "pkey", "-in", path, "-noout", "-check"], check=True, timeout=20)


def test_the_certificate_carries_the_name_as_uri_and_as_dns_name(tmp_path: Path) -> None:
    command = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in"]
    shown = subprocess.run(
        [*command, write(tmp_path, PEM)], check=True, capture_output=True, timeout=20
    ).stdout
    assert b"URI:tunnelkit:alice, DNS:alice" in shown
    other = identity_pem(AUTHORITY.issue("no_dns_name"))
    shown = subprocess.run(
        [*command, write(tmp_path, other)], check=True, capture_output=True, timeout=20
    ).stdout
    assert b"URI:tunnelkit:no_dns_name" in shown
    assert b"DNS:" not in shown


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_others_can_reach_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, PEM, mode)
    assert complaint(path) == (
        f"identity {path}: others can reach it (mode {mode:04o}): chmod 600 {path}"
    )


def test_a_stricter_mode_is_accepted(tmp_path: Path) -> None:
    assert load_identity(write(tmp_path, PEM, 0o400)).name == "alice"


def test_a_missing_file_a_directory_and_a_pipe_are_named(tmp_path: Path) -> None:
    assert "there is no such file" in complaint(tmp_path / "none.pem")
    assert "is a directory" in complaint(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "is not a regular file" in complaint(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read" in complaint(tmp_path / "loop")


def test_a_hostile_file_name_stays_on_one_line(tmp_path: Path) -> None:
    assert r"a\nb" in complaint(tmp_path / "a\nb")


def unencodable(block: bytes) -> bytes:
    return re.sub(rb"\n[A-Za-z0-9+/]{8}", b"\n********", block, count=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a PEM file"),
        (b"\x00\xff" * 500, "not a PEM file"),
        (IDENTITY.credentials.certificate.public_bytes(Encoding.DER), "not a PEM file"),
        (PEM + b"x" * 300_000, "is larger than"),
        (CERTIFICATE + CA + SECRET, "no PRIVATE KEY block"),
        (KEY + KEY + CERTIFICATE + CA + SECRET, "more than one PRIVATE KEY block"),
        (unencodable(KEY) + CERTIFICATE + CA + SECRET, "private key cannot be read"),
        (KEY + SECRET, "no CERTIFICATE block"),
        (KEY + unencodable(CERTIFICATE) + CA + SECRET, "CERTIFICATE 1 cannot be read"),
        (KEY + CERTIFICATE + unencodable(CA) + SECRET, "CERTIFICATE 2 cannot be read"),
        (KEY + CERTIFICATE + SECRET, "the CA certificate is missing"),
        (KEY + CA + CERTIFICATE + SECRET, "does not belong to the first certificate"),
        (KEY + CERTIFICATE + CA, f"no {SECRET_LABEL} block"),
        (PEM + SECRET, f"more than one {SECRET_LABEL} block"),
        (KEY + CERTIFICATE + CA + secret_pem(b"short"), "has 5 bytes, expected 32"),
        (KEY + CERTIFICATE + CA + secret_pem(bytes(33)), "has 33 bytes, expected 32"),
        (KEY + CERTIFICATE + CA + unencodable(SECRET), f"the {SECRET_LABEL} is not base64"),
        (PEM[:-20], f"no {SECRET_LABEL} block"),
    ],
)
def test_a_damaged_file_is_explained(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in complaint(write(tmp_path, content))


def test_complaints_never_show_what_is_secret(tmp_path: Path) -> None:
    secret = base64.b64encode(AUTHORITY.rendezvous_secret).decode()
    broken = SECRET.replace(b"=", b"*")
    assert secret[:10] not in complaint(write(tmp_path, KEY + CERTIFICATE + CA + broken))


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    other = key_pem(AUTHORITY.issue("other").credentials.private_key)
    message = complaint(write(tmp_path, other + CERTIFICATE + CA + SECRET))
    assert "the private key does not belong to the first certificate" in message


def test_another_ca_is_refused(tmp_path: Path) -> None:
    other = Authority.create().certificate.public_bytes(Encoding.PEM)
    message = complaint(write(tmp_path, KEY + CERTIFICATE + other + SECRET))
    assert "was not issued by the CA in the same file" in message


def test_a_self_signed_identity_has_no_ca(tmp_path: Path) -> None:
    made = self_signed("alone", rendezvous_secret=AUTHORITY.rendezvous_secret)
    identity = load_identity(write(tmp_path, identity_pem(made)))
    assert (identity.name, identity.credentials.authorities) == ("alone", ())
    assert identity.rendezvous_secret == AUTHORITY.rendezvous_secret
    assert parse_pin(identity.fingerprint) == parse_pin(made.fingerprint)


def test_a_self_signed_identity_that_has_expired_says_how_to_make_another(tmp_path: Path) -> None:
    made = self_signed("alone", days=1, now=NOW - timedelta(days=3))
    message = complaint(write(tmp_path, identity_pem(made)))
    assert message.endswith("'tunnelkit keys self alone' makes a new one")


def test_the_rendezvous_secret_of_an_identity_or_a_file_of_its_own_can_be_read() -> None:
    for text in (PEM, SECRET):
        assert parse_secret(text, "x") == AUTHORITY.rendezvous_secret
    with pytest.raises(ConfigError, match=f"x: no {SECRET_LABEL} block"):
        parse_secret(CERTIFICATE, "x")


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "g" * 64, "0" * 64, "sha1:" + "0" * 40],
)
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a fingerprint: expected sha256: and 64"):
        parse_pin(text)


def test_a_second_ca_may_stand_behind_the_issuing_one(tmp_path: Path) -> None:
    other = Authority.create()
    content = KEY + CERTIFICATE + other.certificate.public_bytes(Encoding.PEM) + CA + SECRET
    identity = load_identity(write(tmp_path, content))
    assert set(identity.credentials.authorities) == {other.certificate, AUTHORITY.certificate}


def test_an_expired_certificate_is_refused_with_its_date_and_the_remedy(tmp_path: Path) -> None:
    old = AUTHORITY.issue("old", days=10, now=NOW - timedelta(days=40))
    message = complaint(write(tmp_path, identity_pem(old)))
    assert f"the certificate has expired on {NOW - timedelta(days=30):%Y-%m-%d}" in message
    assert "'tunnelkit keys renew old'" in message


def test_a_certificate_that_is_not_valid_yet_is_refused_with_both_times(tmp_path: Path) -> None:
    early = AUTHORITY.issue("early", now=NOW + timedelta(days=2))
    message = complaint(write(tmp_path, identity_pem(early)))
    assert "the certificate is not valid before" in message
    assert "is the clock right" in message


def test_an_expired_ca_is_refused(tmp_path: Path) -> None:
    authority = AUTHORITY.certificate
    expired = (
        x509.CertificateBuilder()
        .subject_name(authority.subject)
        .issuer_name(authority.issuer)
        .public_key(authority.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=9))
        .not_valid_after(NOW - timedelta(days=2))
        .sign(AUTHORITY.private_key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    message = complaint(write(tmp_path, KEY + CERTIFICATE + expired + SECRET))
    assert f"the CA certificate has expired on {NOW - timedelta(days=2):%Y-%m-%d}" in message


KINDS: list[Callable[[], ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey]] = [
    ed25519.Ed25519PrivateKey.generate,
    lambda: rsa.generate_private_key(65537, 2048),
]


@pytest.mark.parametrize("make", KINDS)
def test_keys_of_other_kinds_are_as_good(
    tmp_path: Path, make: Callable[[], ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey]
) -> None:
    identity = AUTHORITY.issue("other", private_key=make())
    assert load_identity(write(tmp_path, identity_pem(identity))).name == "other"


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path, form: PrivateFormat) -> None:
    key = IDENTITY.credentials.private_key.private_bytes(
        Encoding.PEM, form, BestAvailableEncryption(b"open sesame")
    )
    path = write(tmp_path, key + CERTIFICATE + CA + SECRET)
    assert "encrypted with a passphrase" in complaint(path)
    assert "the passphrase is wrong" in complaint(path, b"guess")
    assert load_identity(path, passphrase=b"open sesame").name == "alice"


def test_a_passphrase_for_a_key_without_one_does_no_harm(tmp_path: Path) -> None:
    assert load_identity(write(tmp_path, PEM), passphrase=b"unneeded").name == "alice"


def test_line_ends_of_other_systems_and_comments_are_accepted(tmp_path: Path) -> None:
    content = b"# made by hand\r\n" + PEM.replace(b"\n", b"\r\n")
    assert load_identity(write(tmp_path, content)).name == "alice"
