"""Which part of tunnelkit may import which: the order that the folder names promise."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tunnelkit"

LAYERS = (
    "wire",
    "core",
    "net",
    "policy",
    "local",
    "egress",
    "frontends",
    "roles",
    "services",
    "cli",
)
"""Each may import those before it."""
TOP = {"cli", "admin", "__main__"}
"""What stands at the top: the two rooms do not import each other; the module starts ``cli``."""
FOR_EVERYBODY = {"errors", "interfaces", "version", "__init__"}
ALONGSIDE = {"testing": "policy", "registry": "net"}
"""Parts beside the order: they may import what the named layer may, and that layer itself."""

CONTRACTS = {
    "tunnelkit.core.lease",
    "tunnelkit.core.mux.contract",
    "tunnelkit.core.prologue",
    "tunnelkit.net.channels.contracts",
    "tunnelkit.net.role_status",
    "tunnelkit.net.traffic",
    "tunnelkit.net.sockets.carrier",
    "tunnelkit.net.sockets.context",
    "tunnelkit.policy.acl",
    "tunnelkit.policy.identity",
    "tunnelkit.policy.settings",
}
"""In whose terms `tunnelkit.interfaces` speaks."""
GENERIC = (
    ("core", "mux"),
    ("core", "proxies"),
    ("net", "sockets"),
    ("net", "tls"),
    ("net", "dial"),
    ("net", "channels"),
    ("policy",),
    ("local",),
    ("egress",),
    ("frontends",),
)
"""Rooms that serve every protocol alike, but for what stands in a folder with its name."""
PROTOCOLS = re.compile("lstp|usher|secureproxy|wtls", re.IGNORECASE)

SANS_IO = ("wire", "core")
OUTSIDE_WORLD = {"twisted", "socket", "time", "asyncio", "select", "selectors", "threading"}
"""What a sans-IO module must not know of."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(module: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that ``module`` imports, at its top or in a function."""
    tree = ast.parse(module.read_text(encoding="utf-8"), str(module))
    package = module.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def allowed_for(part: str) -> set[str]:
    if part == "__main__":
        return {"cli"}
    if part == "admin":
        return {*LAYERS[:-1], "registry", "admin"}
    if part == "__init__":
        # The front door names what is at home in the rooms; it imports none before it is used.
        return set(LAYERS)
    if part in LAYERS:
        index = LAYERS.index(part)
        beside = {name for name, layer in ALONGSIDE.items() if LAYERS.index(layer) < index}
        return {*LAYERS[: index + 1], *beside} - {"testing"}
    if part in ALONGSIDE:
        return {*LAYERS[: LAYERS.index(ALONGSIDE[part]) + 1], part}
    return set()


def test_there_is_something_to_check() -> None:
    assert {"wire", "core", "net", "policy"} <= {part_of(module) for module in MODULES}


def test_every_part_has_its_place() -> None:
    known = {*LAYERS, *ALONGSIDE, *FOR_EVERYBODY, *TOP}
    assert {part_of(module) for module in MODULES} <= known


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_parts_below(module: Path) -> None:
    part = part_of(module)
    wrong = []
    for line, name in imports_of(module):
        words = name.split(".")
        if words[0] != "tunnelkit":
            continue
        other = words[1] if len(words) > 1 else "__init__"
        if part == "interfaces" and name.rpartition(".")[0] in CONTRACTS:
            continue
        if other not in allowed_for(part) | FOR_EVERYBODY and (PACKAGE / other).exists():
            wrong.append(f"{module.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if part_of(module) in SANS_IO],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_sans_io_knows_nothing_of_the_outside_world(module: Path) -> None:
    wrong = [
        f"{module.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imports_of(module)
        if name.split(".")[0] in OUTSIDE_WORLD
    ]
    assert wrong == []


def module_of(name: str) -> str:
    """The module that an imported name is, or is in."""
    while name and not (ROOT / name.replace(".", "/")).with_suffix(".py").exists():
        if (ROOT / name.replace(".", "/") / "__init__.py").exists():
            return name
        name = name.rpartition(".")[0]
    return name


def circle_through(start: str, graph: dict[str, set[str]]) -> list[str]:
    """The shortest way along imports from ``start`` back to itself; empty if there is none."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for name in sorted(graph.get(way[-1], ())):
            if name == start:
                return [*way, start]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []


def test_no_imports_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        name = ".".join(module.relative_to(ROOT).with_suffix("").parts)
        name = name.removesuffix(".__init__")
        graph[name] = {module_of(other) for _, other in imports_of(module)} - {"", name}
    circles = [" -> ".join(circle) for name in graph if (circle := circle_through(name, graph))]
    assert circles == []


@pytest.mark.parametrize(
    "module",
    [
        module
        for module in MODULES
        if any(module.relative_to(PACKAGE).parts[: len(room)] == room for room in GENERIC)
        and not PROTOCOLS.fullmatch(module.parent.name)
    ],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_generic_rooms_know_no_protocol(module: Path) -> None:
    wrong = [
        f"{module.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imports_of(module)
        if name.split(".")[0] == "tunnelkit" and PROTOCOLS.search(name)
    ]
    assert wrong == []


def test_no_module_installs_a_reactor_by_being_imported() -> None:
    wrong = []
    for module in MODULES:
        top = ast.parse(module.read_text(encoding="utf-8")).body
        wrong += [
            f"{module.relative_to(ROOT)}:{node.lineno}"
            for node in top
            if isinstance(node, ast.ImportFrom)
            and node.module == "twisted.internet"
            and "reactor" in [alias.name for alias in node.names]
        ]
    assert wrong == []


def test_no_package_in_the_plug_in_folder() -> None:
    assert not list((ROOT / "twisted").rglob("__init__.py"))
