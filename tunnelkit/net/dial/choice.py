"""Which dialer a ``--via`` means (N1)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from tunnelkit.core.proxies.proxy_client import HANDSHAKE_LIMIT
from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IDialer
from tunnelkit.net.dial.autodetect import EnvironmentProxy, ProxySource
from tunnelkit.net.dial.dialers import USUAL, DirectDialer, Limits, ProxyDialer
from tunnelkit.net.dial.happy_eyeballs import CONNECT_LIMIT
from tunnelkit.net.dial.pac import PREFIX, PacDialer, parse_pac
from tunnelkit.net.dial.via import Pac, Via, ascii_host, parse_via


@implementer(IDialer)
class AutomaticDialer:
    """Connects the way that this machine is set up for (``--via auto``)."""

    def __init__(
        self,
        reactor: Any,
        source: ProxySource,
        limits: Limits = USUAL,
    ) -> None:
        self._reactor = reactor
        self._source = source
        self._limits = limits
        self._by_script: PacDialer | None = None

    def endpoint_for(self, host: str, port: int) -> IStreamClientEndpoint:
        """An endpoint that connects to ``host:port``; raises `ConfigError` for a bad host."""
        return self._dialer_for(host, port).endpoint_for(host, port)

    def describe(self) -> str:
        """Where the proxy is taken from."""
        return f"as set up on this machine ({self._source.describe()})"

    def _dialer_for(self, host: str, port: int) -> IDialer:
        url = self._source.proxy_for(ascii_host(host), port)
        if url is None:
            return DirectDialer(self._reactor, self._limits)
        option = self._source.describe()
        if not url.startswith(PREFIX):
            return ProxyDialer(self._reactor, parse_via([url], option=option), self._limits)
        if self._by_script is None:
            self._by_script = PacDialer(self._reactor, parse_pac(url, option), self._limits)
        return self._by_script


def dialer_for(
    reactor: Any,
    via: Via,
    limits: Limits = USUAL,
    environ: Mapping[str, str] | None = None,
) -> IDialer:
    """The dialer for a way out; ``environ``: see `make_dialer`. Raises `ConfigError`."""
    if isinstance(via, Pac):
        return PacDialer(reactor, via, limits)
    if via is not None:
        return ProxyDialer(reactor, via, limits) if via else DirectDialer(reactor, limits)
    source = EnvironmentProxy(os.environ if environ is None else environ)
    # A mistake in it is told now.
    if source.url.startswith(PREFIX):
        parse_pac(source.url, source.describe())
    elif source.url:
        parse_via([source.url], option=source.describe())
    return AutomaticDialer(reactor, source, limits)


def make_dialer(
    reactor: Any,
    via: Sequence[str] = (),
    *,
    password: str | None = None,
    environ: Mapping[str, str] | None = None,
    connect_limit: float = CONNECT_LIMIT,
    handshake_limit: float = HANDSHAKE_LIMIT,
) -> IDialer:
    """The dialer for a list of ``--via`` values; none at all means direct.

    ``password``: see `via.parse_via` and `via.read_password_file`. ``environ`` is for
    ``auto`` (default: this process's). Raises `ConfigError`.
    """
    limits = Limits(connect_limit, handshake_limit)
    alone = [url for url in via if stands_alone(url)]
    if alone and len(via) > 1:
        raise ConfigError(f"--via {alone[0]} stands alone: it cannot be part of a chain")
    if password is not None and (alone or not via):
        raise ConfigError("--via-password-file: there is no proxy that the password could be for")
    if not alone:
        return dialer_for(reactor, parse_via(via, password), limits)
    return dialer_for(reactor, parse_alone(alone[0]), limits, environ)


def stands_alone(text: str) -> bool:
    """Whether this value of ``--via`` is no proxy of a chain."""
    return text in ("none", "auto") or text.startswith(PREFIX)


def parse_alone(text: str, option: str = "--via", beside: str = "") -> Via:
    """``none``, ``auto`` or a PAC file; raises `ConfigError`.

    ``beside``: the directory in which a file without one is looked up (default: the current one).
    """
    if text.startswith(PREFIX):
        return parse_pac(text, option, beside)
    return None if text == "auto" else ()
