"""The sockets of an LSTP middle: its `Lobby` decides, this file does (rows L1, L12; X7, R2).

`LstpMiddleFactory` is an ordinary Twisted factory for any endpoint. `accept`
takes raw sockets instead, from a `tunnelkit.net.sockets.tcp.Listener` as `listen`
makes one: that is the fast way, without a transport per connection.

Once two ends are paired a relay of `tunnelkit.net.sockets.relay` joins them, and
nothing here sees their bytes any more.
"""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from tunnelkit.core.counted_address import counted_address
from tunnelkit.core.decision import Decision
from tunnelkit.core.lstp.middle import (
    Close,
    Command,
    Dial,
    Lobby,
    MiddleConnection,
    Pair,
    Send,
    State,
    Upstream,
)
from tunnelkit.core.lstp.pairs import FIRST_BYTES_LIMIT
from tunnelkit.net.lstp.admission import Admission, Network
from tunnelkit.net.lstp.guests import Guest, Party, UpstreamParty
from tunnelkit.net.lstp.pairs import Paired, who_gives_way
from tunnelkit.net.role_status import metric, metric_by
from tunnelkit.net.sockets.arrival import Arrival
from tunnelkit.net.sockets.descriptors import for_strangers
from tunnelkit.net.sockets.poll import Poller
from tunnelkit.net.sockets.quiet import QuietRelays
from tunnelkit.net.sockets.relay import join
from tunnelkit.net.sockets.socket_carrier import Carrier, SocketCarrier
from tunnelkit.net.sockets.tcp import Listener, bind_tcp, keep_alive
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.traffic import Traffic

_log = Logger()


@attrs.frozen
class MiddleStatus:
    """What a middle is doing, at one moment."""

    in_setup: int = metric("setups_open", "Connections whose setup is not complete")
    waiting: int = metric("ends_waiting", "Ends that wait for a partner")
    pairs: int = metric("pairs_open", "Pairs that are connected")
    pairs_ever: int = metric("pairs_total", "Pairs made since the start")
    bytes_relayed: int = metric("relayed_bytes_total", "Bytes passed on, both directions")
    not_admitted: int = metric(
        "not_admitted_total", "Connections turned away because of where they came from"
    )
    rejected: Mapping[str, int] = metric_by(
        "reason", "handshakes_rejected_total", "Ends sent away before they had a partner"
    )


