"""What an end of any protocol has as a role: all but how it meets the other end.

identity -> dialer -> meeting -> secured connection -> tunnel -> front ends here
                                                              -> egress: what the policy allows
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from zope.interface import implementer

from tunnelkit.egress.bench import BenchEgress
from tunnelkit.egress.dial import Egress
from tunnelkit.egress.dns import DnsEgress
from tunnelkit.egress.list_exchange import ListExchange
from tunnelkit.egress.listen import ListenEgress
from tunnelkit.egress.names import use_system_resolver
from tunnelkit.egress.udp import UdpEgress
from tunnelkit.egress.x11 import X11Connect
from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import (
    IChannelProtocol,
    IEndService,
    IOpensPorts,
    IRendezvous,
    IRenewsKeys,
    ISteered,
    IUnlocks,
)
from tunnelkit.net.channels.end import ADVICE, TunnelEnd, context_for
from tunnelkit.net.channels.request import ChannelRequest
from tunnelkit.net.channels.tunnel import Tunnel
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.net.traffic import Traffic
from tunnelkit.policy.access_log import AccessLog
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.identity import Identity
from tunnelkit.policy.mapping import Maps
from tunnelkit.roles.credential_watch import CredentialWatch
from tunnelkit.roles.end_config import EndConfig
from tunnelkit.roles.end_status import EndStatus
from tunnelkit.roles.keyhole import Keyhole
from tunnelkit.roles.live_ports import LivePorts
from tunnelkit.roles.paired_end import PairedEnd
from tunnelkit.roles.ports import FrontEnds, descriptions
from tunnelkit.roles.ready import named, tell_locked, tell_ready
from tunnelkit.roles.running_end import RunningEnd
from tunnelkit.roles.thrown_out import tell_thrown_out

_log = Logger()

GRACE = 30.0
"""Seconds in which what is open may finish when a role is told to stop, unless it is said."""


@implementer(IEndService, ISteered, IOpensPorts, IUnlocks, IRenewsKeys)
class EndService(MultiService):
    """One running end; its ports are bound when it is made (`ConfigError` if one is taken).

    A subclass speaks ``protocols``, and hands its rendezvous to `run`.
    """

    end: RunningEnd
    dials = True
    """It can be told to connect and to disconnect."""

    def __init__(
        self,
        reactor: Any,
        role: str,
        config: EndConfig,
        tunnel_name: str,
        own: Mapping[str, IChannelProtocol],
        server_name: str = "",
    ) -> None:
        MultiService.__init__(self)
        self._reactor = reactor
        self._role = role
        self._config = config
        self._whereto = ""
        self.grace = GRACE
        """See `IRoleService`."""
        self.shared = Shared.of(reactor)
        self.shared.half_closed_limit = float(config.half_closed_limit)
        self.protocols = tuple(own.values())
        if config.protocols:
            self.protocols = tuple(
                own[maker.name] if maker.name in own else maker.make_protocol(reactor)
                for maker in config.protocols
            )
        self.policy = PolicyHolder(Policy(config.rules, config.sources))
        if config.system_resolver:
            use_system_resolver(reactor)
        self._egress = Egress(reactor, self.shared.poller, self.policy)
        self._egress.maps = Maps(config.maps)
        X11Connect(self._egress, os.environ)
        DnsEgress(self._egress, config.dns_servers)
        BenchEgress(self._egress)
        for part in (UdpEgress(self._egress), ListenEgress(self._egress)):
            IService(part).setServiceParent(self)
        self.tunnel = Tunnel(self.shared, tunnel_name, self.acceptor(), AccessLog.of(reactor))
        self.tunnel.totals.expect({*config.peers, *config.pins.values()})
        self._front_ends = FrontEnds(reactor, self.tunnel, self.policy)
        peers = {*config.peers, *config.pins.values()}
        self.live_ports = LivePorts(
            self._front_ends, peers, config.ports_allowed, config.ports_file
        )
        make_context = partial(context_for, protocols=self.protocols, server_name=server_name)
        self._watch = CredentialWatch(
            self.shared,
            config.identity_file,
            config.crl_file,
            make_context,
            config.pins,
            config.terms,
            config.state_dir,
            may_wait=True,
        )
        self._keyhole = Keyhole(reactor, self._watch)
        self._begun = False
        self._paired = PairedEnd(
            self._egress,
            self.tunnel,
            self._watch,
            config.state_dir,
            paired=config.paired,
            pins_file=config.pins_file,
            stays=lambda: self.keys_stay,
        )
        self._lists = ListExchange(
            self._egress, self.tunnel, lambda: self._watch.list_to_give, self._watch.take_list
        )

    def acceptor(self) -> Callable[[ChannelRequest], None]:
        """Who answers what the other end asks for."""
        return self._egress

    @property
    def context(self) -> TlsContext:
        """For the next handshake."""
        return self._watch.context

    @property
    def identity(self) -> Identity:
        """The newest, and with it who is revoked now."""
        found, current = self._watch.identity, self.context.credentials
        credentials = attrs.evolve(
            found.credentials, check_revocation=current.check_revocation, crls=current.crls
        )
        return attrs.evolve(found, credentials=credentials)

    @property
    def published(self) -> Sequence[str]:
        """Names of the services that others may use, for the ready line."""
        return ()

    def run(self, rendezvous: IRendezvous, whereto: str) -> None:
        """Meet others by ``rendezvous``, and open the ports; ``whereto`` is for the ready line."""
        self.run_end(self.make_end(rendezvous, self._config.peers, self.told_ready), whereto)

    def make_end(
        self, rendezvous: IRendezvous, peers: frozenset[str], on_ready: Callable[[], None]
    ) -> TunnelEnd:
        """An end of this one's tunnel."""
        return TunnelEnd(
            rendezvous,
            self.protocols,
            tunnel=self.tunnel,
            context=self.context,
            peers=peers,
            on_ready=on_ready,
            advice=self.advice,
        )

    @property
    def keys_stay(self) -> str:
        """Why its key cannot be renewed through the tunnel; empty: it can."""
        return ""

    def pair_again(self) -> Deferred[Mapping[str, object]]:
        """See `IRenewsKeys`."""
        return self._paired.keys.renew()

    @property
    def advice(self) -> str:
        """What to look at when nobody comes; see `TunnelEnd`."""
        return ADVICE

    def run_end(self, end: RunningEnd, whereto: str) -> None:
        """Let this be ``end``, and open the ports."""
        self.end = end
        end.manual = self._config.manual
        self._whereto = whereto
        self._watch.on_change = self._credentials_changed
        try:
            self.open_ports()
        except ConfigError:
            MultiService.stopService(self)
            raise

    def open_ports(self) -> None:
        """Bind what the configuration asks for; raises `ConfigError`."""
        IService(self._front_ends).setServiceParent(self)
        self.live_ports.configure(self._config.front_ends)

    def startService(self) -> None:
        """Accept at the ports, and begin to meet the other end."""
        MultiService.startService(self)
        self._watch.start()
        self._lists.start()
        self._paired.start()
        if self._watch.identity.locked:
            tell_locked(self._role, self._watch.locked, self._config.unlocking)
        else:
            self._begin()

    def _begin(self) -> None:
        self._begun = True
        self.begin()

    def begin(self) -> None:
        """Begin to meet others; as soon as there is a key to prove who this is."""
        self.end.start()

    def stopService(self) -> Deferred[Any]:
        """Take nothing new; fires when what is open has finished, or ``grace`` seconds later."""
        self._watch.stop()
        self._paired.stop()
        closing: Deferred[Any] = MultiService.stopService(self)
        drained = self.end.stop(self.grace)
        drained.addCallback(lambda _: self._over())
        return gatherResults([closing, drained])

    def _over(self) -> None:
        self._egress.close()
        AccessLog.of(self._reactor).close()

    def reload(self, config: Any) -> list[str]:
        """Put in force what can change while this runs; what that was, in words (row O3).

        Raises `ConfigError`, and nothing has changed then, if a new port is taken.
        """
        self._watch.check_pins(config.pins)
        closed, opened = self.live_ports.configure(config.front_ends)
        changes = [f"closed {what}" for what in closed] + [f"opened {what}" for what in opened]
        if self._watch.use_pins(config.pins):
            names = {*config.peers, *config.pins.values()}
            self.tunnel.totals.expect(names)
            self.live_ports.peers = names
            changes.append(f"keys pinned now: {len(config.pins)}")
            self._paired.keys.settle()
        policy = self.policy.current
        if policy.rules != config.rules:
            changes.append(f"rules now in force: {len(config.rules)}")
        if policy.sources != config.sources:
            networks = ", ".join(map(str, config.sources)) or "everywhere"
            changes.append(f"programs may come from {networks}")
        self.policy.replace(config.rules, config.sources)
        if self._egress.maps.rules != config.maps:
            changes.append(f"maps now in force: {len(config.maps)}")
            self._egress.maps = Maps(config.maps)
        if self._watch.use_list(config.crl_file):
            changes.append(f"revocation list {config.crl_file or 'none'}")
        return changes

    def told_ready(self) -> None:
        """The end can be used: the one line that says so."""
        opened = ", ".join(descriptions(self)) or "no ports here"
        peers = self.tunnel.status().peers
        expected = sorted({*self._config.peers, *self._config.pins.values()})
        state = f"up with {', '.join(peers)}" if peers else f"waits for {named(expected)}"
        if self.dials and self._config.manual:
            state = "not connected, `tunnelkit connect` connects it"
        allowed = named([rule.text for rule in self._config.rules], "nothing")
        published = named(self.published, "")
        tell_ready(
            self._role,
            opened,
            f"as {self._config.identity.name}",
            self._whereto,
            state,
            f"allows {allowed}",
            published and f"publishes {published}",
            self._watch.ready_words,
        )

    # -- by hand (rows L14, O2, O6) ---------------------------------------

    def traffic(self) -> Iterator[Traffic]:
        """See `ISteered`."""
        return self.tunnel.traffic()

    def end_one(self, number: str) -> bool:
        """See `ISteered`."""
        return number.isdecimal() and self.tunnel.end_channel(int(number))

    def throw_out(self, who: str, seconds: float) -> int:
        """See `ISteered`."""
        ended = self.tunnel.throw_out(who, seconds)
        tell_thrown_out(who, seconds, ended)
        return ended

    def commands(self) -> dict[str, Callable[[], dict[str, object]]]:
        """What a running end can be told."""
        if not self.dials:
            return {}
        return {
            "connect": self._connect,
            "disconnect": lambda: self._disconnect(self.grace),
            "disconnect-now": lambda: self._disconnect(0.0),
        }

    def status(self) -> EndStatus:
        """What the end is doing."""
        certificate = self._watch.identity.credentials.certificate
        return EndStatus.of(
            self.tunnel.status(),
            self._watch.status(),
            role=self._role,
            name=self._config.identity.name,
            state=self._state(),
            state_seconds=round(self._state_seconds(), 3),
            next_try_seconds=self.end.progress.next_try,
            where=self._whereto,
            ports=tuple(descriptions(self)),
            rules=tuple(rule.text for rule in self.policy.current.rules),
            draining=self.end.draining,
            denied=dict(self._egress.denials.counts),
            certificate_until=certificate.not_valid_after_utc.isoformat(),
            locked=self.locked,
        )

    def _state(self) -> str:
        if self.tunnel.connections:
            return "connected"
        if self._watch.identity.locked and not self.end.draining:
            return "locked"
        if self.dials and not self.end.wanted:
            return "draining" if self.end.draining else "disconnected"
        return self.end.progress.stage.value

    def _state_seconds(self) -> float:
        since = self.tunnel.up_since
        return self.end.progress.seconds if since is None else self._reactor.seconds() - since

    def _connect(self) -> dict[str, object]:
        if not self._watch.identity.locked:
            self.end.connect()
        return {"state": self._state()}

    @property
    def locked(self) -> str:
        """See `IUnlocks`."""
        return self._watch.locked

    def unlock(self, passphrase: bytes) -> dict[str, object]:
        """See `IUnlocks`."""
        self._keyhole.turn(passphrase)
        if not self._begun:
            self._begin()
        return self._connect() if self.dials else {"state": self._state()}

    def _disconnect(self, grace: float) -> dict[str, object]:
        self.end.disconnect(grace)
        if not self.end.wanted and self._watch.lock():
            _log.info("Locked: the key of {where} is forgotten", where=self.locked)
        return {"state": self._state(), "draining": self.end.draining, "grace": grace}

    def _credentials_changed(self) -> None:
        self.end.context = self._watch.context
        self._lists.changed()
        self.identity_changed(self.identity)

    def identity_changed(self, identity: Identity) -> None:
        """The keys are perhaps new, and the rendezvous secret; the name is not."""
