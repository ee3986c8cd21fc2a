"""Chains of CAs, what certificates are for, and what is agreed on (rule X32; U-13)."""

from __future__ import annotations

import attrs
import pytest
from cryptography import x509

from tests.net.tls.test_engine import converse, engine, output, pair, refused
from tests.peers.corporate import BOTH, CLIENT, SERVER, certify, credentials
from tunnelkit.errors import PeerNotTrusted, RemoteProtocolError, Revoked
from tunnelkit.net.tls.context import Credentials, KeyUse, listings

ROOT = certify("root", ca=True)
NORTH = certify("north", ROOT, ca=True)
SOUTH = certify("south", ROOT, ca=True)
LAPTOP = certify("laptop", NORTH)
OFFICE = certify("office", SOUTH)
NEAR = credentials(LAPTOP, ROOT, NORTH)
FAR = credentials(OFFICE, ROOT, SOUTH)


def with_lists(have: Credentials, *crls: x509.CertificateRevocationList) -> Credentials:
    return attrs.evolve(have, check_revocation=True, crls=crls)


# -- chains ----------------------------------------------------------------------------------


def test_ends_of_two_issuing_cas_under_one_root_know_each_other() -> None:
    client, server = pair(NEAR, FAR)
    assert (client.peer_name, server.peer_name) == ("office", "laptop")
    assert client.peer_chain == (OFFICE.certificate, SOUTH.certificate, ROOT.certificate)


def test_without_the_ca_between_the_chain_is_not_complete() -> None:
    _, refusing = refused(attrs.evolve(NEAR, chain=()), FAR)
    assert isinstance(refusing, PeerNotTrusted)


@pytest.mark.parametrize("revoked", ["leaf", "issuing CA"])
def test_the_whole_chain_is_looked_up(revoked: str) -> None:
    root = ROOT.crl(*([NORTH.certificate] if revoked == "issuing CA" else []))
    north = NORTH.crl(*([LAPTOP.certificate] if revoked == "leaf" else []))
    _, refusing = refused(NEAR, with_lists(FAR, root, north))
    assert isinstance(refusing, Revoked)
    pair(NEAR, with_lists(FAR, ROOT.crl(), NORTH.crl()))


def test_a_list_of_every_ca_in_the_chain_is_needed() -> None:
    _, refusing = refused(NEAR, with_lists(FAR, NORTH.crl()))
    assert "there is none of the CA that issued" in str(refusing)
    _, refusing = refused(NEAR, with_lists(FAR, ROOT.crl()))
    assert "there is none of the CA that issued laptop" in str(refusing)


def test_lists_name_certificates_by_issuer_and_number() -> None:
    issuer, number = listings((LAPTOP.certificate,))[0]
    assert (issuer, number) == (
        NORTH.certificate.subject.public_bytes(),
        LAPTOP.certificate.serial_number,
    )


# -- uses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("uses", [None, (), (CLIENT,), (SERVER,), BOTH])
@pytest.mark.parametrize("stranger_is_client", [True, False])
def test_a_certificate_must_be_for_both_roles(
    uses: tuple[x509.ObjectIdentifier, ...] | None, stranger_is_client: bool
) -> None:
    made = certify("site", ROOT, uses=uses or None)
    site = credentials(made, ROOT)
    good = credentials(certify("good", ROOT), ROOT)
    client, server = (site, good) if stranger_is_client else (good, site)
    if uses == BOTH:
        pair(client, server)
        return
    complaints = refused(client, server)
    assert isinstance(complaints[1 if stranger_is_client else 0], PeerNotTrusted)
    # Unless this end says otherwise.
    lenient = attrs.evolve(good, use=KeyUse.ANY)
    pair(*((site, lenient) if stranger_is_client else (lenient, site)))


def test_where_the_roles_are_fixed_a_certificate_for_its_own_is_enough() -> None:
    fixed = attrs.evolve(credentials(certify("good", ROOT), ROOT), use=KeyUse.ROLE)
    pair(fixed, credentials(certify("site", ROOT, uses=(SERVER,)), ROOT))
    told, _ = refused(fixed, credentials(certify("site", ROOT, uses=(CLIENT,)), ROOT))
    assert isinstance(told, PeerNotTrusted)


@pytest.mark.parametrize("use", list(KeyUse))
def test_a_ca_is_no_end(use: KeyUse) -> None:
    named = certify("ca", None, ca=True)
    far = attrs.evolve(
        credentials(certify("good", ROOT), ROOT),
        authorities=(ROOT.certificate, named.certificate),
        use=use,
    )
    near = attrs.evolve(credentials(named, named), authorities=(ROOT.certificate,))
    _, refusing = refused(near, far)
    assert isinstance(refusing, PeerNotTrusted)


# -- what is spoken ----------------------------------------------------------------------------


def test_no_common_protocol_is_said_with_the_alert_of_the_standard() -> None:
    client, server = engine(NEAR, True, b"lstp/1"), engine(FAR, False, b"usher/1")
    assert not client.handshake()
    server.feed(memoryview(output(client)))
    with pytest.raises(RemoteProtocolError, match="does not speak usher/1"):
        server.handshake()
    # Alert, TLS 1.2 in the record as usual, two bytes: fatal, no_application_protocol (120).
    assert output(server) == bytes.fromhex("15030300020278")


def test_the_client_is_told_too() -> None:
    client, server = engine(NEAR, True, b"lstp/1"), engine(FAR, False, b"usher/1")
    complaints = converse(client, server)
    assert "it says 'no application protocol'" in str(complaints[client])
