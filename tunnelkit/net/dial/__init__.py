"""Ways out of this network: directly, through SOCKS and CONNECT proxies, and chains of them."""

__all__: list[str] = []
