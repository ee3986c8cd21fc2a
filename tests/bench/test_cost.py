"""Counting what an operation costs, here and in another revision."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench.checkout import checkout
from bench.counting import FIGURES, cannot_trace, grown
from tests.bench.test_scripts import run


def test_the_cost_of_this_tree_and_of_a_revision_is_counted_in_every_way(
    repository: Path,
) -> None:
    options = ("--only", "usher", "--runs", "1", "--share", "0.02", "--against", "HEAD", "--json")
    done = run("cost", *options, tree=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert list(runs) == ["usher", "usher@HEAD"]
    for by_operation in runs.values():
        assert list(by_operation) == ["round trip", "channel's life"]
        for (counts,) in by_operation.values():
            assert set(counts) == {"usher-gate", "usher-portal", "all together"}
            for figure in FIGURES.keys() - ({"system"} if cannot_trace() else set()):
                values = [each["figures"][figure] for each in counts.values()]
                # The kernel's estimates may give one of the two all of the CPU.
                assert all(value > 0 or figure in ("user", "kernel") for value in values), figure
                assert sum(values) == pytest.approx(2 * values[-1])
            assert counts["usher-gate"]["functions"]
            assert cannot_trace() or "epoll_wait" in counts["usher-gate"]["system"]


def test_the_cost_is_printed_as_a_table_with_what_is_called_most() -> None:
    options = ("--only", "lstp", "--runs", "1", "--share", "0.02", "--functions", "2", "--files")
    done = run("cost", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lstp: round trip" in done.stdout
    assert "lstp: channel's life, lstp-middle, byte codes" not in done.stdout
    kinds = 3 if cannot_trace() else 4
    assert done.stdout.count("lstp: round trip, lstp-middle, ") == kinds
    assert "lstp: channel's life, lstp-server-end, calls by file:" in done.stdout
    assert "  ratio" not in done.stdout


MOST_CALLS = {
    "round trip": {"lstp-middle": 5, "lstp-server-end": 38, "lstp-client-end": 38},
    "channel's life": {"lstp-middle": 30, "lstp-server-end": 250, "lstp-client-end": 225},
}
"""Calls of Python functions per operation, a tenth above what they are: lower them with it."""


def test_a_message_and_a_channel_make_no_more_calls_than_they_did() -> None:
    done = run("cost", "--only", "lstp", "--runs", "1", "--share", "0.1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    for operation, parties in MOST_CALLS.items():
        (counts,) = json.loads(done.stdout)["runs"]["lstp"][operation]
        for party, most in parties.items():
            assert counts[party]["figures"]["calls"] <= most, (operation, party)


def test_a_revision_is_checked_out_beside_this_tree_and_removed(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.checkout.ROOT", repository)
    with checkout("HEAD") as tree:
        assert Path(tree, "tunnelkit").is_dir()
        assert tree.resolve() != repository
    assert not tree.exists()
    command = ["git", "-C", str(repository), "worktree", "list"]
    known = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(tree) not in known.stdout


@pytest.mark.parametrize("script", ["cost", "whole_job"])
def test_an_unknown_revision_is_named(script: str) -> None:
    done = run(script, "--against", "no-such-revision")
    assert done.returncode != 0
    assert "no revision 'no-such-revision'" in done.stderr


def test_a_difference_is_per_operation_and_leaves_out_what_did_not_change() -> None:
    before = {"codes": 100, "functions": {"a": 5, "b": 1}}
    after = {"codes": 300, "functions": {"a": 5, "b": 5, "c": 2}}
    assert grown(before, after, 4) == {"codes": 50, "functions": {"b": 1.0, "c": 0.5}}
