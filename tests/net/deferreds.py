"""Looking at Deferreds that must have fired already."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def problem_of(deferred: Deferred[Any], kind: type[BaseException]) -> Any:
    """The exception of that kind with which ``deferred`` has failed."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "it has not fired"
    assert isinstance(results[0], Failure), f"it has succeeded: {results[0]!r}"
    assert isinstance(results[0].value, kind), repr(results[0].value)
    return results[0].value
