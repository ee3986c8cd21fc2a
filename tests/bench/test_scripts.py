"""The scripts as a user runs them, and what they are made of."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.busy import busy
from bench.memory import HEADER, setup
from bench.parties import Parties, PartyFailed, Place
from bench.report import as_json, pairwise, spread, table, verdict
from bench.systems import choose
from bench.wormhole_forwards import Fowl

ROOT = Path(__file__).resolve().parents[2]


def run(module: str, *options: str, tree: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a script from the root of a source tree."""
    return subprocess.run(
        [sys.executable, "-m", f"bench.{module}", *options],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_whole_job_prints_one_figure_per_run_as_json() -> None:
    done = run("whole_job", "--only", "none", "--runs", "2", "--seconds", "0.05", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["runs"]["none"]
    assert len(figures["bulk"]) == 2
    assert min(figures["bulk"] + figures["fifty"] + figures["new"]) > 0
    assert figures["bulk_cpu"] == [None, None]


def test_the_whole_job_prints_an_aligned_table() -> None:
    done = run("whole_job", "--only", "none", "--runs", "1", "--seconds", "0.05")
    assert done.returncode == 0, done.stderr
    assert "congestion control" in done.stdout
    assert "\nnone " in done.stdout


def test_the_whole_job_runs_another_revision_in_turn(repository: Path) -> None:
    options = ("--only", "usher", "--runs", "1", "--seconds", "0.1", "--loads", "single,new")
    done = run("whole_job", *options, "--against", "HEAD", tree=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("usher")][:2] == [
        "usher",
        "usher@HEAD",
    ]
    (ratio,) = [line for line in lines if line.startswith("usher: new conn/s")]
    assert ratio.count("x") == 3


def test_the_whole_job_is_repeated_beside_busy_loops() -> None:
    options = ("--only", "none", "--loads", "single", "--repeat", "2", "--seconds", "0.05")
    done = run("whole_job", *options, "--busy", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Lowest, median and highest of 2 alternating runs" in done.stdout
    assert "1 busy loops per core" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("none  ")]
    figures = [float(figure.replace(",", "")) for figure in row.split()[1:4]]
    assert figures == sorted(figures)


def test_turns_are_measured_while_ends_are_scraped_and_while_they_are_not() -> None:
    options = ("--channels", "60", "--runs", "1", "--seconds", "0.3", "--json")
    done = run("scraped", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["channels"] == 60
    assert found["quiet"].keys() == found["scraped"].keys() == found["sizes"].keys()
    for turns in (*found["quiet"].values(), *found["scraped"].values()):
        assert all(0 <= collected <= taken for taken, collected in turns)
        assert len(turns) > 1


def test_an_unknown_load_is_named() -> None:
    done = run("whole_job", "--loads", "no-such")
    assert done.returncode == 2
    assert "no load 'no-such'" in done.stderr


def test_busy_loops_run_on_every_core_until_they_are_ended() -> None:
    with busy(2) as loops:
        assert len(loops) == 2 * len(os.sched_getaffinity(0))
        for loop in loops:
            assert Path(f"/proc/{loop}/comm").exists()
    assert not any(Path(f"/proc/{loop}").exists() for loop in loops)


def test_a_spread_is_the_lowest_the_median_and_the_highest() -> None:
    assert spread([3.0, 1.0, float("nan"), 2.0], "x") == "1.00x 2.00x 3.00x"
    assert spread([float("nan")]) == "-"
    ratios = pairwise([1.0, 2.0], [2.0, 0.0])
    assert ratios[0] == 0.5
    assert math.isnan(ratios[1])


def test_the_interactive_script_prints_idle_and_loaded_round_trips() -> None:
    options = ("--only", "none", "--scenes", "loopback", "--runs", "1", "--seconds", "0.2")
    done = run("interactive", *options, "--json")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)["scenes"]["loopback"]["none"]
    assert 0 < outcome["idle"] < 5
    assert 0 < outcome["loaded"] < 5
    assert outcome["rate"] > 1e6


def test_the_compression_script_measures_the_same_tunnel_twice() -> None:
    done = run("compression", "--only", "random", "--runs", "2", "--seconds", "0.05", "--json")
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]["random"]
    assert [len(runs[which]) for which in ("without", "with")] == [2, 2]
    assert min(run["rate"] for which in runs.values() for run in which) > 1e6


def test_the_x11_script_prints_rates_and_ratios() -> None:
    options = ("--scenes", "loopback", "--tests", "pointer", "--runs", "1", "--seconds", "0.05")
    done = run("x11", *options, "--only", "ssh -X,usher")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("pointer: ")]
    *_, through_ssh, through_usher, ratio, _ = row.replace(",", "").split()
    assert float(ratio.rstrip("x")) == pytest.approx(
        float(through_usher) / float(through_ssh),
        rel=0.02,
        abs=0.0051,  # two decimals
    )


