"""The far side's answer to ``udp`` requests: the rules decide about every datagram (P2, X1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from tunnelkit.core.decision import Decision
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.requests import EgressRequest
from tunnelkit.egress.udp_map import FLOWS, FLOWS_PER_PEER, UdpMap
from tunnelkit.errors import Code, ConfigError, DialError, DialTimeout, NotAuthorized
from tunnelkit.net.channels.addressed_flows import IDLE
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.policy.access_log import log_datagrams
from tunnelkit.policy.destination import UDP, Destination, destination_to
from tunnelkit.policy.printable import printable

_log = Logger()

LIMIT = 10.0
"""Seconds from a datagram for a name to the name's addresses."""


class UdpEgress(Service):
    """Takes the flows of all tunnels of ``egress``; ends them when it is stopped.

    ``idle``: seconds after the last packet in which a mapping ends; ``per_peer`` and ``most``
    flows at once.
    """

    def __init__(
        self,
        egress: Egress,
        idle: float = IDLE,
        per_peer: int = FLOWS_PER_PEER,
        most: int = FLOWS,
    ) -> None:
        self._egress = egress
        self._stopped = False
        self.map = UdpMap(egress.poller, self, idle, per_peer, most)
        egress.answer_with(UDP, self.take)

    def take(self, request: EgressRequest, destination: Destination) -> None:
        """Answer a request for ``udp:HOST:PORT`` or ``udp:*``.

        What can be told from the request alone to be not allowed is refused at once; about
        each datagram the rules are asked when it is sent.
        """
        rules = self._egress.policy.current.rules
        if self._stopped:
            request.refuse(Code.SHUTDOWN, "the far side is shutting down")
            return
        try:
            if not any(rule.kind == UDP and rule.is_for(request.peer) for rule in rules):
                raise NotAuthorized(f"no rule allows {printable(request.peer)} any UDP")
            if destination.is_address:
                self.authorize(request.peer, destination.host, destination.port, None)
        except NotAuthorized as error:
            self.denied(request.peer, error)
            request.refuse(Code.NOT_ALLOWED, "not allowed there")
            return
        self.map.serve(request, fixed=destination.host != "*")

    def stopService(self) -> None:
        """End all flows, and take no more."""
        Service.stopService(self)
        self._stopped = True
        self.map.close()

    # -- UdpRules ----------------------------------------------------------

    def meant(self, host: str, port: int) -> tuple[str, int]:
        """See `UdpRules`."""
        return self._egress.maps.meant_address(host, port)

    def denied(self, peer: str, error: NotAuthorized) -> None:
        """See `UdpRules`."""
        self._egress.denials.not_authorized(peer, error)

    def passed(
        self,
        peer: str,
        remote: tuple[str, int],
        meant: tuple[str, int],
        sent: int,
        received: int,
        seconds: float,
    ) -> None:
        """See `UdpRules`."""
        shown = "" if meant == remote else f"{UDP}:{format_address(meant)}"
        log_datagrams(peer, f"{UDP}:{format_address(remote)}", shown, sent, received, seconds)

    def authorize(self, peer: str, address: str, port: int, name: str | None) -> Decision:
        """See `UdpRules`."""
        return self._egress.policy.authorize(peer, "sendto", UDP, address, port, name)

    def resolve(self, peer: str, host: str, port: int) -> Deferred[Sequence[str]]:
        """See `UdpRules`."""
        try:
            # The host may be anything that a peer made up, and so may the port.
            destination = destination_to(UDP, host, port)
        except ConfigError as error:
            return fail(DialError(str(error), hop=host, code=Code.NO_SUCH_HOST))
        if destination.is_address:
            return succeed((destination.host,))
        resolving = self._egress.names.resolve(
            self._egress.policy, peer, "sendto", UDP, destination.host, port
        )
        return resolving.addTimeout(LIMIT, self._egress.reactor, _too_late)


def _too_late(result: object, seconds: float) -> NoReturn:
    raise DialTimeout(f"no answer from the resolver within {seconds:g} s")
