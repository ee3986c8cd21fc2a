"""The interfaces that a plug-in author implements.

`tunnelkit.net` and `tunnelkit.roles` hold the implementations that come with
tunnelkit. Everything inside the package that nobody else is meant to replace
uses `typing.Protocol` instead.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface

# zope.interface methods take no ``self``.
# ruff: noqa: N805


class IProxyRole(Interface):
    """One party of one tunnel protocol, e.g. the LSTP middle: one twistd subcommand."""

    name = Attribute("The twistd subcommand, e.g. ``lstp-middle``.")
    description = Attribute("One line for ``twistd --help``.")
    config_class = Attribute("The attrs class that holds this role's configuration.")

    def make_service(reactor: object, config: object) -> object:
        """Return the `twisted.application.service.IService` that is this party."""


class ITunnel(Interface):
    """What an end role offers front ends; the same for every protocol."""

    peer = Attribute("Verified name of the other end; empty while the tunnel is down.")
    topology = Attribute("Tuple of the parties on the path, own end first.")

    def channel_to(destination: str) -> object:
        """An `IStreamClientEndpoint`: each connect opens one channel to ``destination``."""

    def accept(service: str) -> object:
        """An `IStreamServerEndpoint` for channels that the far side opens to ``service:NAME``."""

    def when_up() -> object:
        """A Deferred that fires with this tunnel once channels can be opened."""

    def status() -> object:
        """An immutable snapshot for status pages and logs."""


class IRendezvous(Interface):
    """How two ends get one byte stream between them: dial, listen, or meet at a relay."""

    def meet() -> object:
        """A Deferred of an `IMeeting`; fails with a `DialError` or `ProtocolError`."""


class IMeeting(Interface):
    """One byte stream to the other end, before anything on it is secured."""

    carrier = Attribute("The connection, see `tunnelkit.net.sockets.socket_carrier.Carrier`.")
    tls_client = Attribute("True if this end starts the TLS handshake.")
    announced = Attribute("What the other end says its name is; nothing may rely on it.")
    hops = Attribute("The parties on the path as announced, own end first.")
    leftover = Attribute("Bytes that arrived behind the meeting: they belong to TLS.")


class IChannelProtocol(Interface):
    """A protocol that multiplexes channels over a secured byte stream."""

    alpn = Attribute("Bytes by which TLS agrees on it, e.g. ``b'lstp/1'``.")

    def make_mux(master: bool, now: float) -> object:
        """A new sans-IO mux (`tunnelkit.core.mux.contract.Mux`); ``master``: of the two
        ends, the one that starts TLS. `tunnelkit.testing.conformance` checks what it must do."""


class IDialer(Interface):
    """A way out of this network."""

    def endpoint_for(host: str, port: int) -> object:
        """An `IStreamClientEndpoint` that connects to ``host:port`` this way."""

    def describe() -> str:
        """The way in words, without passwords, e.g. ``via socks5://proxy:1080``."""


class IFrontEnd(Interface):
    """What applications talk to at one end of a tunnel."""

    name = Attribute("The command line option without dashes, e.g. ``socks``.")

    def parse(description: str) -> object:
        """The option's value as a configuration object; raises `ConfigError`."""

    def make_service(reactor: object, tunnel: object, policy: object, config: object) -> object:
        """The `IService` that listens and opens channels through ``tunnel``."""


class IRegistry(Interface):
    """Who waits or is present where, with leases."""

    def put(key: str, value: object, lease: float) -> object:
        """Store until ``lease`` seconds have passed."""

    def take(key: str) -> object:
        """Remove and return, or None."""