@pytest.mark.parametrize("module", ["whole_job", "interactive", "memory", "x11"])
def test_an_unknown_system_is_named(module: str) -> None:
    done = run(module, "--only", "no-such")
    assert done.returncode != 0
    assert "no-such" in done.stderr


def test_fowl_says_what_of_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fowl").touch(0o700)
    (tmp_path / "python3").write_text("#!/bin/sh\necho magic-wormhole-mailbox-server\n")
    (tmp_path / "python3").chmod(0o700)
    monkeypatch.setattr("bench.wormhole_forwards.find", lambda name: str(tmp_path / name))
    monkeypatch.setattr("bench.system.find", lambda name: str(tmp_path / name))
    assert Fowl().missing() == ["magic-wormhole-mailbox-server"]


def test_choose_keeps_the_order_asked_for() -> None:
    assert [system.name for system in choose("lstp,none")] == ["lstp", "none"]


def test_a_party_that_ends_early_is_reported_with_its_last_words() -> None:
    with Parties() as parties:
        party = parties.start("broken", ["/bin/sh", "-c", "echo no luck; exit 3"], Place())
        party.process.wait(10)
        with pytest.raises(PartyFailed, match="broken ended with status 3: no luck"):
            parties.check()


def test_stopping_ends_the_descendants_and_removes_the_directory() -> None:
    with Parties() as parties:
        fifo = parties.directory / "alive"
        os.mkfifo(fifo)
        parties.start("shell", ["/bin/sh", "-c", f"sleep 300 > {fifo} & wait"], Place())
        reader = os.open(fifo, os.O_RDONLY)  # waits until the descendant has opened it
        directory = parties.directory
    with os.fdopen(reader, "rb") as alive:
        assert alive.read() == b""  # the end comes when the descendant is gone
    assert not directory.exists()


def test_the_cells_of_a_table_line_up() -> None:
    lines = table(["name", "n"], [["a", "1"], ["longer", "1,000"]]).splitlines()
    assert lines == ["name        n", "------  -----", "a           1", "longer  1,000"]


def test_a_verdict_compares_with_the_aim() -> None:
    assert verdict(2.0, 2.0) == "ok"
    assert verdict(1.9, 2.0) == "short"
    assert verdict(0.6, 0.5, at_most=True) == "short"
    assert verdict(float("nan"), 0.5) == "-"


def test_json_has_null_where_there_is_no_figure() -> None:
    assert json.loads(as_json({"a": (1.0, float("nan"))})) == {"a": [1.0, None]}


def test_the_setup_of_an_end_is_two_messages() -> None:
    data = setup("x" * 43, "client-end", 7)
    length, kind, *_ = HEADER.unpack_from(data)
    assert kind == 1
    assert json.loads(data[HEADER.size : HEADER.size + length])["common"] == "x" * 43
    second = data[HEADER.size + length :]
    length, kind, *_ = HEADER.unpack_from(second)
    assert (kind, len(second)) == (2, HEADER.size + length)


def test_devices_are_measured() -> None:
    done = run("wtls", "--devices", "20", "--runs", "1", "--seconds", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert 0 < figures["cpu_seconds_per_handshake"] < 0.1
    assert len(figures["datagrams"]) == 3
    assert min(rates[0] for rates in figures["datagrams"].values()) > 100


def test_the_secure_proxy_is_measured_beside_haproxy() -> None:
    done = run("secure_proxy", "--only", "sites", "--runs", "1", "--seconds", "0.2")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("spares-4")]
    assert len(rows) == 3
    assert all(float(figure.replace(",", "")) > 0 for figure in rows[0][1:2] + rows[0][4:])
