"""testssl.sh against every TLS port, which takes some minutes.

::

    python -m tests.foreign.testssl

Prints each finding that is not fine, by port. Status 1: one of them is rated LOW or worse and is
not among those that are explained in README.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.acceptance.processes import Identities, Processes
from tests.foreign.places import Place, start_places

FINE = ("OK", "INFO", "DEBUG")
EXPLAINED = {
    "cert_chain_of_trust": "the CA is the owner's own",
    "cert_trust": "the name is the end's, not the host's",
    "cert_revocation": "revocation lists are files",
    "cert_notRevoked": "revocation lists are files",
    "cert_crlDistributionPoints": "revocation lists are files",
    "cert_ocspURL": "revocation lists are files",
    "OCSP_stapling": "revocation lists are files",
    "DNS_CAArecord": "there is no public CA",
    "cert_validityPeriod": "certificates are for a year, from the owner's own CA",
    "cert_extlifeSpan": "certificates are for a year, from the owner's own CA",
    "cert_keyUsage": "what it looks for is for RSA",
    "HSTS": "no pages of others are served under the server's own name",
    "security_headers": "see the pages' own tests",
    "BREACH": "nothing secret is in a compressed answer",
    "cipher_order": "all ciphers are good ones",
    "HTTP_status_code": "there is no HTTP",
    "sessionresumption_ticket": "the scanner asks in a way that is not answered",
    "scanTime": "the scanner ran into its own time limit",
    "optimal_proto": "the scanner asks once without the name",
    "scanProblem": "the scanner found no server that answers HTTP",
    "overall_grade": "a private CA is graded T whatever else there is",
    "grade_cap_reasons": "a private CA is graded T whatever else there is",
}


def scan(place: Place, directory: Path) -> list[dict[str, str]]:
    """What testssl.sh finds there."""
    out = directory / "findings.json"
    out.unlink(missing_ok=True)
    host, _, port = place.address.rpartition(":")
    target = f"{place.server_name or host}:{port}"
    where = ["--ip", host] if place.server_name else []
    subprocess.run(
        [
            *("testssl", "--quiet", "--color", "0", "--warnings", "off", "--assume-http"),
            *("--ids-friendly", "--connect-timeout", "10", "--openssl-timeout", "10"),
            *("--jsonfile", str(out), *where, target),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        timeout=1800,
        check=False,
    )
    found: list[dict[str, str]] = json.loads(out.read_text())
    return found


def main() -> int:
    """The command."""
    bad = 0
    with tempfile.TemporaryDirectory(prefix="testssl-") as name:
        directory = Path(name)
        processes = Processes(directory)
        try:
            for place in start_places(processes, Identities.create(directory / "keys")):
                findings = scan(place, directory)
                good = sum(one["severity"] in FINE for one in findings)
                print(f"{place.name}: {len(findings)} findings, {good} of them fine", flush=True)
                for one in findings:
                    if one["severity"] in FINE:
                        continue
                    key = one["id"].split(" ")[0].split("<")[0]
                    why = EXPLAINED.get(key)
                    bad += why is None
                    print(
                        f"  {one['severity']:8} {one['id']}: {one['finding']}"
                        f" ({why or 'NOT EXPLAINED'})",
                        flush=True,
                    )
        finally:
            processes.end()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
