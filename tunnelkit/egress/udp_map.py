"""The far side of UDP: a socket for each flow, and who may answer (rows U4, F2; rules X1, X18).

    flow of the tunnel -> resolve once -> authorize each datagram -> sendto
    recvfrom -> did the flow send there within the last minute? -> flow

A flow's socket belongs to it alone, so what arrives there can only be for it.
UdpFlows of addresses that it has not sent to are dropped. Mappings, and flows
as a whole, end some time after their last packet.
"""

from __future__ import annotations

import socket
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelkit.core.decision import Decision
from tunnelkit.egress.udp_rules import UdpRules
from tunnelkit.errors import Code, DialError, NotAuthorized
from tunnelkit.net.channels.addressed_flows import IDLE, REMOTES
from tunnelkit.net.channels.contracts import Remote
from tunnelkit.net.channels.udp_flow import UdpFlow, UdpFlowRequest
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.sockets.udp import open_udp, send_udp

_log = Logger()

FLOWS_PER_PEER = 256
"""Flows of one peer; over it the one idle for longest ends."""
FLOWS = 1024
"""Flows of all peers together, at most two sockets each."""
LOOKUPS = 64
"""Names of one peer being resolved at once; datagrams to further ones are dropped."""
WAITING = 16
"""UdpFlows of a flow that wait for one name; more are dropped."""
WAITING_BYTES = 65_536
DATAGRAMS_PER_EVENT = 64


class UdpMap:
    """All flows that this end sends for, of all its tunnels; see `serve`.

    ``idle``: seconds after the last packet in which a mapping, and a flow, ends.
    """

    def __init__(
        self,
        poller: Poller,
        rules: UdpRules,
        idle: float = IDLE,
        per_peer: int = FLOWS_PER_PEER,
        most: int = FLOWS,
    ) -> None:
        self.poller = poller
        self.rules = rules
        self.idle = idle
        self._per_peer = per_peer
        self._most = most
        self.lookups: Counter[str] = Counter()
        self.buffer = memoryview(bytearray(1 << 16))
        self.now: Callable[[], float] = poller.reactor.seconds
        # Flows in the order of their last packet, with its time, all and by peer.
        self._flows: OrderedDict[MappedFlow, float] = OrderedDict()
        self._peers: dict[str, OrderedDict[MappedFlow, None]] = {}
        self._timer = Timer(poller.reactor, self._sweep)

    def serve(self, request: UdpFlowRequest, fixed: bool) -> None:
        """Accept a flow; ``fixed``: it has one destination, and ends if that cannot be had."""
        peers = self._peers.setdefault(request.peer, OrderedDict())
        if len(peers) >= self._per_peer:
            next(iter(peers)).end()
        elif len(self._flows) >= self._most:
            crowd = max(self._peers.values(), key=len)
            next(iter(crowd)).end()
        udp_flow = MappedFlow(self, request.peer, fixed)
        peers = self._peers.setdefault(request.peer, OrderedDict())
        peers[udp_flow] = None
        self._flows[udp_flow] = self.now()
        if not self._timer.running:
            self._timer.start(self.idle)
        udp_flow.begin(request.attach_flow(udp_flow))

    def close(self) -> None:
        """End all flows."""
        for flow in list(self._flows):
            flow.end()

    @property
    def flow_count(self) -> int:
        """Flows that are served now."""
        return len(self._flows)

    def touch(self, flow: MappedFlow, now: float) -> None:
        """A packet of ``flow`` has passed."""
        self._flows[flow] = now
        self._flows.move_to_end(flow)
        self._peers[flow.peer].move_to_end(flow)

    def forget(self, flow: MappedFlow) -> None:
        """``flow`` is over."""
        if self._flows.pop(flow, None) is None:
            return
        peers = self._peers[flow.peer]
        del peers[flow]
        if not peers:
            del self._peers[flow.peer]
        if not self._flows:
            self._timer.stop()

    def _sweep(self) -> None:
        now = self.now()
        while self._flows:
            flow, last = next(iter(self._flows.items()))
            left = last + self.idle - now
            if left > 0:
                self._timer.start(left)
                return
            flow.end()


