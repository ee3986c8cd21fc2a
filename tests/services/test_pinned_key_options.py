"""Ends that trust pinned keys: what goes together, and what does not (K3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.roles import options_class
from tests.services.test_options import Refusal
from tunnelkit.net.tls.context import spki_pin
from tunnelkit.policy.identity import identity_pem
from tunnelkit.policy.keys import Authority, self_signed

OWN = self_signed("laptop")
OTHER, THIRD = self_signed("office").fingerprint, self_signed("site").fingerprint


def write(directory: Path, content: bytes) -> Path:
    path = directory / "identity.pem"
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


@pytest.fixture
def needed(tmp_path: Path) -> list[str]:
    """What a portal needs, but for whom it trusts."""
    return ["--gate", "gate:7000", "--identity", str(write(tmp_path, identity_pem(OWN)))]


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(capfd)


def test_keys_are_trusted_instead_of_names(needed: list[str]) -> None:
    options = options_class("usher-portal")()
    words = [*needed, "--peer-pin", OTHER, "--peer-pin", "sha256:" + THIRD[7:].upper()]
    options.parseOptions([*words, "--allow", "tcp:10.0.0.1:1"])
    assert options.config.peers == frozenset()
    assert options.config.pins == {bytes.fromhex(pin[7:]): pin[:23] for pin in (OTHER, THIRD)}


def test_a_key_goes_by_the_name_it_is_given(needed: list[str]) -> None:
    options = options_class("usher-portal")()
    words = ["--peer-pin", f"office={OTHER}", "--peer-pin", f"office={THIRD}"]
    options.parseOptions([*needed, *words, "--allow", "office=tcp:10.0.0.1:1"])
    assert set(options.config.pins.values()) == {"office"}


def test_an_identity_of_a_ca_may_trust_keys_too(tmp_path: Path) -> None:
    identity = Authority.create().issue("laptop")
    options = options_class("usher-portal")()
    file = write(tmp_path, identity_pem(identity))
    options.parseOptions(
        ["--gate", "gate:7000", "--identity", str(file), "--peer-pin", OTHER, "--socks", "0"]
    )
    assert spki_pin(identity.credentials.certificate) not in options.config.pins


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peer-pin", OTHER, "--peer", "office"], "--peer office: there are pinned keys"),
        (["--peer-pin", OTHER, "--crl", "x.crl"], "--crl x.crl: there are pinned keys"),
        (["--peer-pin", OWN.fingerprint], f"--peer-pin {OWN.fingerprint}: that is this end's own"),
        (["--peer-pin", "sha256:12"], "--peer-pin: 'sha256:12' is not a fingerprint"),
        (["--peer-pin", OTHER[7:]], f"--peer-pin: '{OTHER[7:]}' is not a fingerprint"),
        (["--peer", "office"], "--identity "),
        ([], "--peer is missing: expected NAME that the other end's certificate has"),
    ],
    ids=["name", "list", "own pin", "short pin", "no prefix", "name alone", "nothing"],
)
def test_what_does_not_go_together(
    refusal: Refusal, needed: list[str], words: list[str], said: str
) -> None:
    line = refusal("usher-portal", *needed, *words)
    assert line.startswith(said)
    assert "expected" in line


@pytest.mark.parametrize("pin", [OTHER, f"site={OTHER}"], ids=["bare", "named"])
def test_no_rule_is_for_a_name_that_no_pin_has(
    refusal: Refusal, needed: list[str], pin: str
) -> None:
    gate = ["--listen", "0", *needed[2:], "--allow", "office=tcp:10.0.0.1:1"]
    options_class("usher-gate")().parseOptions([*gate, "--peer-pin", f"office={OTHER}"])
    line = refusal("usher-gate", *gate, "--peer-pin", pin)
    assert line.startswith("--allow office=tcp:10.0.0.1:1: no pinned key is called that")


def test_one_key_has_one_name(refusal: Refusal, needed: list[str]) -> None:
    words = ["--peer-pin", f"a={OTHER}", "--peer-pin", f"b={OTHER}", "--socks", "0"]
    assert "this key is called a already" in refusal("usher-portal", *needed, *words)
