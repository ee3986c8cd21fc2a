"""Talking to network proxies, and being one: SOCKS 4, 4a, 5 and HTTP CONNECT, without sockets."""

__all__: list[str] = []
