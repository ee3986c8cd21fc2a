"""A display here whose windows the far side shows (row F3)."""

__all__: list[str] = []
