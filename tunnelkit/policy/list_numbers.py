"""The number of the newest revocation list of each CA, remembered over restarts (rule X30).

Whoever can put an older list in the place of the newer one would let the revoked in again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography import x509

from tunnelkit.policy.files import reason
from tunnelkit.policy.printable import printable
from tunnelkit.policy.state_file import StateFile

FILE = "crl-numbers.json"


class ListNumbers:
    """What is known, in ``DIR/crl-numbers.json``; in memory alone where that cannot be written."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._file = StateFile(Path(directory) / FILE)
        self._newest: dict[str, int] = {}
        self.problem = ""
        """One line that says why nothing is kept over a restart; empty while it is."""

    def older(
        self, crls: Iterable[x509.CertificateRevocationList], note: bool = True
    ) -> tuple[int, int] | None:
        """Take note of ``crls``, whose signatures are good; without ``note`` only look.

        The number of one that is older than one seen before, and that one's number; None: all are
        as new as known.
        """
        found = {
            ca: number
            for crl in crls
            if (number := list_number(crl)) is not None
            for ca in (_authority(crl),)
        }
        try:
            with self._file.locked():
                self._merge(self._read())
                older = self._compare(found)
                if not note:
                    return older
                before = dict(self._newest)
                self._merge(found)
                if self._newest != before:
                    self._file.write(self._newest)
            self.problem = ""
            return older
        except OSError as error:
            self.problem = (
                f"{printable(os.fspath(self._file.path))}: cannot be kept ({reason(error)}): after "
                "a restart an older revocation list is believed; expected --state-dir DIR"
            )
        older = self._compare(found)
        if note:
            self._merge(found)
        return older

    def _compare(self, found: Mapping[str, int]) -> tuple[int, int] | None:
        for ca, number in found.items():
            if number < self._newest.get(ca, number):
                return number, self._newest[ca]
        return None

    def _merge(self, found: Mapping[str, int]) -> None:
        for ca, number in found.items():
            self._newest[ca] = max(number, self._newest.get(ca, number))

    def _read(self) -> dict[str, int]:
        known = self._file.read()
        return {ca: number for ca, number in known.items() if isinstance(number, int)}


def list_number(crl: x509.CertificateRevocationList) -> int | None:
    """What its CA counts it as; None: it does not."""
    try:
        return int(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    except (x509.ExtensionNotFound, ValueError):
        return None


def _authority(crl: x509.CertificateRevocationList) -> str:
    """The CA: a new one of the same name counts its lists from the beginning."""
    try:
        key = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        identifier = key.value.key_identifier or b""
    except (x509.ExtensionNotFound, ValueError):
        identifier = b""
    return hashlib.sha256(crl.issuer.public_bytes() + identifier).hexdigest()
