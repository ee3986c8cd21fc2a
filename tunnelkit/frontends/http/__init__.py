"""An HTTP proxy: CONNECT and absolute URLs (row F5)."""

__all__: list[str] = []
