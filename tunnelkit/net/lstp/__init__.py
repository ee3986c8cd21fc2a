"""LSTP on the network: meeting at a middle, and the middle itself."""

__all__: list[str] = []
