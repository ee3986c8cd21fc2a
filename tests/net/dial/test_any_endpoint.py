"""Endpoints of Twisted fail as those of this package do."""

from __future__ import annotations

import pytest
from twisted.internet import error
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from tests.net.deferreds import problem_of
from tunnelkit.errors import Code, DialError
from tunnelkit.net.dial.any_endpoint import connect_by


@implementer(IStreamClientEndpoint)
class Failing:
    """An endpoint that reaches nobody."""

    def __init__(self, problem: Exception) -> None:
        self._problem = problem

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint`."""
        return fail(self._problem)


@pytest.mark.parametrize(
    ("problem", "said", "code"),
    [
        (error.ConnectionRefusedError(111), "connection refused", Code.REFUSED),
        (error.ConnectError(104, "reset"), "connection reset by peer", Code.RESET),
        (error.DNSLookupError("no such name"), "no such name", Code.UNREACHABLE),
    ],
)
def test_its_error_is_one_line(problem: Exception, said: str, code: Code) -> None:
    found = problem_of(Deferred.fromCoroutine(connect_by(Failing(problem), Factory())), DialError)
    assert said in str(found)
    assert found.code is code
