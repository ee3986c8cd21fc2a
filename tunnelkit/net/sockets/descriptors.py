"""How many descriptors this process may have (row O10)."""

from __future__ import annotations

import resource

RESERVE = 64
"""Descriptors that strangers never get: listeners, control, logs, pipes, newcomers."""


def raise_limit() -> int:
    """Take as many as the system grants: the soft limit becomes the hard one. How many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def for_strangers() -> int:
    """How many connections of strangers may be open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(RESERVE, soft - RESERVE - soft // 8)
