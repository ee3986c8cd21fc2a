"""What scanners and other TLS programs are offered, and refused (X6, X32)."""

from __future__ import annotations

import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import START_LIMIT, Identities, Processes, free_port
from tests.acceptance.test_pairing import inside
from tests.foreign.places import Place, start_places
from tests.peers.corporate import CLIENT, Certified, certify, credentials
from tunnelkit.policy.identity import Identity, identity_pem
from tunnelkit.policy.key_directory import KeyDirectory

ALPN = "usher/1.1"
PAIRING = "tunnelkit-pair/1"
RESUMPTIONS = 5


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, identities: Identities
) -> Iterator[dict[str, Place]]:
    processes = Processes(tmp_path_factory.mktemp("places"))
    try:
        yield {place.name: place for place in start_places(processes, identities)}
    finally:
        processes.end()


def run(*command: object, given: str = "") -> str:
    """Everything that the program says."""
    done = subprocess.run(
        [*map(str, command)],
        input=given,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=60,
    )
    return done.stdout + done.stderr


def openssl(place: Place, *options: object) -> str:
    """``openssl s_client`` there."""
    name = ("-servername", place.server_name) if place.server_name else ()
    return run("openssl", "s_client", "-connect", place.address, *name, *options)


def gnutls(place: Place, *options: object) -> str:
    """``gnutls-cli`` there."""
    host, _, port = place.address.rpartition(":")
    name = ("--sni-hostname", place.server_name) if place.server_name else ()
    return run("gnutls-cli", "--no-ca-verification", "-p", port, *name, *options, host)


ENDS = ("gate", "gate behind a bastion")


ONLY_VERSIONS = (
    "--no-groups", "--no-heartbleed", "--no-fallback", "--no-renegotiation", "--no-compression",
    "--no-check-certificate",
)  # fmt: skip
"""A bastion relays 50 connections of one address at once, and sslscan would use all of them."""


def versions(place: Place) -> set[str]:
    """What sslscan says is enabled."""
    name = [f"--sni-name={place.server_name}"] if place.server_name else []
    said = run("sslscan", "--xml=-", "--no-colour", *ONLY_VERSIONS, *name, place.address)
    tree = ElementTree.fromstring(said[said.index("<?xml") :].encode())
    return {
        f"{found.get('type')}{found.get('version')}"
        for found in tree.iter("protocol")
        if found.get("enabled") == "1"
    }


@pytest.mark.parametrize("name", ENDS)
def test_sslscan_finds_tls_1_3_and_nothing_below(places: dict[str, Place], name: str) -> None:
    assert versions(places[name]) == {"tls1.3"}


def test_sslscan_finds_nothing_below_tls_1_2_at_a_communication_server(
    places: dict[str, Place],
) -> None:
    assert versions(places["communication server"]) <= {"tls1.2", "tls1.3"}


def test_browsers_are_offered_forward_secrecy_and_aead_only(places: dict[str, Place]) -> None:
    said = openssl(places["communication server"], "-tls1_2")
    assert "Cipher is ECDHE-" in said
    for weak in ("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256"):
        said = openssl(places["communication server"], "-tls1_2", "-cipher", weak)
        assert "Cipher is (NONE)" in said


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-tls1_2"])
def test_openssl_cannot_speak_anything_older(
    places: dict[str, Place], identities: Identities, name: str, version: str
) -> None:
    said = openssl(places[name], version, "-cert", identities("client"), "-alpn", ALPN)
    assert "Cipher is (NONE)" in said


@pytest.mark.parametrize("name", ENDS)
def test_openssl_with_an_identity_gets_in_and_without_one_does_not(
    places: dict[str, Place], identities: Identities, name: str
) -> None:
    good = openssl(places[name], "-cert", identities("client"), "-alpn", ALPN)
    assert f"ALPN protocol: {ALPN}" in good
    assert "New, TLSv1.3" in good
    assert "alert" not in good
    said = openssl(places[name], "-alpn", ALPN, "-ign_eof")
    assert "certificate required" in said


@pytest.mark.parametrize("name", ENDS)
def test_no_common_protocol_is_the_alert_of_the_standard(
    places: dict[str, Place], identities: Identities, name: str
) -> None:
    said = openssl(places[name], "-cert", identities("client"), "-alpn", "h2")
    assert "no application protocol" in said


def test_openssl_is_never_resumed(
    places: dict[str, Place], identities: Identities, tmp_path: Path
) -> None:
    place, session = places["gate"], tmp_path / "session"
    words = ("-cert", identities("client"), "-alpn", ALPN)
    openssl(place, *words, "-sess_out", session)
    reused = 0
    for _ in range(RESUMPTIONS):
        given = ("-sess_in", session) if session.exists() else ()
        said = openssl(place, *words, *given, "-sess_out", session)
        reused += "Reused, TLS" in said
        assert "New, TLSv1.3" in said
    assert reused == 0


def test_certificates_that_are_no_ends_are_refused(
    places: dict[str, Place], identities: Identities, tmp_path: Path
) -> None:
    """Of the same CA, but a CA itself, or for clients only."""
    authority = KeyDirectory(identities.directory).load()
    ca = Certified(authority.private_key, authority.certificate)
    unfit = (certify("client", ca, ca=True), certify("client", ca, uses=(CLIENT,)))
    for number, made in enumerate((*unfit, certify("client", ca))):
        file = tmp_path / f"{number}.pem"
        file.write_bytes(identity_pem(Identity("client", credentials(made, ca), bytes(32))))
        # A client that is let in would wait for more; one that is not is told so.
        waits = ("-ign_eof",) if made in unfit else ()
        said = openssl(places["gate"], "-cert", file, "-alpn", ALPN, *waits)
        assert ("alert" in said) is (made in unfit)


@pytest.mark.parametrize("name", ENDS)
def test_gnutls_gets_in_with_tls_1_3_and_an_identity_only(
    places: dict[str, Place], identities: Identities, tmp_path: Path, name: str
) -> None:
    file = identities("client")
    key = tmp_path / "key.pem"
    key.write_text(file.read_text().partition("-----BEGIN CERT")[0])
    words = ("--x509keyfile", key, "--x509certfile", file, "--alpn", ALPN)
    good = gnutls(places[name], *words)
    assert "(TLS1.3" in good
    assert "Handshake was completed" in good
    old = gnutls(places[name], *words, "--priority", "NORMAL:-VERS-TLS1.3")
    assert "Handshake was completed" not in old
    again = gnutls(places[name], *words, "--resume")
    assert "This is a resumed session" not in again


def test_a_pairing_speaks_tls_1_3_and_its_own_protocol_only(processes: Processes) -> None:
    """A scanner would end it: no more than three others may come."""
    place = Place("pairing", f"127.0.0.1:{free_port()}")
    inside(processes, "--listen", place.address, "--allow", "tcp:127.0.0.1:1", "--once")
    for options, expected in (
        (("-tls1_2",), "Cipher is (NONE)"),
        (("-alpn", ALPN), "no application protocol"),
        (("-alpn", PAIRING), f"ALPN protocol: {PAIRING}"),
    ):
        deadline = time.monotonic() + START_LIMIT
        # The code may be shown before the port is open.
        while "Connection refused" in (said := openssl(place, *options)):
            assert time.monotonic() < deadline
        assert expected in said
