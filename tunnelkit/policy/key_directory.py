"""The directory of ``tunnelkit keys``: a CA in files, and the record of what it issued (K1).

::

    KEYS/ca.pem        the CA's key and certificate, and the rendezvous secret
    KEYS/NAME.pem      identities, unless they were written elsewhere
    KEYS/issued.json   every certificate ever issued: serial number, name, dates
    KEYS/revoked.crl   the revocation list, there from the beginning

Directories are 0700 and files 0600; new files never replace anything, and
changed ones are replaced whole, so that no crash leaves half a file (X13).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tunnelkit.errors import ConfigError
from tunnelkit.policy.files import make_durable, read_private_file, reason, written_beside
from tunnelkit.policy.identity import (
    SECRET_BYTES,
    Identity,
    fingerprint,
    has_encrypted_key,
    identity_pem,
    key_pem,
    parse_authority,
    secret_pem,
)
from tunnelkit.policy.key_requests import Request, answer_pem
from tunnelkit.policy.keys import END_DAYS, Authority, check_name
from tunnelkit.policy.passphrases import unlock
from tunnelkit.policy.printable import printable
from tunnelkit.policy.revocation import LIST_FILE

AUTHORITY_FILE = "ca.pem"
RECORD_FILE = "issued.json"


@attrs.frozen
class Issued:
    """One certificate that the CA has issued."""

    serial: int
    name: str
    not_after: datetime
    revoked: datetime | None = None
    """When it was revoked."""
    pin: str = ""
    """The fingerprint of its key; empty in records of old."""

    def state(self, now: datetime) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked is not None:
            return "revoked"
        return "valid" if now <= self.not_after else "expired"


class KeyDirectory:
    """One ``--dir KEYS``. Every method raises `ConfigError` for what its user can mend."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.revocation_file = self.path / LIST_FILE
        self._shown = printable(os.fspath(path))
        self._passphrase: bytes | None = None
        """Of the CA's key, while something is done with it."""

    # -- verbs ------------------------------------------------------------

    def create(self, passphrase: bytes | None = None) -> Authority:
        """Make the directory (its parent must exist) with a new CA and an empty revocation list.

        With a passphrase the CA's key is encrypted (K6).
        """
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            self._check_directory()
        except OSError as error:
            raise ConfigError(f"keys {self._shown}: cannot be made: {reason(error)}") from None
        with self._locked():
            authority = Authority.create()
            if os.path.lexists(self.path / AUTHORITY_FILE):
                raise ConfigError(
                    f"{printable(os.fspath(self.path / AUTHORITY_FILE))}: exists already: "
                    "'tunnelkit keys issue NAME' goes on with this CA"
                )
            write_new(self.path / AUTHORITY_FILE, authority_pem(authority, passphrase))
            self._save(authority, [])
            ignored = self.path / ".gitignore"
            if not os.path.lexists(ignored):
                # Nothing here belongs into anybody's repository.
                write_new(ignored, b"*\n")
        return authority

    def load(self) -> Authority:
        """The CA in this directory."""
        self._check_directory()
        path = self.path / AUTHORITY_FILE
        if not path.exists():
            raise self._no_authority()
        where = f"CA {printable(os.fspath(path))}"
        content = read_private_file(path, where)
        if has_encrypted_key(content) and self._passphrase is None:
            unlock(where, partial(self._unlock, content, where))
        private_key, certificate, secret = parse_authority(content, where, self._passphrase)
        if not isinstance(private_key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{where}: expected an ECDSA key, as 'tunnelkit keys init' makes it")
        return Authority(private_key, certificate, secret)

    def _no_authority(self) -> ConfigError:
        remedy = f"'tunnelkit keys init --dir {self._shown}' makes one"
        return ConfigError(f"keys {self._shown}: there is no CA: {remedy}")

    def _unlock(self, content: bytes, where: str, passphrase: bytes) -> None:
        parse_authority(content, where, passphrase)
        self._passphrase = passphrase

    def issue(
        self,
        name: str,
        *,
        out: str | os.PathLike[str] | None = None,
        days: float = END_DAYS,
        passphrase: bytes | None = None,
    ) -> tuple[Identity, Path]:
        """A new identity in ``out`` (default KEYS/NAME.pem), a file that must not exist yet.

        With a passphrase its key is encrypted (K6).
        """
        path = self._identity_path(name, out)
        with self._locked():
            authority, issued = self.load(), self.issued()
            if _is_valid(name, issued):
                raise ConfigError(
                    f"{name} has an identity already: 'tunnelkit keys renew {name}' makes a new "
                    f"one, 'tunnelkit keys revoke {name}' withdraws it"
                )
            if os.path.lexists(path):
                raise ConfigError(
                    f"{printable(os.fspath(path))}: exists already: 'tunnelkit keys renew {name}' "
                    "replaces what the CA issued"
                )
            identity = self._record(authority, issued, name, days)
            write_new(path, identity_pem(identity, passphrase))
        return identity, path

    def sign(
        self,
        request: Request,
        out: str | os.PathLike[str],
        *,
        days: float = END_DAYS,
        again: bool = False,
    ) -> x509.Certificate:
        """A certificate for a key of somebody else, in ``out``, a new file (row K6).

        ``again``: also for a name that has one that is valid.
        """
        with self._locked():
            authority, issued = self.load(), self.issued()
            name = request.name
            if not again and _is_valid(name, issued):
                raise ConfigError(
                    f"{name} has an identity already: --again signs one more, 'tunnelkit keys "
                    f"revoke {name}' withdraws it"
                )
            if os.path.lexists(out):
                raise ConfigError(f"{printable(os.fspath(out))}: exists already")
            certificate = self._certify(authority, issued, request, days)
            secret = authority.rendezvous_secret
            write_new(Path(out), answer_pem(certificate, authority.certificate, secret))
        return certificate

    def certify(self, request: Request, days: float = END_DAYS) -> x509.Certificate:
        """A certificate for a key of somebody else, for a name that has none; what is done with
        it is the caller's business (row Q2)."""
        with self._locked():
            authority, issued = self.load(), self.issued()
            if _is_valid(request.name, issued):
                raise ConfigError(
                    f"{request.name} has an identity already: expected another name, or 'tunnelkit "
                    f"keys revoke {request.name}' first"
                )
            return self._certify(authority, issued, request, days)

    def renew(
        self,
        name: str,
        *,
        out: str | os.PathLike[str] | None = None,
        days: float = END_DAYS,
        rendezvous_secret: bool = False,
        passphrase: bytes | None = None,
    ) -> tuple[Identity, Path]:
        """A new key and certificate for a name that has been issued before; replaces the file.

        Certificates issued earlier stay valid until they expire or are
        revoked. ``rendezvous_secret``: also a new rendezvous secret for this
        CA, which every other end gets when it is renewed in turn (K5).
        """
        path = self._identity_path(name, out)
        with self._locked():
            authority, issued = self.load(), self.issued()
            if all(entry.name != name for entry in issued):
                raise ConfigError(f"{name} has never been issued by the CA in {self._shown}")
            if passphrase is None and path.exists() and has_encrypted_key(path.read_bytes()):
                raise ConfigError(f"{name} has a passphrase: expected --passphrase for the new one")
            if rendezvous_secret:
                authority = self._with_new_secret(authority)
            identity = self._record(authority, issued, name, days)
            self._replace(path, identity_pem(identity, passphrase))
        return identity, path

    def new_secret(self) -> None:
        """A new rendezvous secret, which each end gets when it is renewed (K5)."""
        with self._locked():
            self._with_new_secret(self.load())

    def _with_new_secret(self, authority: Authority) -> Authority:
        fresh = attrs.evolve(authority, rendezvous_secret=os.urandom(SECRET_BYTES))
        self._replace(self.path / AUTHORITY_FILE, authority_pem(fresh, self._passphrase))
        return fresh

    def revoke(self, name: str, days: float | None = None) -> list[Issued]:
        """Put every certificate of ``name`` on the revocation list; returns those newly on it.

        The list is valid for ``days`` from now; None: as long as the CA.
        """
        check_name(name)
        with self._locked():
            authority, issued = self.load(), self.issued()
            if all(entry.name != name for entry in issued):
                raise ConfigError(f"{name} has never been issued by the CA in {self._shown}")
            now = datetime.now(timezone.utc).replace(microsecond=0)
            changed = [
                attrs.evolve(entry, revoked=now)
                for entry in issued
                if entry.name == name and entry.revoked is None
            ]
            fresh = {entry.serial: entry for entry in changed}
            # Also when nothing is new: the list is made again, in case the file was lost.
            self._save(authority, [fresh.get(entry.serial, entry) for entry in issued], days)
        return changed

    def list_again(self, days: float | None = None) -> None:
        """Make the revocation list anew, valid for ``days`` from now (None: as long as the CA)."""
        with self._locked():
            self._save(self.load(), self.issued(), days)

    def issued(self) -> list[Issued]:
        """Every certificate that was ever issued, oldest first."""
        path = self.path / RECORD_FILE
        if not path.exists():
            self._check_directory()
            raise self._no_authority()
        where = f"record {printable(os.fspath(path))}"
        try:
            document = json.loads(read_private_file(path, where, largest=67_108_864))
            return [_entry(fields) for fields in document["issued"]]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{where}: is not what 'tunnelkit keys' writes") from None

    # -- files ------------------------------------------------------------

    def _identity_path(self, name: str, out: str | os.PathLike[str] | None) -> Path:
        check_name(name)
        if out is not None:
            return Path(out)
        path = self.path / f"{name}.pem"
        if path.name.lower() == AUTHORITY_FILE:
            raise ConfigError(f"{name}: the CA's own file has this name, use --out FILE")
        return path

    def _record(
        self, authority: Authority, issued: list[Issued], name: str, days: float
    ) -> Identity:
        identity = authority.issue(name, days=days)
        self._note(issued, name, identity.credentials.certificate)
        return identity

    def _certify(
        self, authority: Authority, issued: list[Issued], request: Request, days: float
    ) -> x509.Certificate:
        certificate = authority.certify(request.name, request.public_key, days=days)
        self._note(issued, request.name, certificate)
        return certificate

    def _note(self, issued: list[Issued], name: str, certificate: x509.Certificate) -> None:
        until, pin = certificate.not_valid_after_utc, fingerprint(certificate)
        entry = Issued(certificate.serial_number, name, until, pin=pin)
        # Before the identity itself is written: what exists can always be revoked.
        self._replace(self.path / RECORD_FILE, _document([*issued, entry]))

    def _save(self, authority: Authority, issued: list[Issued], days: float | None = None) -> None:
        self._replace(self.path / RECORD_FILE, _document(issued))
        revoked = {entry.serial: entry.revoked for entry in issued if entry.revoked is not None}
        crl = authority.revocation_list(revoked, number=len(revoked) + 1, days=days)
        self._replace(self.revocation_file, crl.public_bytes(Encoding.PEM))

    def _check_directory(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError as error:
            raise ConfigError(
                f"keys {self._shown}: {reason(error)}: 'tunnelkit keys init --dir {self._shown}' "
                "makes it"
            ) from None
        except OSError as error:
            raise ConfigError(f"keys {self._shown}: {reason(error)}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"keys {self._shown}: is not a directory")
        if status.st_mode & 0o077:
            raise ConfigError(
                f"keys {self._shown}: others can enter it (mode {status.st_mode & 0o777:04o}): "
                f"chmod 700 {self._shown}"
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands at once take turns; otherwise one's certificate would miss in the record."""
        self._check_directory()
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, path: Path, content: bytes) -> None:
        write_over(path, content)


def write_new(path: Path, content: bytes) -> None:
    """A file (0600) that did not exist, whole or not at all; raises `ConfigError`."""
    with _temporary(path, content) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise ConfigError(f"{printable(os.fspath(path))}: exists already") from None


def write_over(path: Path, content: bytes, mode: int = 0o600) -> None:
    """A file in place of one that may be there, whole or not at all; raises `ConfigError`."""
    with _temporary(path, content) as temporary:
        os.chmod(temporary, mode)
        os.replace(temporary, path)
        make_durable(path)


@contextlib.contextmanager
def _temporary(path: Path, content: bytes) -> Iterator[str]:
    """See `written_beside`; raises `ConfigError`."""
    try:
        with written_beside(path, content) as name:
            yield name
    except OSError as error:
        raise ConfigError(
            f"{printable(os.fspath(path))}: cannot be written: {reason(error)}"
        ) from None


def authority_pem(authority: Authority, passphrase: bytes | None = None) -> bytes:
    """The CA's file: an identity file without an end's certificate."""
    return b"".join(
        (
            key_pem(authority.private_key, passphrase),
            authority.certificate.public_bytes(Encoding.PEM),
            secret_pem(authority.rendezvous_secret),
        )
    )


def _document(issued: list[Issued]) -> bytes:
    entries = [
        {
            "serial": f"{entry.serial:x}",
            "name": entry.name,
            "not_after": entry.not_after.isoformat(),
            "revoked": entry.revoked.isoformat() if entry.revoked else None,
            "pin": entry.pin,
        }
        for entry in issued
    ]
    return json.dumps({"issued": entries}, indent=1).encode() + b"\n"


def _is_valid(name: str, issued: list[Issued]) -> bool:
    """Whether ``name`` has a certificate that counts."""
    now = datetime.now(timezone.utc)
    return any(entry.name == name and entry.state(now) == "valid" for entry in issued)


def _entry(fields: Any) -> Issued:
    revoked = fields["revoked"]
    return Issued(
        int(fields["serial"], 16),
        str(fields["name"]),
        datetime.fromisoformat(fields["not_after"]),
        datetime.fromisoformat(revoked) if revoked else None,
        str(fields.get("pin", "")),
    )
