"""What an end of any protocol is told: the part of its configuration that all ends have."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tunnelkit.core.dns_exchange import Server
from tunnelkit.frontends.registry import Wanted
from tunnelkit.interfaces import IProtocolMaker
from tunnelkit.net.sockets.context import HALF_CLOSED_LIMIT
from tunnelkit.policy.identity import STRICT, Identity, Terms
from tunnelkit.policy.mapping import MapRule
from tunnelkit.policy.rules import Rule
from tunnelkit.policy.special import Network


@attrs.frozen(kw_only=True)
class EndConfig:
    """What every end is told."""

    identity: Identity
    identity_file: str
    """Where ``identity`` was read from, to read it again when it changes."""
    unlocking: str = ""
    """What brings its passphrase, if its key is encrypted, to an end that runs, in words (K6)."""
    terms: Terms = STRICT
    """What is let pass with it."""
    state_dir: str | None = None
    """Where numbers of revocation lists are remembered; None: beside the identity."""
    peers: frozenset[str]
    """Names, one of which the other end's certificate must have; none where ``pins`` say who."""
    pins: Mapping[bytes, str] = attrs.field(factory=dict)
    """Keys (SHA-256 of the SubjectPublicKeyInfo), one of which is the other end's, and the names
    they go by (rows K3, X28)."""
    paired: bool = False
    """Meetings are counted, and ``pins_file`` says where keys are renewed (row Q2)."""
    pins_file: str = ""
    """The settings file in which renewed keys take the place of these; empty: keys stay."""
    crl_file: str | None = None
    """The revocation list; None: nobody is revoked."""
    protocols: tuple[IProtocolMaker, ...] = ()
    """What to speak, the best one first; empty: the role's own."""
    front_ends: tuple[Wanted, ...] = ()
    """The ports here, and to whom they lead."""
    rules: tuple[Rule, ...] = ()
    """What the other end may reach from here."""
    sources: tuple[Network, ...] = ()
    """Networks whose programs may enter the ports opened here; empty: all."""
    manual: bool = False
    """Connect only when told to (row L14)."""
    dns_servers: tuple[Server, ...] = ()
    """Resolvers for ``service:@dns``; empty: those of this machine."""
    maps: tuple[MapRule, ...] = ()
    """What requests of the other end mean here (row P6)."""
    half_closed_limit: int = HALF_CLOSED_LIMIT
    """Seconds that a channel may stand still whose one direction is over."""
    keepalive: int = 10
    """This end sends something through each tunnel at least every so many seconds."""
    ports_allowed: tuple[Rule, ...] = ()
    """Where ports may be opened from its page (row U15); empty: on loopback."""
    ports_file: str = ""
    """Where those are kept; empty: nowhere."""
    system_resolver: bool = False
    """Look names up as nsswitch.conf says, in threads, rather than with the own resolver."""
