"""Usher on the network: a portal that dials and a gate that listens."""

__all__: list[str] = []
