"""The fixtures of the acceptance tests."""

from __future__ import annotations

from tests.acceptance.conftest import identities, processes

__all__ = ["identities", "processes"]
