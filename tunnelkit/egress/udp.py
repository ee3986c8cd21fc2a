"""The far side's answer to ``udp`` requests: the rules decide about every datagram (P2, X1)."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from tunnelkit.core.decision import Decision
from tunnelkit.egress.dial import Egress, EgressRequest
from tunnelkit.egress.udp_map import FLOWS, FLOWS_PER_PEER, UdpMap
from tunnelkit.errors import Code, ConfigError, DialError, NotAuthorized
from tunnelkit.net.channels.addressed_flows import IDLE
from tunnelkit.policy.destination import UDP, Destination, destination_to
from tunnelkit.policy.printable import printable

_log = Logger()


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
        self.map = UdpMap(egress.poller, self._resolve, self._authorize, idle, per_peer, most)
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
                self._authorize(request.peer, destination.host, destination.port, None)
        except NotAuthorized as error:
            _log.warn("Not allowed: {why}", why=str(error))
            request.refuse(Code.NOT_ALLOWED, "not allowed there")
            return
        self.map.serve(request, fixed=destination.host != "*")

    def stopService(self) -> None:
        """End all flows, and take no more."""
        Service.stopService(self)
        self._stopped = True
        self.map.close()

    def _authorize(self, peer: str, address: str, port: int, name: str | None) -> Decision:
        return self._egress.policy.authorize(peer, "sendto", UDP, address, port, name)

    def _resolve(self, host: str) -> Deferred[Sequence[str]]:
        try:
            # The port does not matter here; the host may be anything that a peer made up.
            destination = destination_to(UDP, host, 1)
        except ConfigError as error:
            return fail(DialError(str(error), hop=host, code=Code.NO_SUCH_HOST))
        if destination.is_address:
            return succeed((destination.host,))
        return self._egress.resolver(destination.host)