class LstpMiddleFactory(Factory):
    """Everybody at one middle.

    ``lobby`` holds the rules and limits. ``admit``: see `Admission`. ``next_middle`` leads to
    the next middle of a cascade, if the lobby has one. ``clock`` must never go back, which the
    reactor's own may.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        lobby: Lobby,
        *,
        admit: Sequence[Network] = (),
        next_middle: IStreamClientEndpoint | None = None,
        clock: Callable[[], float] | None = None,
        max_connections: int | None = None,
    ) -> None:
        """``max_connections``: of all kinds at once; None: as descriptors allow (X25)."""
        self._poller = Poller.of(reactor)
        reactor = self._poller.reactor
        self._reactor = reactor
        self._now: Callable[[], float] = clock or reactor.seconds
        self.lobby = lobby
        self.admission = Admission(admit, self._now)
        self._next_middle = next_middle
        self._timer = Timer(reactor, self._deadline_passed)
        self._quiet = QuietRelays(reactor, lambda: [paired.relay for paired in self._pairs])
        self._max_connections = max_connections or for_strangers()
        self._pairs: set[Paired] = set()
        self._young: deque[Paired] = deque()
        self._pairs_ever = 0
        self._bytes_of_ended = 0
        self._rejected: Counter[str] = Counter()
        self._idle: list[Deferred[None]] = []

    # -- arrivals --

    def buildProtocol(self, addr: IAddress | None) -> Arrival | None:
        """A protocol for one connection; None turns it away."""
        host = getattr(addr, "host", "")
        return Arrival(self.enter, host) if self.admission.admits(host) else None

    def accept(self, sock: socket.socket, peer_address: tuple[str, int]) -> None:
        """Take a raw connected socket, as a `Listener` hands it out."""
        if self.admission.admits(peer_address[0]):
            self.enter(SocketCarrier(self._poller, sock), peer_address[0])
        else:
            sock.close()

    def listen(self, decision: Decision) -> Listener:
        """Listen the fast way; raises `BindError`. The caller closes the listener."""
        sock = bind_tcp(decision)
        keep_alive(sock)  # accepted sockets inherit it
        return Listener(self._poller, sock, self.accept)

    def enter(self, carrier: Carrier, host: str) -> None:
        """Let a connection in; it belongs to the middle from now on."""
        self._make_room()
        guest = Guest(self, carrier, host)
        self.do(self.lobby.connected(guest.connection, self._now()))
        if guest.connection.state is not State.ENDED:
            carrier.start(guest)

    def _make_room(self) -> None:
        """End a pair if there is no room for a newcomer (X25)."""
        held = self.lobby.in_setup + self.lobby.waiting + 2 * len(self._pairs)
        if held >= self._max_connections and self._pairs:
            who_gives_way(self._pairs, self._now()).relay.abort("another needed its place")

    def receive(self, connection: MiddleConnection, view: memoryview) -> None:
        """Bytes of a connection in setup."""
        commands = self.lobby.receive(connection, view, self._now())
        if commands:
            self.do(commands)
        elif not self._timer.running:
            self._arm()

    # What its connections tell it (`tunnelkit.net.lstp.guests.Host`).

    def lost(self, connection: MiddleConnection) -> None:
        """An end that was not paired is gone."""
        self.do(self.lobby.lost(connection, self._now()))

    def next_reached(self, guest: Guest, way: UpstreamParty) -> bool:
        """The next middle has been dialled for ``guest``; False: that is not wanted any more."""
        commands = self.lobby.reached(guest.connection, way, self._now())
        for command in commands:
            way.connection = command.connection
        self.do(commands)
        return bool(commands)

    def next_missed(self, guest: Guest) -> None:
        """There is no connection to the next middle for ``guest``."""
        self.do(self.lobby.missed(guest.connection, self._now()))

    def answered(self, connection: Upstream, view: memoryview) -> None:
        """Bytes from the next middle."""
        self.do(self.lobby.answered(connection, view, self._now()))

    # -- commands --

    def do(self, commands: Iterable[Command]) -> None:
        """Do what the lobby says."""
        for command in commands:
            if isinstance(command, Send):
                _party_of(command.connection).send(command.data)
            elif isinstance(command, Dial):
                guest = _party_of(command.connection)
                assert isinstance(guest, Guest)
                assert self._next_middle is not None
                guest.ask(self._next_middle)
            elif isinstance(command, Pair):
                self._join(command)
            else:
                self._close(command)
        self._arm()

    def _close(self, command: Close) -> None:
        guest = _party_of(command.connection)
        if guest.paired is not None:
            guest.paired.relay.abort(f"{command.code}: {command.reason}")
            return
        self._rejected[str(command.code)] += 1
        _log.warn(
            "Sent away {address}: {code}, {reason}",
            address=guest.connection.address,
            code=str(command.code),
            reason=command.reason,
        )
        guest.leave()

    def _join(self, command: Pair) -> None:
        first, second = _party_of(command.first), _party_of(command.second)
        for one, other in ((first, second), (second, first)):
            if isinstance(one, Guest):
                if one.upstream_party is other:
                    one.upstream_party = None
                one.stop_asking()
        self._pairs_ever += 1
        names = command.first_name, command.second_name
        paired = Paired(first, second, names, self._pairs_ever, self._now())
        first.paired = second.paired = paired
        self._pairs.add(paired)
        self._young.append(paired)
        _log.info(
            "Pair {pair} begins: {first} {first_name!r} and {second} {second_name!r}",
            event="paired",
            **paired.who(),
        )
        paired.relay = join(
            self._poller,
            first.carrier,
            second.carrier,
            partial(self.pair_ended, paired),
            to_a=first.take_unsent(),
            to_b=second.take_unsent(),
        )
        paired.relay.start()

    def pair_ended(self, paired: Paired, relay: object, ab: int, ba: int, outcome: str) -> None:
        """The relay of a pair has ended and closed both connections."""
        now = self._now()
        self._pairs.discard(paired)
        self._bytes_of_ended += ab + ba
        _log.info(
            "Pair {pair} ended: {outcome}, {bytes_first} and {bytes_second} bytes, {seconds:.3f} s",
            event="pair-ended",
            **paired.who(),
            bytes_first=ab,
            bytes_second=ba,
            seconds=round(now - paired.since, 3),
            outcome=outcome,
        )
        if paired.first.connection.state is State.PAIRED:
            self.lobby.lost(paired.first.connection, now)
            self._arm()
        if not self._pairs:
            self._quiet.stop()
            idle, self._idle = self._idle, []
            for deferred in idle:
                deferred.callback(None)

    # -- time --

    def _arm(self) -> None:
        """One timer for all. One that comes too early finds nothing to do and is set again."""
        deadline = self.lobby.next_deadline()
        if deadline is None:
            self._timer.stop()
        else:
            self._timer.start_by(self._reactor.seconds() + deadline - self._now(), 0.001)

    def _deadline_passed(self) -> None:
        now = self._now()
        young = self._young
        # The lobby's limit began a little before the relay's: whoever is close to it counts.
        for paired in young:
            if paired.since + FIRST_BYTES_LIMIT > now + 1.0:
                break
            if paired.relay.bytes_ab or paired.relay.bytes_ba:
                self.lobby.flowing(paired.first.connection)
        while young and young[0].since + FIRST_BYTES_LIMIT <= now:
            young.popleft()
        self.do(self.lobby.deadline_passed(now))

    # -- by hand (row O6) --

    def traffic(self) -> Iterator[Traffic]:
        """A row for each pair, and for each end that waits."""
        now = self._now()
        for paired in list(self._pairs):
            yield Traffic(
                id=f"pair-{paired.number}",
                kind="pair",
                who=f"{paired.first_name} and {paired.second_name}",
                what="claimed names: a middle can prove none",
                origin=" and ".join(
                    party.carrier.far_address or "this process"
                    for party in (paired.first, paired.second)
                ),
                seconds=now - paired.since,
                sent=paired.relay.bytes_ba,
                received=paired.relay.bytes_ab,
                state="open",
            )
        for connection in self.lobby.all_waiting():
            info = connection.setup_info()
            yield Traffic(
                id=f"waiting-{id(connection)}",
                kind="waiting",
                who=info.unique,
                what=info.role,
                origin=_party_of(connection).carrier.far_address,
                seconds=None,
                sent=0,
                received=0,
                state="waits for a partner",
            )

    def end_one(self, number: str) -> bool:
        """End the pair, or send the waiting end away, that has this `Traffic.id`."""
        for paired in self._pairs:
            if number == f"pair-{paired.number}":
                paired.relay.abort("ended by hand")
                return True
        for connection in self.lobby.all_waiting():
            if number == f"waiting-{id(connection)}":
                self.do(self.lobby.send_away(connection, "sent away by hand"))
                return True
        return False

    def throw_out(self, address: str, seconds: float) -> int:
        """End all from ``address`` and turn away who comes from there for so long; how many."""
        self.admission.bar(address, seconds)
        counted = counted_address(address)
        pairs = [paired for paired in self._pairs if counted in paired.holders]
        for paired in pairs:
            paired.relay.abort("thrown out by hand")
        waiting = [one for one in self.lobby.all_waiting() if one.address == address]
        for connection in waiting:
            self.do(self.lobby.send_away(connection, "thrown out by hand"))
        return len(pairs) + len(waiting)

    # -- status and the end --

    def status(self) -> MiddleStatus:
        """What is going on now."""
        flowing = sum(pair.relay.bytes_ab + pair.relay.bytes_ba for pair in self._pairs)
        return MiddleStatus(
            in_setup=self.lobby.in_setup,
            waiting=self.lobby.waiting,
            pairs=self.lobby.pairs,
            pairs_ever=self._pairs_ever,
            bytes_relayed=self._bytes_of_ended + flowing,
            not_admitted=self.admission.turned_away,
            rejected=dict(self._rejected),
        )

    def shut_down(self) -> Deferred[None]:
        """Send everybody away who is not paired; fires once the last pair has ended.

        A pair through which nothing passes is ended. Close the listeners first. See `abort_pairs`.
        """
        done: Deferred[None] = Deferred()
        self.do(self.lobby.shut_down())
        if self._pairs:
            self._idle.append(done)
            self._quiet.start()
        else:
            done.callback(None)
        return done

    def abort_pairs(self) -> None:
        """End every pair now, as a reset."""
        for paired in list(self._pairs):
            paired.relay.abort("the middle is shutting down")
        self._young.clear()
        self._arm()


def _party_of(connection: MiddleConnection) -> Party:
    owner = connection.owner
    assert isinstance(owner, Party)
    return owner
