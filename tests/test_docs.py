"""The documentation is true: its links lead somewhere, its commands work, its options exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.processes import free_port
from tests.services.roles import ROLES, options_class
from tunnelkit.cli.cmd_completion import known_words

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(
    r"(?:\$ )?(?:[A-Z]+=\S* )*(?:python\S* )?(?:\S*/)?tunnelkit(?:\.pyz)? ([a-z].*)"
)
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for _, target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs/threat").glob("*.md")), ids=lambda p: p.name)
def test_tests_that_are_named_are_in_the_file_that_is_linked(page: Path) -> None:
    named = [
        (name.strip("`"), page.parent / target)
        for name, target in LINK.findall(page.read_text())
        if name.startswith("`test_")
    ]
    assert named
    for name, file in named:
        assert f"def {name}(" in file.read_text(), name


@pytest.mark.parametrize(
    ("page", "rows"),
    [
        ("rules.md", [f"X{number}" for number in range(23, 35)]),
        ("found.md", [f"U-{number}" for number in range(1, 25)]),
    ],
)
def test_every_rule_and_every_finding_has_a_test(page: str, rows: list[str]) -> None:
    text = (ROOT / "docs/threat" / page).read_text()
    for row in rows:
        (line,) = re.findall(rf"^\| {row} \| .*$", text, re.MULTILINE)
        assert "[`test_" in line, row


@pytest.mark.parametrize("role", ROLES)
def test_the_reference_has_every_option(role: str) -> None:
    text = (ROOT / "docs/reference/command-line.md").read_text()
    for name in options_class(role).known() | {"config"}:
        assert f"`--{name}`" in text


def commands_in(page: Path) -> list[list[str]]:
    """The command lines of the program in the blocks of a page."""
    found = []
    for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = COMMAND.match(line)
            if command:
                found.append(command[1].split("#")[0].split())
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_pages_and_their_options_are_there(page: Path) -> None:
    known = known_words()
    for words in commands_in(page):
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert name in known, words
        if words[0] in ("check", "doctor") and len(words) > 1 and words[1] in known:
            name = words[1]
        for word in words:
            if word.startswith("--"):
                option = word.rstrip("]").partition("=")[0]
                assert option in known[name], f"{option} of tunnelkit {name}"


@pytest.mark.timeout(60)
def test_the_quick_start_of_the_readme_works_when_it_is_pasted(tmp_path: Path) -> None:
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (script,) = [block for block in blocks if "keys init" in block]
    (tmp_path / "index.html").write_text("from the other side\n")
    for port in ("1080", "7000", "8000", "8080"):
        script = re.sub(rf"\b{port}\b", str(free_port()), script)
    # In a shell of its own whose children end with it.
    script = f"trap 'kill $(jobs -p); wait' EXIT\n{script}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env={**clean, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("from the other side\n") == 2, done.stdout + done.stderr
