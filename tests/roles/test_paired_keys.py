"""Two paired ends renew their keys, and know each other wherever that stops (row Q2)."""

from __future__ import annotations

import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.roles.paired_ends import End, Wire, connect, outcome, write
from tunnelkit.errors import ConfigError
from tunnelkit.policy.identity import fingerprint, identity_pem, load_identity
from tunnelkit.policy.keys import Authority, self_signed
from tunnelkit.roles.credential_watch import CredentialWatch


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path, office=("laptop",), laptop=("office",))
    return tmp_path


def pin_of(place: Path, name: str) -> str:
    return load_identity(place / f"{name}.pem").fingerprint


def pinned(place: Path, name: str, other: str) -> list[str]:
    """The keys of ``other`` in the file of ``name``, oldest first."""
    text = (place / f"{name}.toml").read_text()
    return [
        line.strip(' ",').partition("=")[2]
        for line in text.splitlines()
        if line.strip(' "').startswith(f"{other}=")
    ]


def test_both_have_new_keys_and_no_others(place: Path) -> None:
    old = {name: pin_of(place, name) for name in ("office", "laptop")}
    secret = load_identity(place / "laptop.pem").rendezvous_secret
    office, laptop, wire = End(place, "office"), End(place, "laptop"), Wire()
    connect(office, laptop, wire)
    found = outcome(laptop, wire)
    new = {name: pin_of(place, name) for name in ("office", "laptop")}
    assert not {*old.values()} & {*new.values()}
    assert found == {
        "name": "laptop",
        "key": new["laptop"],
        "waits_for": [],
        "peers": [{"peer": "office", "key": new["office"], "in_force": True, "problem": ""}],
    }
    assert pinned(place, "office", "laptop") == [new["laptop"]]
    assert pinned(place, "laptop", "office") == [new["office"]]
    assert load_identity(place / "laptop.pem").rendezvous_secret == secret
    for file in place.iterdir():
        assert file.suffix in (".pem", ".toml")
        if file.suffix == ".pem":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # The connection goes on by what has been said on it, and can renew them once more.
    again = outcome(office, wire)
    assert again["key"] == pin_of(place, "office") != new["office"]
    connect(End(place, "office"), End(place, "laptop"), Wire())


@pytest.mark.parametrize("most", range(1, 8))
def test_wherever_it_stops_the_two_know_each_other(place: Path, most: int) -> None:
    wire = Wire(most)
    office, laptop = End(place, "office"), End(place, "laptop")
    connect(office, laptop, wire)
    outcome(laptop, wire)
    # Either of them, or both, are started again from their files.
    for ends in (
        (office, End(place, "laptop")),
        (End(place, "office"), laptop),
        (End(place, "office"), End(place, "laptop")),
    ):
        goes_on = Wire()
        for end in ends:
            end.connections = ()
        connect(*ends, goes_on)
        goes_on.run()
    # What has been begun is brought to its end by the next connections.
    last = Wire()
    connect(End(place, "office"), End(place, "laptop"), last)
    last.run()
    assert not list(place.glob("*.next"))
    assert len(pinned(place, "office", "laptop")) == len(pinned(place, "laptop", "office")) == 1


def test_there_are_as_many_pieces_as_the_test_before_cuts(place: Path) -> None:
    wire = Wire()
    office, laptop = End(place, "office"), End(place, "laptop")
    connect(office, laptop, wire)
    outcome(laptop, wire)
    assert wire.passed < 8


def test_a_key_is_in_force_once_all_who_pin_it_know_it(tmp_path: Path) -> None:
    write(tmp_path, office=("laptop", "tablet"), laptop=("office",), tablet=("office",))
    office, laptop, wire = End(tmp_path, "office"), End(tmp_path, "laptop"), Wire()
    old = pin_of(tmp_path, "office")
    connect(office, laptop, wire)
    found = outcome(laptop, wire)
    assert found["waits_for"] == []
    assert not found["peers"][0]["in_force"]
    assert pin_of(tmp_path, "office") == old
    coming = found["peers"][0]["key"]
    assert pinned(tmp_path, "laptop", "office") == [old, coming]
    # The office is started again; then the other one comes.
    office.connections = laptop.connections = ()
    office = End(tmp_path, "office")
    connect(office, laptop, wire)
    wire.run()
    assert pin_of(tmp_path, "office") == old
    tablet = End(tmp_path, "tablet")
    connect(office, tablet, wire)
    wire.run()
    assert pin_of(tmp_path, "office") == coming
    assert pinned(tmp_path, "laptop", "office") == [coming]
    assert pinned(tmp_path, "tablet", "office") == [coming]


