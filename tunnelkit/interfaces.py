"""The interfaces that a plug-in author implements.

`tunnelkit.net` and `tunnelkit.roles` hold the implementations that come with
tunnelkit. Everything inside the package that nobody else is meant to replace
uses `typing.Protocol` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import IService, IServiceMaker
from twisted.python.components import registerAdapter
from twisted.python.reflect import namedAny
from zope.interface import Attribute, Interface

# zope.interface methods take no ``self``.
# ruff: noqa: N805


class IProxyRole(Interface):
    """One party of one tunnel protocol, e.g. the LSTP middle: a plug-in, one twistd subcommand.

    An object in a ``twisted/plugins/`` file that provides this and `IPlugin` is all that the
    subcommand needs: ``--help``, ``--config``, ``--log-json``, ``--control``, SIGHUP and an
    orderly end are made from what it declares. Every start of twistd imports that file, so
    what is heavy is imported inside the methods.
    """

    name = Attribute("The twistd subcommand, e.g. ``lstp-middle``.")
    description = Attribute("One line for ``twistd --help``.")
    synopsis = Attribute("What has to be given, e.g. ``--listen HOST:PORT [options]``.")
    longdesc = Attribute("A few sentences for ``twistd NAME --help``.")
    options = Attribute("A tuple of `tunnelkit.policy.settings.Option`.")
    config_class = Attribute("The class that holds this role's configuration.")

    def configure(settings: Any, starting: bool) -> Any:
        """A ``config_class`` out of a `tunnelkit.policy.settings.Settings`.

        ``starting``: no party runs with this yet, so one that would be of no use is a mistake;
        one that runs may lose its last rule. Raises `ConfigError` with the place of a mistake.
        """

    def make_service(reactor: Any, config: Any) -> IRoleService:
        """The party, with its ports bound; raises `ConfigError` if one is taken."""


class IEndRole(IProxyRole):
    """A role that is an end of a tunnel: `tunnel:` endpoint strings can be had of it too."""

    def make_service(reactor: Any, config: Any) -> IEndService:
        """The end, with its ports bound; raises `ConfigError` if one is taken."""


class IRoleService(IService):
    """A party of a tunnel that runs."""

    def status() -> Mapping[str, object]:
        """An immutable snapshot of what it is doing, for `tunnelkit status` and pages."""

    def commands() -> Mapping[str, Callable[[], Mapping[str, object]]]:
        """What it can be told at its control socket, ``status`` among it, and the answers."""

    def reload(config: Any) -> Sequence[str]:
        """Put in force what can change while it runs; what that was, in words.

        Raises `ConfigError`, and nothing has changed then.
        """


class IEndService(IRoleService):
    """An end of a tunnel that runs."""

    tunnel = Attribute("Its `ITunnel`.")
    grace = Attribute("Seconds, to be set: in these what is open may finish when it stops.")


def _subcommand(role: Any) -> Any:
    # By its name: the rooms above know this one, not the other way round.
    return namedAny("tunnelkit.services.subcommand.Subcommand")(role)


# Twisted asks each plug-in for an IServiceMaker, and takes one that it can be adapted to. To
# know that a plug-in is a role it has to have imported this module.
registerAdapter(_subcommand, IProxyRole, IServiceMaker)


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
    """What applications talk to at one end of a tunnel: a plug-in.

    An object in a ``twisted/plugins/`` file that provides this and `IPlugin` has its options in
    ``--help``, ``--config`` and endpoint strings of every end, and its ports follow a reload.
    Every start of twistd imports that file, so what is heavy is imported inside the methods;
    or the object is a `tunnelkit.frontends.registry.FrontEndMaker`.
    """

    name = Attribute("One word for logs and errors, that of its first option, e.g. ``socks``.")
    options = Attribute("A tuple of `tunnelkit.policy.settings.Option`.")

    def configure(settings: Any) -> Sequence[Any]:
        """What to open, each to be given to ``make_service``; empty if nothing is asked for.

        ``settings`` is a `tunnelkit.policy.settings.Settings`. Two configurations that are
        equal (``==``) are the same port, which a reload leaves alone. Raises `ConfigError` with
        the place of a mistake.
        """

    def needs(config: Any) -> Sequence[str]:
        """The destinations that it opens whatever its clients ask for, e.g. ``service:@dns``.

        Where the protocol between the ends cannot carry one, the end says so.
        """

    def make_service(reactor: Any, tunnel: ITunnel, policy: Any, config: Any) -> IService:
        """One of them, its port bound; clients are to be let in from ``startService`` on.

        ``policy`` is a `tunnelkit.policy.acl.PolicyHolder`: ``admits(address)`` says who may
        enter. The service's ``description``, if it has one, is in the ready line. Raises
        `ConfigError` if it cannot be opened.
        """


class IRegistry(Interface):
    """Who waits or is present where, with leases."""

    def put(key: str, value: object, lease: float) -> object:
        """Store until ``lease`` seconds have passed."""

    def take(key: str) -> object:
        """Remove and return, or None."""
