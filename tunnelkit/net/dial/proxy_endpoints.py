"""Endpoints that connect through a SOCKS or HTTP proxy, for any Twisted factory (N1).

They take the place, and have the shape, of txsocksx, which does not run on Python 3::

    proxy = HostnameEndpoint(reactor, "proxy.example", 1080)
    login = {"login": ("me", "secret")}
    endpoint = SOCKS5ClientEndpoint("target.example", 22, proxy, methods=login)
    endpoint.connect(factory)

``proxyEndpoint`` is any endpoint that leads to the proxy, another one of these too.
The factory's protocol is connected to the transport that leads to the proxy, not to a
wrapper around it. Bytes that came behind the proxy's answer are given to the protocol
after the Deferred of ``connect`` has fired, like the first bytes of any connection.

``connect`` fails with `ProxyRefused`, `ProxyAuthRequired`, `DialTimeout` or another
`DialError` whose one line names the proxy and what it said; how ``proxyEndpoint`` failed
is passed on unchanged. Names are resolved by the proxy, except with SOCKS 4, which
takes IPv4 addresses only.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
)

from tunnelkit.core.proxies.http_connect import HttpConnectClient
from tunnelkit.core.proxies.proxy_client import (
    HANDSHAKE_LIMIT,
    ProxyClient,
)
from tunnelkit.core.proxies.socks_client import SocksClient
from tunnelkit.net.dial.proxy_handshake import ProxyEndpoint


class SOCKS4ClientEndpoint(ProxyEndpoint):
    """Connects through a SOCKS 4 server; ``host`` must be an IPv4 address."""

    kind = "SOCKS 4"
    _version: int | str = 4

    def __init__(
        self,
        host: str,
        port: int,
        proxyEndpoint: IStreamClientEndpoint,
        user: str = "",
        *,
        name: str = "",
        timeout: float = HANDSHAKE_LIMIT,
        clock: IReactorTime | None = None,
    ) -> None:
        super().__init__(host, port, proxyEndpoint, name=name, timeout=timeout, clock=clock)
        self._user = user.encode()

    def make_core(self, now: float) -> ProxyClient:
        return SocksClient(
            self._version, self.host, self.port, now, user=self._user, limit=self._timeout
        )


class SOCKS4AClientEndpoint(SOCKS4ClientEndpoint):
    """Connects through a SOCKS 4a server, which resolves host names."""

    kind = "SOCKS 4a"
    _version = "4a"


class SOCKS5ClientEndpoint(ProxyEndpoint):
    """Connects through a SOCKS 5 server.

    ``methods`` maps the ways to log in that are offered to their arguments:
    ``{"anonymous": ()}`` (default), ``{"login": (user, password)}``, or both.
    """

    kind = "SOCKS 5"

    def __init__(
        self,
        host: str,
        port: int,
        proxyEndpoint: IStreamClientEndpoint,
        methods: Mapping[str, tuple[str, ...]] | None = None,
        *,
        name: str = "",
        timeout: float = HANDSHAKE_LIMIT,
        clock: IReactorTime | None = None,
    ) -> None:
        super().__init__(host, port, proxyEndpoint, name=name, timeout=timeout, clock=clock)
        methods = {"anonymous": ()} if methods is None else methods
        unknown = ", ".join(sorted(set(methods) - {"anonymous", "login"}))
        if not methods or unknown:
            raise ValueError(f"methods are 'anonymous' and 'login', not {unknown or 'none'}")
        self._anonymous = "anonymous" in methods
        self._user, self._password = b"", None
        if "login" in methods:
            user, password = methods["login"]
            self._user, self._password = user.encode(), password.encode()

    def make_core(self, now: float) -> ProxyClient:
        return SocksClient(
            5,
            self.host,
            self.port,
            now,
            user=self._user,
            password=self._password,
            anonymous=self._anonymous,
            limit=self._timeout,
        )


class HTTPConnectEndpoint(ProxyEndpoint):
    """Connects through an HTTP proxy with CONNECT; ``login`` is a user name and password."""

    kind = "HTTP"

    def __init__(
        self,
        host: str,
        port: int,
        proxyEndpoint: IStreamClientEndpoint,
        login: tuple[str, str] | None = None,
        *,
        name: str = "",
        timeout: float = HANDSHAKE_LIMIT,
        clock: IReactorTime | None = None,
    ) -> None:
        super().__init__(host, port, proxyEndpoint, name=name, timeout=timeout, clock=clock)
        self._login = login

    def make_core(self, now: float) -> ProxyClient:
        user, password = self._login or (None, "")
        return HttpConnectClient(
            self.host,
            self.port,
            now,
            user=None if user is None else user.encode(),
            password=password.encode(),
            limit=self._timeout,
        )
