"""The interfaces that a plug-in author implements.

`tunnelkit.net` and `tunnelkit.roles` hold the implementations that come with
tunnelkit. Everything inside the package that nobody else is meant to replace
uses ``typing.Protocol`` instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from twisted.application.service import IService, IServiceMaker
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocolFactory,
    IReactorCore,
    IReactorFDSet,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUDP,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.components import registerAdapter
from twisted.python.reflect import namedAny
from zope.interface import Attribute, Interface

from tunnelkit.core.lease import Lease
from tunnelkit.core.mux.contract import TunnelMux
from tunnelkit.core.prologue import Export, Prologue
from tunnelkit.net.channels.contracts import (
    Connection,
    DatagramSink,
    ExtendedConnection,
    Flow,
    LocalSide,
    PathHop,
    Remote,
    TunnelStatus,
)
from tunnelkit.net.role_status import RoleStatus
from tunnelkit.net.sockets.carrier import Carrier
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.traffic import Traffic

if TYPE_CHECKING:
    # Every start of twistd imports this module; what is in there takes long.
    from twisted.web.resource import Resource

    from tunnelkit.policy.acl import PolicyHolder
    from tunnelkit.policy.identity import Identity
    from tunnelkit.policy.settings import Option, Settings

# zope.interface methods take no ``self``.
# ruff: noqa: N805

T = TypeVar("T")

Config: TypeAlias = Any
"""What a plug-in's ``configure`` has made. Only the plug-in knows its type; it is compared with
``==``, and given back."""


class IReactor(
    IReactorCore, IReactorFDSet, IReactorTCP, IReactorThreads, IReactorTime, IReactorUDP
):
    """What plug-ins may rely on: every reactor on which tunnelkit runs has it."""


class IProxyRole(Interface):
    """One party of one tunnel protocol, e.g. the LSTP middle: a plug-in, one twistd subcommand.

    An object in a ``twisted/plugins/`` file that provides this and ``IPlugin`` is all that the
    subcommand needs: ``--help``, ``--config``, ``--log-json``, ``--control``, SIGHUP and an
    orderly end are made from what it declares. Every start of twistd imports that file, so
    what is heavy is imported inside the methods.
    """

    name: str = Attribute("The twistd subcommand, e.g. ``lstp-middle``.")
    description: str = Attribute("One line for ``twistd --help``.")
    synopsis: str = Attribute("What has to be given, e.g. ``--listen HOST:PORT [options]``.")
    longdesc: str = Attribute("A few sentences for ``twistd NAME --help``.")
    options: tuple[Option, ...] = Attribute("What can be set, in help's order.")
    config_class: type[object] = Attribute("The class that holds this role's configuration.")

    def configure(settings: Settings, starting: bool) -> object:
        """A ``config_class`` out of what was given.

        ``starting``: no party runs with this yet, so one that would be of no use is a mistake;
        one that runs may lose its last rule. Raises `ConfigError` with the place of a mistake.
        """

    def make_service(reactor: IReactor, config: Config) -> IRoleService:
        """The party, with its ports bound; raises `ConfigError` if one is taken."""


class IEndRole(IProxyRole):
    """A role that is an end of a tunnel: ``tunnel:`` endpoint strings can be had of it too."""

    def make_service(reactor: IReactor, config: Config) -> IEndService:
        """The end, with its ports bound; raises `ConfigError` if one is taken."""


class IRoleService(IService):
    """A party of a tunnel that runs."""

    grace: float = Attribute(
        "Seconds, to be set (``--grace``): in these what is open may finish when it stops."
    )

    def status() -> RoleStatus:
        """An immutable snapshot of what it is doing, for status, pages, metrics."""

    def commands() -> Mapping[str, Callable[[], Mapping[str, object]]]:
        """What it can be told at its control socket besides ``status``, and the answers."""

    def reload(config: Config) -> Sequence[str]:
        """Put in force what can change while it runs; what that was, in words.

        Raises `ConfigError`, and nothing has changed then.
        """


class ISteered(Interface):
    """A role's service that shows what is open, and lets a person end it (row O6)."""

    def traffic() -> Iterable[Traffic]:
        """All that is open, each row made as it is asked for.

        It may be asked for over several turns of the reactor: what ends meanwhile may be in it.
        """

    def end_one(number: str) -> bool:
        """End what has that `Traffic.id`; False: there is no such thing."""

    def throw_out(who: str, seconds: float) -> int:
        """End all of ``who``, and refuse him for so long; how much was ended.

        A peer's name; where names are not proved, an address.
        """


