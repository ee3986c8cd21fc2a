"""`from tunnelkit import ...`: light to import, and each name leads to what it says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import tunnelkit
from tunnelkit.errors import ConfigError

MISSPELT = "LstpMiddel"


def test_importing_the_package_imports_no_reactor_and_no_tls() -> None:
    script = "import sys, tunnelkit; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    heavy = ("twisted", "OpenSSL", "cryptography", "attr", "zope.interface")
    loaded = [name for name in done.stdout.split() if name.startswith(heavy)]
    assert loaded == []


@pytest.mark.parametrize("name", tunnelkit.__all__)
def test_each_name_is_there(name: str) -> None:
    found = getattr(tunnelkit, name)
    assert name == "__version__" or name in (found.__name__, f"{found.__name__.split('.')[-1]}")
    assert name in dir(tunnelkit)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LstpMiddel'"):
        getattr(tunnelkit, MISSPELT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gaet": "h:1"}, r"UsherPortal: gaet is not an option \(did you mean 'gate'\?\)"),
        ({"gate": ["h:1", "h:2"]}, "UsherPortal: gate: 2 values: expected one"),
        ({"gate": True}, "UsherPortal: gate: True: expected a value"),
        ({"gate": "h:1", "manual": "x"}, "UsherPortal: manual: x: expected True or False"),
        ({"identity": "none.pem"}, "UsherPortal: identity: identity none.pem"),
    ],
)
def test_a_mistake_is_told_with_its_place(options: dict[str, Any], message: str) -> None:
    from twisted.internet.task import Clock

    from tunnelkit.services.library import UsherPortal

    keywords: dict[str, Any] = {"gate": "h:1", "identity": "none.pem", "peer": "x"} | options
    with pytest.raises(ConfigError, match=message):
        UsherPortal(Clock(), **keywords)
