"""A DNS server that asks the far side's resolver (row F4)."""

__all__: list[str] = []