class IServesPages(Interface):
    """A role's service that shows administrators what it does at a port of its own (row S8)."""

    def serve(pages: Resource) -> None:
        """Show ``pages`` to who may see them; before it is started."""


class IOpensPorts(Interface):
    """An end whose ports a person may open and close while it runs (row U15)."""

    live_ports: Any = Attribute("`tunnelkit.roles.live_ports.LivePorts`: those of its own.")


class IExplains(Interface):
    """A role's service that has rules of its own kind, and can say which of them decides."""

    def explain(who: str, what: str) -> Mapping[str, object]:
        """``allowed`` (True, False, None: it depends), ``rule`` and ``why``; raises
        `ConfigError` if there can be no such wish."""


class IUnlocks(Interface):
    """A role's service that can wait for the passphrase of its identity (row K6)."""

    locked: str = Attribute("What waits for its passphrase; empty: nothing.")

    def unlock(passphrase: bytes) -> Mapping[str, object]:
        """Use it, and forget it; what came of it. Raises `ConfigError` if it is wrong."""


class IRenewsKeys(Interface):
    """A role's service that can renew its key, and that of the other end, while both run (Q2)."""

    def pair_again() -> Deferred[Mapping[str, object]]:
        """Do it; what came of it: this end's ``name`` and ``key``, whom it ``waits_for`` before
        that is in force, and of each of ``peers`` the same. Raises `ConfigError`."""


class IKeepsFiles(Interface):
    """A role's service that writes files of its own, beside its log."""

    def reopen() -> None:
        """Go on in the files of these names: those from before may have been moved away.

        Raises `ConfigError`; it goes on in the old ones then.
        """


class IEndService(IRoleService):
    """An end of a tunnel that runs."""

    tunnel: ITunnel = Attribute("Its `ITunnel`.")


def _subcommand(role: IProxyRole) -> IServiceMaker:
    # By its name: the rooms above know this one, not the other way round.
    made: IServiceMaker = namedAny("tunnelkit.services.subcommand.Subcommand")(role)
    return made


# Twisted asks each plug-in for an IServiceMaker, and takes one that it can be adapted to. To
# know that a plug-in is a role it has to have imported this module.
registerAdapter(_subcommand, IProxyRole, IServiceMaker)


class ITunnel(Interface):
    """What an end role offers front ends; the same for every protocol."""

    name: str = Attribute("What logs call the tunnel.")
    peer: str = Attribute("Verified name of the other end; empty while the tunnel is down.")
    topology: tuple[str, ...] = Attribute("The parties on the path, own end first.")
    last_error: str = Attribute("Why the tunnel is down, in words; empty while it is up.")
    connections: Sequence[Connection] = Attribute("Those that carry channels now.")

    def to(*peers: str) -> ITunnel:
        """The same as if nobody but ``peers`` (verified names) ever came.

        Where several may come, this one leads to whoever came last (rule X29).
        """

    def channel_to(destination: str) -> IStreamClientEndpoint:
        """An endpoint: each connect opens one channel to ``destination``."""

    def accept(service: str) -> IStreamServerEndpoint:
        """An endpoint for channels that the far side opens to ``service:NAME``."""

    def open(destination: str, side: LocalSide) -> Deferred[str]:
        """Open a channel to ``destination`` for ``side``; the result is the far socket's address.

        Waits a few seconds for a tunnel that is down. Fails with `ChannelRefused`; the side has
        been reset then.
        """

    def open_flow(destination: str, near: Remote, sink: DatagramSink) -> Flow | None:
        """A flow of datagrams of the local peer at ``near`` to ``udp:HOST:PORT`` or ``udp:*``;
        None while the tunnel is down. It may be over when this returns; its sink knows why."""

    def watch(came: Callable[[Connection], object]) -> None:
        """Call ``came`` with each connection, those that are up and each one to come."""

    def unwatch(came: Callable[[Connection], object]) -> None:
        """Call it no more."""

    def when_up() -> Deferred[ITunnel]:
        """Fires with this tunnel once channels can be opened."""

    def status() -> TunnelStatus:
        """A snapshot for status pages and logs."""


