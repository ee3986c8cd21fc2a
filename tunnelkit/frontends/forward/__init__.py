"""Ports that lead to one destination, TCP and UDP, here or at the far side (row F2)."""

__all__: list[str] = []