def test_who_is_not_pinned_any_more_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, office=("laptop", "tablet"), laptop=("office",), tablet=("office",))
    office, laptop, wire = End(tmp_path, "office"), End(tmp_path, "laptop"), Wire()
    connect(office, laptop, wire)
    found = outcome(office, wire)
    assert found["waits_for"] == ["tablet"]
    office.watch.pins = {pin: who for pin, who in office.watch.pins.items() if who != "tablet"}
    office.keys.settle()
    wire.run()
    assert pin_of(tmp_path, "office") == found["key"]


def test_who_comes_with_the_new_key_has_no_old_one_any_more(place: Path) -> None:
    # All but the last words have been said: the office knows two keys of the laptop.
    wire = Wire(3)
    office, laptop = End(place, "office"), End(place, "laptop")
    connect(office, laptop, wire)
    outcome(laptop, wire)
    assert len(pinned(place, "office", "laptop")) == 2
    new = pin_of(place, "laptop")
    assert pinned(place, "office", "laptop")[1] == new
    connect(End(place, "office"), End(place, "laptop"), Wire())
    assert pinned(place, "office", "laptop") == [new]


def refused(place: Path, **changes: Any) -> str:
    """Why the office does not take the laptop's key, which stays."""
    old = pin_of(place, "laptop")
    office, laptop, wire = End(place, "office"), End(place, "laptop"), Wire()
    for name, value in changes.items():
        setattr(laptop.keys, name, value)
    connect(office, laptop, wire)
    found = outcome(laptop, wire)
    assert pinned(place, "office", "laptop") == [old]
    assert pin_of(place, "laptop") == old
    assert not list(place.glob("*.next"))
    return str(found["peers"][0]["problem"])


def test_a_key_that_is_somebody_elses_is_not_taken(place: Path) -> None:
    office = load_identity(place / "office.pem").credentials.certificate
    other = self_signed("tablet").credentials.certificate
    issued = Authority.create().issue("laptop").credentials.certificate
    before = datetime.now(timezone.utc) - timedelta(days=9)
    late = self_signed("laptop", days=1, now=before).credentials.certificate
    for certificate, why in (
        (office, "has another name"),
        (other, "has another name"),
        (issued, "cannot be used"),
        (late, "not valid now"),
    ):
        der = certificate.public_bytes(Encoding.DER)
        assert why in refused(place, own=lambda renew, der=der: der), fingerprint(certificate)
    assert "cannot be used" in refused(place, own=lambda renew: b"rubbish")


def test_an_end_whose_keys_stay_says_so(place: Path) -> None:
    office, laptop, wire = End(place, "office"), End(place, "laptop"), Wire()
    office.stays = "they stay"
    connect(office, laptop, wire)
    found = outcome(laptop, wire)
    assert found["peers"] == [
        {"peer": "office", "key": "", "in_force": False, "problem": "they stay"}
    ]
    with pytest.raises(ConfigError, match="they stay"):
        office.keys.renew()
    assert not list(place.glob("*.next"))


def test_a_file_that_cannot_be_changed_is_told_to_both(place: Path) -> None:
    office, laptop, wire = End(place, "office"), End(place, "laptop"), Wire()
    connect(office, laptop, wire)
    file = place / "office.toml"
    file.write_text(file.read_text().replace("peer-pin = [", "peer-pin = [ # ["))
    file.write_text(file.read_text().replace('"laptop=', '"""laptop=').replace('",', '""",'))
    found = outcome(laptop, wire)
    assert "office.toml: expected a list" in found["peers"][0]["problem"]


def test_without_a_tunnel_nothing_is_renewed(place: Path) -> None:
    with pytest.raises(ConfigError, match="the tunnel is down: nobody is there"):
        End(place, "laptop").keys.renew()


def test_a_key_of_a_ca_or_with_a_passphrase_is_renewed_otherwise(place: Path) -> None:
    laptop = place / "laptop.pem"
    issued = Authority.create().issue("laptop")
    laptop.write_bytes(identity_pem(issued))
    with pytest.raises(ConfigError, match="'tunnelkit keys renew laptop' makes a new one"):
        End(place, "laptop").keys.renew()
    end = End(place, "office")
    identity = load_identity(place / "office.pem")
    (place / "office.pem").write_bytes(identity_pem(identity, b"secret"))
    with pytest.raises(ConfigError, match="has a passphrase"):
        end.keys.renew()


def test_two_at_once_are_told_so(place: Path) -> None:
    office, laptop, wire = End(place, "office"), End(place, "laptop"), Wire()
    connect(office, laptop, wire)
    found: list[Any] = []
    for end in (laptop, office):
        end.keys.renew().addBoth(found.append)
    wire.run()
    problems = [one["peers"][0]["problem"] for one in found]
    assert "both keys are renewed just now" in problems
    goes_on = Wire()
    connect(End(place, "office"), End(place, "laptop"), goes_on)
    goes_on.run()


def test_the_watch_has_what_the_keys_ask_of_it() -> None:
    for name in ("pins", "key_of", "succeed", "use_pins", "look"):
        assert hasattr(CredentialWatch, name)
