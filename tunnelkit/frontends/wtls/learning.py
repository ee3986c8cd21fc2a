"""Asking a non-secure mirror whether its server is a secure one (row W3)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelkit.core.wtls.mirror import FORBIDDEN, HEADER, Learned, Target, suffix_of
from tunnelkit.errors import ConfigError
from tunnelkit.frontends.wtls.answers import StreamTo
from tunnelkit.net.web_client import WebError, fetch
from tunnelkit.policy.destination import TCP, destination_to, parse_host_port
from tunnelkit.policy.printable import printable

_log = Logger()

LIMIT = 3.0
"""Seconds that a mirror has."""
MAX_BODY = 16_384


class Mirrors:
    """What the mirrors of hosts under ``suffixes`` say. Each is asked once, whoever wants it."""

    def __init__(self, reactor: Any, stream_to: StreamTo, suffixes: tuple[str, ...]) -> None:
        self._reactor = reactor
        self._stream_to = stream_to
        self.suffixes = suffixes
        self._learned = Learned()
        self._asking: dict[str, list[Deferred[Target | None]]] = {}

    def covers(self, host: str) -> bool:
        """Whether ``host`` has a mirror that has to be asked."""
        return suffix_of(host, self.suffixes) is not None

    async def domain_proxy_of(self, host: str, peer: str) -> Target | None:
        """The domain proxy that the mirror of ``host`` names; None: none that can be used."""
        known, target = self._learned.look_up(host, self._reactor.seconds())
        if known:
            return target
        waiting = self._asking.get(host)
        if waiting is not None:
            answer: Deferred[Target | None] = Deferred()
            waiting.append(answer)
            return await answer
        self._asking[host] = []
        target = None
        try:
            target = await self._ask(host, peer)
        finally:
            self._learned.remember(host, target, self._reactor.seconds())
            for each in self._asking.pop(host):
                each.callback(target)
        return target

    async def _ask(self, host: str, peer: str) -> Target | None:
        try:
            answer = await fetch(
                self._reactor,
                lambda *place: self._stream_to(str(destination_to(TCP, *place)), peer),
                "GET",
                f"http://{host}/",
                limit=LIMIT,
                max_body=MAX_BODY,
            )
        except WebError as error:
            _log.info("The mirror {host} was not heard: {why}", host=host, why=str(error))
            return None
        named = answer.headers.get(HEADER.lower(), "")
        if answer.status != FORBIDDEN or not named:
            _log.info("The mirror {host} names no domain proxy", host=host)
            return None
        try:
            target = parse_host_port(named)
        except ConfigError as error:
            _log.warn("The mirror {host}: {why}", host=host, why=str(error))
            return None
        suffix = suffix_of(host, self.suffixes)
        if suffix is None or suffix_of(target[0], (suffix,)) is None:
            _log.warn(
                "The mirror {host} names {named}, which is not under {suffix}",
                host=host,
                named=printable(named),
                suffix=suffix,
            )
            return None
        _log.info("The mirror {host} names {named}", host=host, named=printable(named))
        return target
