"""Revocation lists that were put back: not believed a second time (rule X30)."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from tunnelkit.policy.keys import Authority
from tunnelkit.policy.list_numbers import FILE, ListNumbers
from tunnelkit.policy.revocation import Revocations, load_revocations

AUTHORITY = Authority.create()
NOW = datetime.now(timezone.utc)


def load(directory: Path, number: int, seen: ListNumbers, ca: Authority = AUTHORITY) -> Revocations:
    path = directory / "revoked.crl"
    path.write_bytes(ca.revocation_list({}, number=number).public_bytes(Encoding.PEM))
    return load_revocations(path, (ca.certificate,), seen=seen)


def test_an_older_list_is_not_believed_also_by_the_next_process(tmp_path: Path) -> None:
    numbers = ListNumbers(tmp_path)
    assert load(tmp_path, 3, numbers).problem == ""
    for seen in (numbers, ListNumbers(tmp_path)):
        older = load(tmp_path, 2, seen)
        assert "revoked.crl: is number 2, and number 3 was seen before" in older.problem
        assert older.is_revoked([])
        assert load(tmp_path, 3, seen).problem == ""
    assert load(tmp_path, 4, numbers).problem == ""
    assert load(tmp_path, 3, ListNumbers(tmp_path)).problem
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_another_ca_of_the_same_name_counts_for_itself(tmp_path: Path) -> None:
    assert load(tmp_path, 9, ListNumbers(tmp_path)).problem == ""
    assert load(tmp_path, 1, ListNumbers(tmp_path), Authority.create()).problem == ""


def test_two_processes_do_not_forget_what_the_other_has_seen(tmp_path: Path) -> None:
    first, second, other = ListNumbers(tmp_path), ListNumbers(tmp_path), Authority.create()
    load(tmp_path, 5, first)
    load(tmp_path, 7, second, other)
    load(tmp_path, 6, first)
    assert load(tmp_path, 6, ListNumbers(tmp_path), other).problem
    assert load(tmp_path, 5, ListNumbers(tmp_path)).problem


def test_where_nothing_can_be_kept_it_is_said_and_kept_in_memory(tmp_path: Path) -> None:
    numbers = ListNumbers(tmp_path / "nowhere")
    assert load(tmp_path, 3, numbers).problem == ""
    assert "expected --state-dir DIR" in numbers.problem
    assert load(tmp_path, 2, numbers).problem


def test_a_broken_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[")
    assert load(tmp_path, 3, ListNumbers(tmp_path)).problem == ""
    assert load(tmp_path, 2, ListNumbers(tmp_path)).problem
