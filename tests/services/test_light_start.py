"""What every start of twistd pays for tunnelkit, whatever it starts: little."""

from __future__ import annotations

import subprocess
import sys

FINDS = """
import sys
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
assert "usher-gate" in [plug_in.tapname for plug_in in getPlugins(IServiceMaker)]
from tunnelkit.frontends.registry import front_ends
assert "socks" in [front_end.name for front_end in front_ends()]
print(*sorted(sys.modules))
"""
HEAVY = ("OpenSSL", "cryptography", "tunnelkit.egress", "tunnelkit.net.tls", "tunnelkit.roles.end")


def test_finding_roles_and_front_ends_imports_none_of_their_code() -> None:
    done = subprocess.run([sys.executable, "-c", FINDS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    imported = done.stdout.split()
    assert "tunnelkit.frontends.registry" in imported
    assert [name for name in imported if name.startswith(HEAVY)] == []
