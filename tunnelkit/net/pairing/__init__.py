"""Pairing over a connection (row Q2): TLS with throw-away certificates, and the exchange."""
