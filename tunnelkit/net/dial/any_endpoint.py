"""Connecting by an endpoint of anybody's, with the errors of this package."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint

from tunnelkit.errors import DialError
from tunnelkit.net.dial.happy_eyeballs import reason_of


async def connect_by(endpoint: IStreamClientEndpoint, factory: IProtocolFactory) -> Any:
    """The protocol that ``factory`` made for the connection.

    Raises `DialError`, also where ``endpoint`` is one of Twisted's and knows only its own errors.
    """
    try:
        return await maybeDeferred(endpoint.connect, factory)
    except ConnectError as error:
        text, code = reason_of(error)
        raise DialError(f"cannot connect: {text}", code=code) from error
    except OSError as error:  # DNSLookupError is one
        raise DialError(f"cannot connect: {error}") from error
