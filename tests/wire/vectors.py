"""Reading `tests/vectors`: a name in brackets, then hex behind `header` and `body`."""

from __future__ import annotations

from pathlib import Path


def read_vectors(file: str) -> dict[str, bytes]:
    """The bytes in ``tests/vectors/FILE`` by name."""
    vectors: dict[str, bytes] = {}
    name = ""
    for line in (Path(__file__).parents[1] / "vectors" / file).read_text().splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            vectors[name] = b""
        elif line[:6] in {"header", "body  ", "      "}:
            vectors[name] += bytes.fromhex(line[6:])
    return vectors
