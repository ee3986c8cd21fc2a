"""Fetching for devices: the web's answers, and what failures are in CoAP (row W2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from tunnelkit.core.wtls.coap_blocks import Response
from tunnelkit.core.wtls.coap_server import Request
from tunnelkit.core.wtls.http_mapping import CannotBeServed, HttpRequest, error_response
from tunnelkit.errors import Code as Reason
from tunnelkit.net.channels.contracts import ChannelOpening, ChannelRecord
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.web_client import WebError, fetch
from tunnelkit.net.wtls.coap_association import ANONYMOUS, CoapAssociation
from tunnelkit.policy.access_log import AccessLog
from tunnelkit.policy.destination import TCP, destination_to
from tunnelkit.wire.coap import Code, dotted

_log = Logger()

FETCHES = 256
"""Fetches under way at once."""
FETCHES_PER_HOST = 16
"""Of these, for devices of one address."""
DRAIN = 10.0
"""Seconds in which what is under way may be answered when a proxy stops, unless it is said."""

_CODES = {
    Reason.NOT_ALLOWED: (Code.FORBIDDEN, "no rule allows this"),
    Reason.TIMED_OUT: (Code.GATEWAY_TIMEOUT, "the server did not answer in time"),
    Reason.NO_SUCH_HOST: (Code.BAD_GATEWAY, "there is no such host"),
    Reason.REFUSED: (Code.BAD_GATEWAY, "the server refused the connection"),
    Reason.LIMIT: (Code.BAD_GATEWAY, "the answer is too large"),
}

StreamTo = Callable[[str, str], IStreamClientEndpoint]
"""``(destination, device's name)``: the way there."""


class WebAnswers:
    """Asks web servers for devices, and logs what it has done (rows W2, O1)."""

    def __init__(self, reactor: Any, stream_to: StreamTo) -> None:
        self._reactor = reactor
        self._stream_to = stream_to
        self._under_way: Counter[str] = Counter()
        self._last_call: Deferred[None] | None = None
        self._limit = Timer(reactor, self._all_over)

    def finish(self, limit: float) -> Deferred[None]:
        """Begin nothing more; fires when what is under way is answered, or ``limit`` s later."""
        done: Deferred[None] = Deferred()
        self._last_call = done
        if self._under_way:
            self._limit.start(limit)
        else:
            self._all_over()
        return done

    def _all_over(self) -> None:
        self._limit.stop()
        done = self._last_call
        if done is not None and not done.called:
            done.callback(None)

    async def ask(
        self, association: CoapAssociation, request: Request, wanted: HttpRequest
    ) -> Response:
        """The answer of the web to ``wanted``; raises `CannotBeServed`."""
        if self._last_call is not None:
            raise CannotBeServed(Code.SERVICE_UNAVAILABLE, "the proxy is shutting down", 5)
        host = association.address[0]
        if self._under_way.total() >= FETCHES or self._under_way[host] >= FETCHES_PER_HOST:
            raise CannotBeServed(Code.SERVICE_UNAVAILABLE, "too many requests at once", 5)
        began = self._reactor.seconds()
        reason: Reason | None = None
        received, text = 0, ""
        self._under_way[host] += 1
        log, serial = AccessLog.of(self._reactor), next(Shared.of(self._reactor).serials)
        peer = who(association.name, association.address)
        destination = f"tcp:{format_address((wanted.url.host, wanted.url.port))}"
        origin = format_address(association.address)
        log(ChannelOpening(serial, peer, destination, True, "", origin))
        try:
            answer = await fetch(
                self._reactor,
                lambda *place: self._stream_to(str(destination_to(TCP, *place)), association.name),
                wanted.method,
                str(wanted.url),
                wanted.headers,
                wanted.body,
            )
            received = len(answer.body)
            response = association.mapping.response(
                wanted, answer.status, answer.headers, answer.body
            )
            text = f"{wanted.method} {answer.status} {dotted(response.code)}"
            return response
        except WebError as error:
            reason, text = error.code, str(error)
            code, told = _CODES.get(error.code, (Code.BAD_GATEWAY, "the server cannot be used"))
            return error_response(code, told)
        finally:
            self._under_way[host] -= 1
            if not self._under_way[host]:
                del self._under_way[host]
            if self._last_call is not None and not self._under_way:
                # The answer first: it has not been sent yet.
                self._limit.start(0)
            log(
                ChannelRecord(
                    peer,
                    destination,
                    True,
                    received,
                    len(wanted.body),
                    self._reactor.seconds() - began,
                    reason,
                    text,
                    reason is not None,
                    serial,
                    "",
                    origin,
                )
            )


def who(name: str, address: tuple[str, int]) -> str:
    """A device in logs: its name, or where it is."""
    return format_address(address) if name == ANONYMOUS else f"{name}@{format_address(address)}"