class IRendezvous(Interface):
    """How two ends get one byte stream between them: dial, listen, or meet at a relay."""

    serves: bool = Attribute(
        "Others come to this end: it is ready once it waits. False: once its tunnel is up."
    )

    def meet(on_waiting: Callable[[str], object] | None = None) -> Awaitable[IMeeting]:
        """One meeting; asked again for the next one, see `IMeeting.exclusive`.

        ``on_waiting(where)`` is told that this end can be found now, ``where`` for the log
        (``at the middle``; may be empty). Fails with `DialError` or `ProtocolError`: the end asks
        again after a pause. May be cancelled.
        """


class IHasPorts(Interface):
    """A rendezvous that listens: what peers ask for is never dialled to its ports (rule X2)."""

    own_ports: Sequence[tuple[str, str, int]] = Attribute(
        "Of each, ``tcp`` or ``udp``, the address, and the real port."
    )


class IUsesIdentity(Interface):
    """A rendezvous, or a part of one, that needs to know who the end is."""

    def use_identity(identity: Identity) -> None:
        """``identity`` is the end's own, and its credentials say who is revoked.

        Called before the first meeting, and again whenever the keys, the rendezvous secret or the
        list have changed; the name stays. Raises `ConfigError` the first time if it does not do.
        """


class IMeeting(Interface):
    """One byte stream to the other end, before anything on it is secured."""

    carrier: Carrier = Attribute("The stream; it has been started, and its reading is paused.")
    tls_client: bool = Attribute(
        "This end starts the TLS handshake; it is the mux's master. Of two ends one."
    )
    leftover: bytes = Attribute("Bytes that arrived behind the meeting: they belong to TLS.")
    announced: str = Attribute(
        "What the other end says its name is; nothing may rely on it. Empty: nothing was said."
    )
    hops: tuple[PathHop, ...] = Attribute(
        "The parties on the path as announced, own end first; empty: the two ends."
    )
    caller: str = Attribute(
        "Who has come, for the log, e.g. ``a portal from 192.0.2.7:4000``; empty if not known."
    )
    host: str = Attribute(
        "The address from which a stranger connected to this end, which limits how many unproved "
        "ones it may have; empty where this end dialled."
    )
    exclusive: bool = Attribute(
        "No other meeting is wanted while the tunnel on this one lasts. False: `meet` is called "
        "again at once."
    )

    def prologue(
        certificate_name: str,
        allowed: frozenset[str],
        same_key: bool,
        export: Export,
        now: float,
    ) -> Prologue | None:
        """What to speak inside TLS to prove what was announced; None: the certificate is enough.

        ``certificate_name`` is the other end's, ``allowed`` are those that this end takes,
        ``same_key``: the certificate holds this end's own key. ``export`` gives bytes that only
        the two ends of this TLS have.
        """


class IChannelProtocol(Interface):
    """A protocol that multiplexes channels over a secured byte stream."""

    alpn: tuple[bytes, ...] = Attribute(
        "Names by which TLS agrees on it, best first, e.g. ``(b'lstp/1',)``. An empty name: also "
        "a peer that agrees on none speaks it."
    )

    def make_mux(master: bool, alpn: bytes, now: float) -> TunnelMux:
        """A new sans-IO mux for what was agreed on; ``master``: of the two ends, the one that
        starts TLS. `tunnelkit.testing.conformance` checks what it must do."""

    def extend(connection: ExtendedConnection, end: IEnd) -> Callable[[], object] | None:
        """``connection`` of this protocol is up: bring what only this protocol has.

        The result is called when the connection is over; None: there is nothing to bring.
        A protocol that tells the far side which services are accepted here is a `ServiceBook` too.
        """


class IEnd(Interface):
    """The end that a connection belongs to, for what a channel protocol brings along."""

    tunnel: ITunnel = Attribute("What front ends see of its tunnels.")
    shared: Shared = Attribute("Buffers, poller and budget of the end's reactor.")
    rendezvous: IRendezvous = Attribute("How the two ends have met; perhaps a way to meet again.")

    def in_background(task: Deferred[T]) -> None:
        """Let ``task`` go on by itself; it is cancelled when the end stops."""

    def join(
        meeting: IMeeting,
        peer: str,
        make_mux: Callable[[bool, bytes, float], TunnelMux],
        ended: Callable[[ExtendedConnection], object],
        apart: bool = False,
    ) -> Deferred[ExtendedConnection]:
        """Let ``meeting``, whose other end must be ``peer``, carry channels of the tunnel too.

        Fires when it does; ``ended`` is told when it is over. ``apart``: only channels that are
        opened on this very connection, with the last of which it ends. Fails with `AuthError`,
        `ProtocolError` or `DialError`.
        """


