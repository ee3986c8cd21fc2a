"""The bytes of ``tests/vectors/wtls.txt``."""

from __future__ import annotations

from pathlib import Path

KEY = bytes(range(32))
TOKEN = bytes(range(0xA0, 0xB0))


def read() -> dict[str, bytes]:
    """Name -> bytes."""
    found: dict[str, bytes] = {}
    name = ""
    text = (Path(__file__).parent.parent / "vectors" / "wtls.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            name = line.strip("[]")
        elif line.startswith("bytes"):
            found[name] = bytes.fromhex(line.removeprefix("bytes"))
    return found


VECTORS = read()
