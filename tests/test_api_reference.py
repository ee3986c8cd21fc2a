"""The API reference can be made, and what its docstrings link to is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = re.compile(r'Cannot find link target for "(twisted|zope|typing|enum|socket|time)\.')
"""Names of other packages are not links."""


@pytest.mark.timeout(300)
def test_the_reference_is_made_without_a_broken_link_or_docstring(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "pydoctor", f"--html-output={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    complaints = [
        line
        for line in made.stdout.splitlines()
        if re.match(r"\S+\.py:\d+: ", line)
        and not ELSEWHERE.search(line)
        # It does not know that an interface of another package makes its heirs interfaces.
        and not line.endswith("is not an interface")
    ]
    assert complaints == []
    pages = {page.name for page in tmp_path.glob("tunnelkit.*.html")}
    assert {
        "tunnelkit.interfaces.ITunnel.html",
        "tunnelkit.LstpEnd.html",
        "tunnelkit.DirectTunnel.html",
        "tunnelkit.testing.conformance.ChannelProtocolChecks.html",
        "tunnelkit.core.mux.contract.Mux.html",
        "tunnelkit.net.tls.dtls_server.DtlsServer.html",
    } <= pages
    front = (tmp_path / "index.html").read_text()
    assert "tunnelkit" in front
