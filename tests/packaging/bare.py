"""A machine with nothing but this Python: a root directory to run programs in."""

from __future__ import annotations

import io
import tarfile
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def program_of(*parts: str) -> Any:
    """A program of the source tree as a module."""
    path = ROOT.joinpath(*parts)
    loader = SourceFileLoader(path.name.replace("-", "_"), str(path))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def bare_python(directory: Path) -> list[str]:
    """Make the root in ``directory``; the command of its Python, which can write ``/work`` alone.

    There is no /proc, no /dev, no /etc and no other program; the network is this machine's.
    """
    maker = program_of("examples", "container", "make-image")
    layer = maker.Layer()
    python: str = maker.python(layer)
    # The rest of the C library; not every Python needs all of it.
    specs = [find_spec(name) for name in ("_cffi_backend", "cryptography.hazmat.bindings._rust")]
    native = [Path(str(spec.origin)) for spec in specs if spec is not None]
    for path in maker.needed(native):
        if path.parent.name != "cffi.libs":
            layer.copy(path)
    layer.directory("/work")
    root, work = directory / "root", directory / "work"
    work.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(layer.tar())) as archive:
        archive.extractall(root)
    return [
        "bwrap", "--ro-bind", str(root), "/", "--bind", str(work), "/work", "--chdir", "/work",
        "--unshare-user", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL",
        "--die-with-parent", "--clearenv", "--setenv", "HOME", "/work", python,
    ]  # fmt: skip
