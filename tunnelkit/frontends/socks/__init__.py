"""SOCKS 4, 4a and 5: CONNECT, BIND and UDP ASSOCIATE (row F1)."""

__all__: list[str] = []
