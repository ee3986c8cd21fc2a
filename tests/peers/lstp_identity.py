"""Reads an identity file and makes TLS contexts of it, with the standard library only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

ALPN = "lstp/1"
_BLOCK = re.compile(
    r"-----BEGIN ([A-Z0-9 ]+)-----\s+([A-Za-z0-9+/=\s]*?)-----END \1-----", re.DOTALL
)


@dataclass(frozen=True)
class Identity:
    """What one identity file holds: key, certificate, CA certificate, rendezvous secret."""

    path: Path
    certificate: bytes
    authority: str
    secret: bytes

    def common(self, tunnel: str) -> str:
        """The rendezvous id of the tunnel called ``tunnel``."""
        digest = hmac.new(self.secret, tunnel.encode("utf-8"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")

    def context(self, client: bool) -> ssl.SSLContext:
        """TLS 1.3, both ends authenticated, in either role."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if client else ssl.PROTOCOL_TLS_SERVER)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.path)
        context.load_verify_locations(cadata=self.authority)
        context.set_alpn_protocols([ALPN])
        if not client:
            context.num_tickets = 0
        return context


def load_identity(path: Path) -> Identity:
    """Read ``path``; ValueError says what is missing in it."""
    text = path.read_text("ascii")
    blocks = [(match[1], match[2]) for match in _BLOCK.finditer(text)]
    certificates = [body for label, body in blocks if label == "CERTIFICATE"]
    secrets = [body for label, body in blocks if label == "TUNNELKIT RENDEZVOUS SECRET"]
    if len(certificates) < 2:
        raise ValueError(f"{path} holds {len(certificates)} certificates, own and CA expected")
    if len(secrets) != 1:
        raise ValueError(f"{path} holds {len(secrets)} rendezvous secrets, one expected")
    secret = base64.b64decode(secrets[0])
    if len(secret) != 32:
        raise ValueError(f"the rendezvous secret in {path} has {len(secret)} bytes, not 32")
    own, *authorities = (base64.b64decode(body) for body in certificates)
    return Identity(
        path, own, "".join(ssl.DER_cert_to_PEM_cert(der) for der in authorities), secret
    )


def certificate_name(tls: ssl.SSLObject) -> str:
    """The ``tunnelkit:NAME`` of the verified peer certificate, or an empty text."""
    certificate = tls.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    found: list[str] = [
        str(entry[1])
        for entry in names
        if isinstance(entry, tuple) and entry[0] == "URI" and entry[1].startswith("tunnelkit:")
    ]
    return found[0].removeprefix("tunnelkit:") if len(found) == 1 else ""


def public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a DER certificate (RFC 5280, section 4.1)."""
    fields = _children(_children(certificate)[0])
    # version is there in every certificate that can carry a subject alternative name:
    # version, serial, algorithm, issuer, validity, subject, key
    return fields[6]


def _children(der: bytes) -> list[bytes]:
    """The elements inside the constructed element(s) ``der`` begins with, each with its header."""
    start, end = _extent(der, 0)
    found = []
    while start < end:
        _, stop = _extent(der, start)
        found.append(der[start:stop])
        start = stop
    return found


def _extent(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at ``at`` begins and ends."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(der[start : start + size], "big"), start + size
    return start, start + length