class IRendezvousMaker(Interface):
    """A kind of rendezvous: a plug-in, ``twistd tunnel-end --rendezvous NAME``."""

    name: str = Attribute("What ``--rendezvous`` calls it.")
    options: tuple[Option, ...] = Attribute("What can be set: options of that end.")

    def configure(settings: Settings) -> object:
        """How to meet, out of what was given; raises `ConfigError`."""

    def describe(config: Config) -> str:
        """That in words, for the ready line, e.g. ``at the board board.example``."""

    def make_rendezvous(reactor: IReactor, config: Config) -> IRendezvous:
        """For one end. If it provides ``IService`` too, it starts and stops with the end."""


class IProtocolMaker(Interface):
    """A kind of channel protocol: a plug-in, ``--protocol NAME`` at any end."""

    name: str = Attribute("What ``--protocol`` calls it.")

    def make_protocol(reactor: IReactor) -> IChannelProtocol:
        """For one end."""


class IPortProtocol(Interface):
    """A further protocol on a Communication Server's one port (row S14): a plug-in.

    Who offers ``name`` by ALPN, for the server's own name or for none, is given to it; TLS is the
    server's, with the certificate that browsers see, and asks for no certificate.
    """

    name: str = Attribute("What TLS agrees on, e.g. ``clock/1``.")

    def make_factory(reactor: IReactor) -> IProtocolFactory:
        """For the connections of one server; what they carry is inside TLS."""


class IRegistry(Interface):
    """At which of several Communication Servers a client is present (row S12).

    Every lease ends by itself after `tunnelkit.core.lease.LEASE` seconds without being renewed.
    A Deferred that fails, for whatever reason, means that nobody knows: the client is refused.
    """

    def claim(name: str, run: str, server: str, replace: bool) -> Deferred[Lease | None]:
        """``name`` is at ``server`` from now on; a lease of a higher generation than all before.

        One of another ``run`` that has not ended is over then, or, without ``replace``, stays:
        None. One of the same run is always replaced.
        """

    def renew(lease: Lease) -> Deferred[bool]:
        """Let it last on. False: it has ended, or another one has taken its place."""

    def release(lease: Lease) -> Deferred[None]:
        """It is not needed any more; one that has taken its place stays."""


class IDialer(Interface):
    """A way out of this network."""

    def endpoint_for(host: str, port: int) -> IStreamClientEndpoint:
        """An endpoint that connects to ``host:port`` this way."""

    def describe() -> str:
        """The way in words, without passwords, e.g. ``via socks5://proxy:1080``."""


class IFrontEnd(Interface):
    """What applications talk to at one end of a tunnel: a plug-in.

    An object in a ``twisted/plugins/`` file that provides this and ``IPlugin`` has its options in
    ``--help``, ``--config`` and endpoint strings of every end, and its ports follow a reload.
    Every start of twistd imports that file, so what is heavy is imported inside the methods;
    or the object is a `tunnelkit.frontends.registry.FrontEndMaker`.
    """

    name: str = Attribute("One word for logs and errors, that of its first option, e.g. ``socks``.")
    options: tuple[Option, ...] = Attribute("What can be set, in help's order.")

    def configure(settings: Settings) -> Sequence[object]:
        """What to open, each to be given to ``make_service``; empty if nothing is asked for.

        Where an end has several peers it is asked once for each, and ``@PEER`` has been taken off
        the first option's values: the tunnel that ``make_service`` gets leads to that peer.
        Two configurations that are equal (``==``) are the same port, which a reload leaves
        alone. Raises `ConfigError` with the place of a mistake.
        """

    def needs(config: Config) -> Sequence[str]:
        """The destinations that it opens whatever its clients ask for, e.g. ``service:@dns``.

        Where the protocol between the ends cannot carry one, the end says so.
        """

    def make_service(
        reactor: IReactor, tunnel: ITunnel, policy: PolicyHolder, config: Config
    ) -> IService:
        """One of them, its port bound; clients are to be let in from ``startService`` on.

        ``policy.admits(address)`` says who may enter. The service's ``description``, if it has
        one, is in the ready line. Raises `ConfigError` if it cannot be opened.
        """
