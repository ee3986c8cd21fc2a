"""Printing lists of records that a running role gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def print_records(records: object, as_json: bool) -> None:
    """One record a line: as JSON, or its fields as ``name=value``."""
    listed: Sequence[Mapping[str, object]] = records if isinstance(records, list) else ()
    for record in listed:
        if as_json:
            print(json.dumps(record))
        else:
            print(" ".join(f"{name}={value}" for name, value in record.items() if value != ""))