class _Mapping:
    """One destination of a flow, as the far side named it."""

    __slots__ = (
        "addresses",
        "began",
        "last",
        "meant",
        "received",
        "remote",
        "sent",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, remote: Remote, meant: Remote) -> None:
        self.remote = remote
        self.meant = meant
        """Where that is."""
        self.addresses: list[str] | None = None
        """Where it may be sent, best first; None: being resolved."""
        self.began = self.last = 0.0
        self.sent = self.received = 0
        """Bytes to and from the far side."""
        self.waiting: deque[bytes] = deque()
        self.waiting_bytes = 0


class MappedFlow:
    """One flow: the `DatagramSink` that sends, and its sockets."""

    __slots__ = ("_by_address", "_fixed", "_flow", "_map", "_mappings", "_sockets", "over", "peer")

    def __init__(self, udp_map: UdpMap, peer: str, fixed: bool) -> None:
        self.peer = peer
        self.over = False
        self._map = udp_map
        self._fixed = fixed
        self._flow: UdpFlow | None = None
        self._sockets: dict[bool, _UdpSocket] = {}
        """By whether they are for IPv6."""
        self._mappings: OrderedDict[Remote, _Mapping] = OrderedDict()
        self._by_address: dict[Remote, _Mapping] = {}
        """The same by where datagrams have really been sent."""

    def begin(self, flow: UdpFlow) -> None:
        """This is the flow."""
        self._flow = flow
        if self.over:
            flow.end()

    def end(self) -> None:
        """Close it: it has been idle, or its place is needed."""
        if self._flow is not None:
            self._flow.end()
        self.flow_ended(None, "")

    # -- DatagramSink -----------------------------------------------------

    def flow_opened(self) -> None:
        """Never told to who accepts."""

    def flow_ended(self, code: Code | None, reason: str) -> None:
        """See `DatagramSink`."""
        if not self.over:
            self.over = True
            self._map.forget(self)
            for one in self._sockets.values():
                one.close()
            self._sockets.clear()
            for mapping in self._mappings.values():
                self._report(mapping)
            self._mappings.clear()
            self._by_address.clear()

    def datagram_received(self, remote: Remote, data: memoryview) -> None:
        """See `DatagramSink`: send it."""
        if self.over:
            return
        now = self._map.now()
        self._map.touch(self, now)
        mapping = self._mappings.get(remote)
        if mapping is None:
            mapping = self._begin_mapping(remote)
            if mapping is None:
                return
            mapping.began = now
        else:
            self._mappings.move_to_end(remote)
        mapping.last = now
        if mapping.addresses is not None:
            self._send(mapping, data)
        elif len(mapping.waiting) < WAITING and mapping.waiting_bytes + len(data) <= WAITING_BYTES:
            mapping.waiting.append(bytes(data))
            mapping.waiting_bytes += len(data)

    # -- sending ----------------------------------------------------------

    def _begin_mapping(self, remote: Remote) -> _Mapping | None:
        if self._map.lookups[self.peer] >= LOOKUPS:
            return None
        if len(self._mappings) >= REMOTES:
            self._forget_mappings([next(iter(self._mappings))])
        mapping = self._mappings[remote] = _Mapping(remote, self._map.rules.meant(*remote))
        self._map.lookups[self.peer] += 1
        resolving = self._map.rules.resolve(self.peer, *mapping.meant)
        resolving.addBoth(self._looked_up)
        resolving.addCallbacks(partial(self._resolved, mapping), partial(self._failed, mapping))
        return self._mappings.get(remote)

    def _looked_up(self, result: object) -> object:
        lookups = self._map.lookups
        lookups[self.peer] -= 1
        if not lookups[self.peer]:
            del lookups[self.peer]
        return result

    def _resolved(self, mapping: _Mapping, addresses: Sequence[str]) -> None:
        if self._mappings.get(mapping.remote) is not mapping:
            return  # its place was needed
        mapping.addresses = list(addresses)
        while mapping.waiting and not self.over:
            self._send(mapping, mapping.waiting.popleft())

    def _failed(self, mapping: _Mapping, failure: Failure) -> None:
        code, reason = Code.INTERNAL, "the resolver failed"
        if isinstance(failure.value, DialError):
            code, reason = failure.value.code, str(failure.value)
        elif isinstance(failure.value, NotAuthorized):
            code, reason = Code.NOT_ALLOWED, str(failure.value)
            self._map.rules.denied(self.peer, failure.value)
        else:
            _log.failure("Resolving for UDP failed", failure)
        if self._mappings.get(mapping.remote) is mapping:
            # The next datagram tries again.
            self._forget_mappings([mapping.remote])
            self._undeliverable(code, reason)

    def _undeliverable(self, code: Code, reason: str) -> None:
        if self._fixed and self._flow is not None:
            self._flow.abort(code, _REASONS.get(code, reason))

    def _send(self, mapping: _Mapping, data: bytes | memoryview) -> None:
        addresses, (host, port) = mapping.addresses, mapping.meant
        assert addresses is not None
        denied: NotAuthorized | None = None
        for place, address in enumerate(addresses):
            name = None if host == address else host
            try:
                decision = self._map.rules.authorize(self.peer, address, port, name)
            except NotAuthorized as error:
                denied = denied or error
                continue
            try:
                send_udp(self._socket_for(decision), decision, data)
            except BlockingIOError:
                pass  # the kernel's buffer is full: dropped
            except DialError as error:
                _log.debug("A datagram was not sent: {why}", why=str(error))
                continue
            if place:
                addresses.insert(0, addresses.pop(place))
            mapping.received += len(data)
            self._by_address[decision.address, decision.port] = mapping
            return
        if denied is not None:
            self._map.rules.denied(self.peer, denied)
            self._undeliverable(Code.NOT_ALLOWED, str(denied))

    def _socket_for(self, decision: Decision) -> socket.socket:
        six = ":" in decision.address
        one = self._sockets.get(six)
        if one is None:
            one = self._sockets[six] = _UdpSocket(self, self._map.poller, open_udp(decision))
        return one.sock

    def _forget_mappings(self, remotes: Iterable[Remote]) -> None:
        for remote in remotes:
            gone = self._mappings.pop(remote)
            self._report(gone)
            for address, mapping in list(self._by_address.items()):
                if mapping is gone:
                    del self._by_address[address]

    def _report(self, mapping: _Mapping) -> None:
        if mapping.received or mapping.sent:
            seconds = mapping.last - mapping.began
            self._map.rules.passed(
                self.peer, mapping.remote, mapping.meant, mapping.sent, mapping.received, seconds
            )

    # -- receiving --------------------------------------------------------

    def readable(self, sock: socket.socket) -> None:
        """Answers, or what pretends to be."""
        buffer, flow = self._map.buffer, self._flow
        for _ in range(DATAGRAMS_PER_EVENT):
            try:
                size, source = sock.recvfrom_into(buffer)
            except BlockingIOError:
                return
            except OSError:
                continue  # what became of an earlier datagram
            mapping = self._by_address.get(source[:2])
            now = self._map.now()
            if mapping is None or flow is None:
                continue
            if now - mapping.last > self._map.idle:
                self._forget_mappings([mapping.remote])
                continue
            mapping.last = now
            mapping.sent += size
            self._map.touch(self, now)
            # Who has asked for another place than was meant is to hear from that one.
            as_asked = flow.keeps_names or mapping.meant != mapping.remote
            flow.send(mapping.remote if as_asked else source[:2], buffer[:size])
            if self.over:
                return


class _UdpSocket:
    """One socket of a flow, in the poller."""

    __slots__ = ("_flow", "_poller", "sock")

    def __init__(self, flow: MappedFlow, poller: Poller, sock: socket.socket) -> None:
        self._flow = flow
        self._poller = poller
        self.sock = sock
        poller.add(sock.fileno(), self, True, False)

    def readable(self) -> None:
        """UdpFlows have come."""
        self._flow.readable(self.sock)

    def writable(self) -> None:
        """Never asked for."""

    def close(self) -> None:
        """Give the port back."""
        self._poller.remove(self.sock.fileno())
        self.sock.close()


# What the far side is told: no more than the code says.
_REASONS = {
    Code.NOT_ALLOWED: "not allowed there",
    Code.NO_SUCH_HOST: "no such host",
    Code.UNREACHABLE: "it cannot be reached from there",
    Code.TIMED_OUT: "no answer in time",
    Code.INTERNAL: "the resolver failed",
}
