"""The operator's proxy: who is on the way to which domain proxy, and what passes (W3, W4, W5, W7).

A gateway says for each datagram of a device whether it belongs to an
association with this proxy (`Serve`) or goes to a domain proxy unopened
(`ToTarget`). It never opens one.

    secure_request() -> 5.03 to the device, MAP to the domain proxy -> hello -> tunnel mode -> over
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from tunnelkit.core.table import step
from tunnelkit.core.wtls.events import (
    Address,
    Answer,
    ClosePath,
    Discard,
    Event,
    GatewayConfig,
    OpenPath,
    Serve,
    ToDevice,
    ToTarget,
)
from tunnelkit.core.wtls.mapping import (
    BUSY,
    GIVE_UP_AFTER,
    REFRESH,
    REPEATS,
    SILENCE,
    STORED_FOR,
    TABLE,
    Action,
    Input,
    Mapping,
    State,
)
from tunnelkit.core.wtls.places import Lately, Places
from tunnelkit.errors import RemoteProtocolError
from tunnelkit.wire.dtls_records import (
    APPLICATION_DATA,
    ClientHello,
    Kind,
    classify,
    offered_cookie,
)
from tunnelkit.wire.wtls_map import TOKEN_BYTES, MapDatagram, MapType, decode, encode, is_map

PER_HOST = 100
"""Mappings of devices behind one address."""
MOST = 10_000
"""Mappings in all."""
UNPROVEN_MOST = 256
"""Of those, begun by a server name alone and without a sign yet that the sender gets answers."""
UNPROVEN_FOR = 10.0
TUNNELLED = 1_000
"""Devices of which it is remembered that they had a tunnel."""


_SERVE: list[Event] = [Serve()]
_DTLS = (Kind.RECORD, Kind.HELLO)


class Gateway:
    """All devices of an operator's proxy that are on the way to a domain proxy.

    ``new_token``: 16 random bytes at each call.
    """

    def __init__(self, config: GatewayConfig, new_token: Callable[[int], bytes]) -> None:
        self.config = config
        self._new_token = new_token
        self._mappings: dict[Address, Mapping] = {}
        """By device."""
        self._hosts: dict[str, dict[int, Mapping]] = {}
        self._unproven: dict[Mapping, None] = {}
        self.places = Places(config.ttl, config.strict)
        self._failed = Lately(MOST)
        """Devices whose next request gets 5.04, and until when."""
        self._tunnelled = Lately(TUNNELLED)
        """The latest devices whose tunnels are over, and which did get what was sent to them."""
        self._queue: list[tuple[float, int, Mapping]] = []
        self._number = 0
        self.dropped = 0
        """Datagrams that were let through to nobody."""

    # -- requests in associations with this proxy --------------------------

    def target_of(self, host: str) -> Address | None:
        """The domain proxy of a secure server of the list; None: it is not on it."""
        return self.config.secure.get(host)

    def secure_request(
        self, device: Address, target: Address, now: float
    ) -> tuple[Answer, list[Event]]:
        """``device`` asks, in its association here, for a server behind ``target``."""
        if target not in self.config.keys:
            return Answer.NO_KEY, []
        if self._failed.take(device, now):
            return Answer.UNREACHABLE, []
        if device in self._mappings:
            # It asks again before it has come again: the 5.03 was lost, or is not understood.
            return Answer.RETRY, []
        if not self._has_room(device[0]):
            return Answer.FULL, []
        if self.places.needs_same_port(device, self._tunnels(device[0]), now):
            return Answer.NEW_PORTS, []
        self.places.sent_away(device, now)
        mapping = self._begin(device, target, now)
        return Answer.RETRY, [OpenPath(mapping), self._map(mapping, now)]

    def was_tunnelled(self, device: Address) -> bool:
        """Whether ``device`` had a tunnel lately, and got what was sent to it.

        It may be in the middle of a handshake with the domain proxy, and hold a cookie of that.
        """
        return device in self._tunnelled

    # -- datagrams --------------------------------------------------------

    def from_device(self, device: Address, data: bytes | memoryview, now: float) -> list[Event]:
        """A datagram of a device: what becomes of it."""
        kind = classify(data)
        if kind is Kind.HELLO:
            return self._hello(device, data, now)
        if kind is not Kind.RECORD:
            self.dropped += 1
            return []
        mapping = self._mappings.get(device)
        if mapping is None:
            return _SERVE
        if mapping.state is State.TUNNEL:
            # As the table says; not looked up for every datagram.
            return self._forward(mapping, data, now)
        return self._happened(mapping, Input.DEVICE_RECORD, now, data)

    def from_target(self, mapping: Mapping, data: bytes | memoryview, now: float) -> list[Event]:
        """A datagram from the domain proxy, through the mapping's socket."""
        if mapping.state is State.CLOSED:
            self.dropped += 1
            return []
        if classify(data) in _DTLS:
            if mapping.state is State.TUNNEL:
                return self._deliver(mapping, data, now)
            return self._happened(mapping, Input.TARGET_RECORD, now, data)
        if is_map(data):
            return self._answered(mapping, data, now)
        self.dropped += 1
        return []

    def path_failed(self, mapping: Mapping, why: str, now: float) -> list[Event]:
        """The domain proxy cannot be reached, or may not be: the mapping is over."""
        if mapping.state is State.CLOSED:
            return []
        self._failed.add(mapping.device, now + STORED_FOR)
        return self._close(mapping, why)

    # -- time -------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `deadline_passed` has to be called."""
        queue = self._queue
        while queue and queue[0][2].state is State.CLOSED:
            heapq.heappop(queue)
        return queue[0][0] if queue else None

    def deadline_passed(self, now: float) -> list[Event]:
        """What is due now."""
        events: list[Event] = []
        while self._queue and self._queue[0][0] <= now:
            mapping = heapq.heappop(self._queue)[2]
            if mapping.state is not State.CLOSED:
                if mapping.due <= now:
                    events += self._due(mapping, now)
                self._schedule(mapping)
        self.places.tidy(now)
        return events

    def close(self) -> list[Event]:
        """End all mappings."""
        return [
            event
            for mapping in list(self._mappings.values())
            for event in self._close(mapping, "shutting down")
        ]

    @property
    def mappings(self) -> Iterable[Mapping]:
        """Those that are there now."""
        return self._mappings.values()

    # -- inside -----------------------------------------------------------

    def _hello(self, device: Address, data: bytes | memoryview, now: float) -> list[Event]:
        mapping = self._mappings.get(device) or self._roaming(device, now)
        if mapping is not None:
            if not mapping.proven:
                self._look_for_cookie(mapping, data)
            return self._happened(mapping, Input.DEVICE_HELLO, now, data)
        if not self.config.secure:
            return _SERVE
        try:
            name = ClientHello.read(data).server_name
        except RemoteProtocolError:
            self.dropped += 1
            return []
        target = self.config.secure.get(name)
        if target is None or target not in self.config.keys:
            return _SERVE
        if not self._has_room(device[0]):
            self.dropped += 1
            return []
        events: list[Event] = []
        if len(self._unproven) >= UNPROVEN_MOST:
            events += self._close(next(iter(self._unproven)), "its place was needed")
        mapping = self._begin(device, target, now)
        mapping.by_name, mapping.proven = True, False
        mapping.ends_at = now + UNPROVEN_FOR
        self._unproven[mapping] = None
        events += [OpenPath(mapping), self._map(mapping, now)]
        return events + self._happened(mapping, Input.DEVICE_HELLO, now, data)

    def _roaming(self, device: Address, now: float) -> Mapping | None:
        """What a device that takes a new port each time is waiting for, if it is alone there."""
        port = self.places.last_port(device[0], self._tunnels(device[0]), now)
        if port is None:
            return None
        mapping = self._mappings.get((device[0], port))
        if mapping is None or mapping.state not in (State.ASKED, State.KNOWN):
            return None
        self._move(mapping, device)
        return mapping

    def _move(self, mapping: Mapping, device: Address) -> None:
        del self._mappings[mapping.device]
        ports = self._hosts[device[0]]
        del ports[mapping.device[1]]
        mapping.device = device
        self._mappings[device] = ports[device[1]] = mapping

    def _tunnels(self, host: str) -> set[int]:
        """The ports of ``host`` that are in tunnel mode."""
        return {
            port
            for port, mapping in self._hosts.get(host, {}).items()
            if mapping.began_at is not None
        }

    def _has_room(self, host: str) -> bool:
        return len(self._hosts.get(host, ())) < PER_HOST and len(self._mappings) < MOST

    def _begin(self, device: Address, target: Address, now: float) -> Mapping:
        key, token = self.config.keys[target], self._new_token(TOKEN_BYTES)
        mapping = Mapping(device, target, key, token, now)
        self._mappings[device] = mapping
        self._hosts.setdefault(device[0], {})[device[1]] = mapping
        self._schedule(mapping)
        return mapping

    def _look_for_cookie(self, mapping: Mapping, data: bytes | memoryview) -> None:
        try:
            shown = ClientHello.read(data).cookie
        except RemoteProtocolError:
            return
        if shown and shown == mapping.cookie:
            mapping.proven = True
            self._unproven.pop(mapping, None)
            assert mapping.began_at is not None
            mapping.ends_at = mapping.began_at + self.config.ttl

    def _happened(
        self, mapping: Mapping, happened: Input, now: float, data: bytes | memoryview = b""
    ) -> list[Event]:
        action, state = step(TABLE, mapping.state, happened)
        if state is State.CLOSED:
            return self._ended(mapping, action, now)
        mapping.state = state
        if action is Action.FORWARD:
            return self._forward(mapping, data, now)
        if action is Action.DELIVER:
            return self._deliver(mapping, data, now)
        if action is Action.SERVE:
            return _SERVE
        if action is Action.BEGIN:
            mapping.began_at = mapping.last_data = now
            if mapping.proven:
                mapping.ends_at = now + self.config.ttl
            mapping.may_forward_hello(now)
            mapping.bytes_from_device += len(data)
            self._schedule(mapping)
            return [Discard(mapping.device), ToTarget(mapping, data)]
        if action is Action.FORWARD_HELLO and mapping.may_forward_hello(now):
            mapping.bytes_from_device += len(data)
            # Nobody repeats MAP for a sender who may not exist: his hellos do.
            again = [] if mapping.proven else [self._map(mapping, now)]
            return [*again, ToTarget(mapping, data)]
        if action is Action.AWAIT_SILENCE:
            self._schedule(mapping)
        elif action is Action.NOTE_ANSWER:
            mapping.answered_at, mapping.repeat = now, 0
            mapping.next_map = now + REFRESH
            self._schedule(mapping)
        else:
            self.dropped += 1
        return []

    def _forward(self, mapping: Mapping, data: bytes | memoryview, now: float) -> list[Event]:
        mapping.bytes_from_device += len(data)
        if data[0] == APPLICATION_DATA:
            mapping.last_data = now
        return [ToTarget(mapping, data)]

    def _deliver(self, mapping: Mapping, data: bytes | memoryview, now: float) -> list[Event]:
        mapping.last_target = now
        if data[0] == APPLICATION_DATA:
            mapping.last_data = now
        if not mapping.proven:
            mapping.cookie = offered_cookie(data) or mapping.cookie
            if mapping.bytes_to_device + len(data) > mapping.bytes_from_device:
                self.dropped += 1
                return []
        mapping.bytes_to_device += len(data)
        return [ToDevice(mapping, data)]

    def _answered(self, mapping: Mapping, data: bytes | memoryview, now: float) -> list[Event]:
        try:
            said = decode(data, mapping.key)
        except RemoteProtocolError:
            self.dropped += 1
            return []
        if said.token != mapping.token or said.type not in (MapType.MAP_OK, MapType.END):
            self.dropped += 1
            return []
        return self._happened(mapping, Input[said.type.name], now)

    def _due(self, mapping: Mapping, now: float) -> list[Event]:
        if mapping.ends_at <= now:
            over = Input.TTL if mapping.began_at is not None else Input.WAITED
            return self._happened(mapping, over, now)
        if mapping.state is State.ENDING:
            if now >= mapping.last_target + SILENCE:
                return self._happened(mapping, Input.SILENCE, now)
            return []
        if not mapping.prolonged and mapping.began_at is not None and now >= mapping.decision_at:
            mapping.prolonged = True
            if now - mapping.last_data < BUSY and mapping.proven:
                mapping.ends_at += self.config.ttl
                mapping.next_map = now
        if mapping.next_map > now:
            return []
        if mapping.answered_at is None and now >= mapping.asked_at + GIVE_UP_AFTER:
            return self._happened(mapping, Input.UNANSWERED, now)
        return [self._map(mapping, now)]

    def _map(self, mapping: Mapping, now: float) -> ToTarget:
        """MAP, and when it is due again."""
        if mapping.answered_at is not None:
            mapping.next_map = now + REFRESH
        elif not mapping.proven:
            mapping.next_map = mapping.asked_at + GIVE_UP_AFTER
        else:
            moments = (*REPEATS, GIVE_UP_AFTER)
            mapping.next_map = mapping.asked_at + moments[min(mapping.repeat, len(REPEATS))]
            mapping.repeat += 1
        running = mapping.began_at is not None and mapping.proven
        left = mapping.ends_at - now if running else self.config.ttl
        datagram = MapDatagram(MapType.MAP, mapping.token, max(1, min(0xFFFF, round(left))))
        return ToTarget(mapping, encode(datagram, mapping.key))

    def _ended(self, mapping: Mapping, action: Action, now: float) -> list[Event]:
        if action is Action.CONFIRM_END:
            end = encode(MapDatagram(MapType.END_OK, mapping.token, 0), mapping.key)
            return [ToTarget(mapping, end), *self._close(mapping, "the domain proxy ended it")]
        if action is Action.GIVE_UP:
            self._failed.add(mapping.device, now + STORED_FOR)
            return self._close(mapping, "the domain proxy did not answer")
        came = mapping.began_at is not None
        return self._close(mapping, "its time is over" if came else "the device did not come")

    def _close(self, mapping: Mapping, why: str) -> list[Event]:
        mapping.state = State.CLOSED
        del self._mappings[mapping.device]
        ports = self._hosts[mapping.device[0]]
        del ports[mapping.device[1]]
        if not ports:
            del self._hosts[mapping.device[0]]
        self._unproven.pop(mapping, None)
        if mapping.proven and mapping.began_at is not None:
            self._tunnelled.add(mapping.device)
        return [ClosePath(mapping, why)]

    def _schedule(self, mapping: Mapping) -> None:
        if mapping.state is not State.CLOSED:
            self._number += 1
            heapq.heappush(self._queue, (mapping.due, self._number, mapping))
