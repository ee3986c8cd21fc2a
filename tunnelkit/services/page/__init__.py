"""The page at which a role is watched and steered (rows O6, U15): its files, as they are served.

Plain HTML, CSS and JavaScript, nothing from elsewhere. They hold nothing of the role: all that
they show they ask for, with the token.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import attrs

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FILES = {
    b"/": "page.html",
    b"/page.css": "page.css",
    b"/page.js": "page.js",
    b"/talk.js": "talk.js",
    b"/charts.js": "charts.js",
    b"/words.js": "words.js",
    b"/tables.js": "tables.js",
    b"/steering.js": "steering.js",
    b"/icon.svg": "icon.svg",
}


@attrs.frozen
class Asset:
    """One file."""

    kind: str
    """Its media type."""
    body: bytes


@cache
def assets() -> dict[bytes, Asset]:
    """All of them, by path."""
    place = files(__name__)
    return {
        path: Asset(_KINDS[name.rpartition(".")[2]], place.joinpath(name).read_bytes())
        for path, name in _FILES.items()
    }
