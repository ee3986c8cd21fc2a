"""What a party says of itself at one moment: the one source of status, pages and metrics (row O2).

A role's `RoleStatus` has a field for each thing. Those that are numbers to watch are declared by
`metric`, with the name and labels under which they are measured; so are those of a role that
somebody else has written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

_METRIC = "tunnelkit.metric"


@attrs.frozen
class Metric:
    """How a number is measured."""

    name: str
    """Without the prefix ``tunnelkit_``. It counts up for ever if it ends in ``_total``."""
    about: str
    """One line."""
    labels: tuple[tuple[str, str], ...] = ()
    """Names and values, besides role and tunnel."""

    @property
    def kind(self) -> str:
        """``counter`` or ``gauge``."""
        return "counter" if self.name.endswith("_total") else "gauge"


def metric(name: str, about: str, **labels: str) -> Any:
    """A field whose value is the number that `Metric` describes."""
    return attrs.field(metadata={_METRIC: Metric(name, about, tuple(sorted(labels.items())))})


@attrs.frozen(kw_only=True, slots=False)
class RoleStatus:
    """What a role is doing; a role's own class has more fields. It never changes.

    The names of the fields are what ``tunnelkit status`` prints and what `as_mapping` gives.
    """

    role: str
    """The twistd subcommand."""

    def as_mapping(self) -> dict[str, object]:
        """The fields by name, in order, as JSON can write them."""
        return attrs.asdict(self)

    def measured(self) -> Iterator[tuple[Metric, float]]:
        """The numbers among the fields."""
        for field in attrs.fields(type(self)):
            found = field.metadata.get(_METRIC)
            if found is not None:
                yield found, getattr(self, field.name)
