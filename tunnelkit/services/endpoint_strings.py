"""``tunnel:`` in endpoint strings: any Twisted program uses a tunnel without code (row F7).

    twist web --listen=tunnel:service=intranet:config=end.toml     offers a service to the other end
    tunnel:www.example.com:80:config=end.toml                      connects through the other end

Every endpoint of one configuration shares one running end, which starts
with its first use and stops with the reactor. Twisted imports this module for
every endpoint string there is, so it imports nothing heavy itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

from tunnelkit.errors import ConfigError

if TYPE_CHECKING:
    from tunnelkit.interfaces import IEndRole, ITunnel
    from tunnelkit.net.channels.tunnel import Tunnel
    from tunnelkit.policy.settings import Given
    from tunnelkit.services.options import RoleOptions

PREFIX = "tunnel"
CLIENT_END, SERVER_END, BOTH = "client-end", "server-end", "both"
PORTAL, GATE = "portal", "gate"
SHORT = {
    CLIENT_END: "lstp-client-end",
    SERVER_END: "lstp-server-end",
    BOTH: "lstp-client-end",
    PORTAL: "usher-portal",
    GATE: "usher-gate",
}
"""Short names of roles; every other end role that is installed goes by its own."""
TIMEOUT = 30
"""Seconds that connecting waits for the tunnel to come up, unless the string says ``timeout``."""
GRACE = 1.0
"""Seconds in which open channels may finish when the reactor stops, unless ``grace`` says it."""

_ATTRIBUTE = "_tunnelkit_ends"

Settled = tuple[str, Callable[[], Any]]
"""What makes two configurations the same, and what makes an `IEndService` of it."""


@implementer(
    IPlugin, IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
)
class TunnelStrings:
    """Both parsers.

    ====================================  ================================================
    client                                leads to
    ====================================  ================================================
    ``tunnel:HOST:PORT:...``              a TCP port, resolved and dialled by the far side
    ``tunnel:unix\\:/PATH:...``            any other destination, its colons escaped
    ``tunnel:service=NAME:...``           a service that the far side accepts
    ====================================  ================================================

    ``to=NAME`` in a client string: the peer, which has to be said where there are several.

    A server string is ``tunnel:service=NAME:...``. The dots stand for
    ``config=FILE.toml``, for the options of an end with their dashes as capitals
    (``viaPasswordFile=``), or for both. A configuration that names a ``gate`` makes
    an Usher portal; otherwise a client string makes an LSTP client end, a server
    string a server end; ``role=`` says what else: ``client-end``, ``server-end``,
    ``both``, ``portal``, ``gate``, or the name of any other role that is an end.
    """

    prefix = PREFIX

    def parseStreamClient(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamClientEndpoint:
        """See `IStreamClientEndpointStringParserWithReactor`; raises `ConfigError`."""
        timeout = _seconds(kwargs.pop("timeout", str(TIMEOUT)))
        destination = _destination(args, kwargs.pop("service", None))
        ends, to = Ends.of(reactor), kwargs.pop("to", "")
        settled = ends.settle(kwargs, CLIENT_END, of_peer(to))
        return TunnelClientEndpoint(ends, settled, destination, timeout, to)

    def parseStreamServer(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamServerEndpoint:
        """See `IStreamServerEndpointStringParser`; raises `ConfigError`."""
        from tunnelkit.policy.destination import to_service_name

        if args or "service" not in kwargs:
            raise ConfigError("tunnel: expected service=NAME, the service to accept")
        service = to_service_name(kwargs.pop("service"))
        ends = Ends.of(reactor)
        return TunnelServerEndpoint(ends, ends.settle(kwargs, SERVER_END), service)


class Ends:
    """The running ends of one reactor, by configuration."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._running: dict[str, Any] = {}

    @staticmethod
    def of(reactor: Any) -> Ends:
        """Those of ``reactor``; always the same."""
        ends: Ends | None = getattr(reactor, _ATTRIBUTE, None)
        if ends is None:
            ends = Ends(reactor)
            setattr(reactor, _ATTRIBUTE, ends)
        return ends

    def __len__(self) -> int:
        """Ends that run."""
        return len(self._running)

    def settle(
        self, keywords: Mapping[str, str], default: str, check: Callable[[Any], None] | None = None
    ) -> Settled:
        """Read and check a configuration, also by ``check``; raises `ConfigError`."""
        from tunnelkit.policy.settings import Given, Settings
        from tunnelkit.services.options import grace_of

        given = {name: [Given(text, f"tunnel: {name}")] for name, text in keywords.items()}
        asked = given.pop("role", None)
        role, values = _merged(given, asked[0].text if asked else "", default)
        settings = Settings(values)
        # What the far side may have is what this program accepts: no rule is needed for that.
        config = role.configure(settings, False)
        grace = grace_of(settings)
        if check is not None:
            check(config)

        def make() -> Any:
            end = role.make_service(self.reactor, config)
            end.grace = GRACE if grace is None else grace
            return end

        texts = {name: [value.text for value in given] for name, given in values.items()}
        return f"{role.name} {sorted(texts.items())}", make

    def tunnel(self, settled: Settled) -> Tunnel:
        """The tunnel of the end with this configuration, which runs from now on.

        Raises `ConfigError` if a port of its own is taken.
        """
        key, make = settled
        end = self._running.get(key)
        if end is None:
            end = make()
            if not self._running:
                self.reactor.addSystemEventTrigger("before", "shutdown", self.stop)
            self._running[key] = end
            end.startService()
        tunnel: Tunnel = end.tunnel
        return tunnel

    def stop(self) -> Deferred[Any]:
        """Drain all of them; fires when they have ended."""
        running, self._running = self._running, {}
        return gatherResults([end.stopService() for end in running.values()])


@implementer(IStreamClientEndpoint)
class TunnelClientEndpoint:
    """Connects to one destination at the far side of a tunnel."""

    def __init__(
        self, ends: Ends, settled: Settled, destination: str, timeout: float, to: str = ""
    ) -> None:
        self._ends = ends
        self._to = to
        self._settled = settled
        self._destination = destination
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fails with `ChannelRefused`, or `DialTimeout` if the tunnel does not come up."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        from tunnelkit.services.library import wait_until_up

        tunnel: ITunnel = self._ends.tunnel(self._settled)
        if self._to:
            tunnel = tunnel.to(self._to)
        await wait_until_up(self._ends.reactor, tunnel, self._timeout)
        protocol: IProtocol = await tunnel.channel_to(self._destination).connect(factory)
        return protocol


@implementer(IStreamServerEndpoint)
class TunnelServerEndpoint:
    """Accepts one service's channels from the far side of a tunnel."""

    def __init__(self, ends: Ends, settled: Settled, service: str) -> None:
        self._ends = ends
        self._settled = settled
        self._service = service

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Fails with ValueError if something listens for the service already."""
        return Deferred.fromCoroutine(self._listen(protocolFactory))

    async def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        tunnel = self._ends.tunnel(self._settled)
        port: IListeningPort = await tunnel.accept(self._service).listen(factory)
        return port


def _destination(args: tuple[str, ...], service: str | None) -> str:
    from tunnelkit.policy.destination import (
        SERVICE,
        TCP,
        destination_to,
        parse_destination,
        to_port,
    )

    if service is not None and not args:
        return str(parse_destination(f"{SERVICE}:{service}"))
    if len(args) == 2 and service is None:
        return str(destination_to(TCP, args[0], to_port(args[1])))
    if len(args) == 1 and service is None:
        return str(parse_destination(args[0]))
    raise ConfigError(
        "tunnel: expected HOST:PORT, one destination with its colons escaped, or service=NAME"
    )


def of_peer(to: str) -> Callable[[Any], None]:
    """A check that ``to`` is a peer of the end, and is said where it has several (rule X29)."""

    def check(config: Any) -> None:
        from tunnelkit.policy.printable import printable

        names = sorted({*config.peers, *config.pins.values()})
        if to in names or (not to and len(names) < 2):
            return
        if not to:
            raise ConfigError(
                f"tunnel: several peers are named: expected to={names[0]}, or another"
            )
        raise ConfigError(
            f"tunnel: to: {printable(to)} is none of the peers: expected {' or '.join(names[:8])}"
        )

    return check


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 3600):
        raise ConfigError("tunnel: timeout: expected a whole number of seconds, 1 to 3600")
    return float(text)


def _merged(
    given: Mapping[str, list[Given]], asked: str, default: str
) -> tuple[IEndRole, dict[str, list[Given]]]:
    """The role, and the settings of the file and over them the keywords, by names of options.

    ``asked``: what ``role=`` says; empty: nothing, which means ``default`` or a portal.
    """
    import attrs

    from tunnelkit.policy.printable import printable
    from tunnelkit.policy.settings import Given, suggestion
    from tunnelkit.roles.registry import end_roles
    from tunnelkit.services.options import options_for

    roles = end_roles()
    options: dict[str, type[RoleOptions]] = {}
    for name in (SHORT[PORTAL], SHORT[default]) if not asked else (SHORT.get(asked, asked),):
        if name not in roles:
            expected = ", ".join([*SHORT, *sorted(set(roles) - set(SHORT.values()))])
            raise ConfigError(f"tunnel: role: expected {expected}")
        options[name] = options_for(roles[name])
    settings: dict[str, list[Given]] = {}
    files = [value.text for value in given.get("config", [])]
    for file in files:
        settings = read_any(file, options.values())
    name = SHORT.get(asked, asked)
    if not asked:
        name = SHORT[PORTAL] if "gate" in {*given, *settings} else SHORT[default]
    chosen = options[name]
    for file in files:
        settings = read_any(file, [chosen])
    keywords = {_keyword(option): option for option in chosen.known() - chosen.flags}
    for word, values in given.items():
        if word == "config":
            continue
        option = keywords.get(word)
        if option is None:
            hint = suggestion(word, keywords)
            expected = ", ".join(sorted({*keywords, "config", "role", "service", "timeout", "to"}))
            raise ConfigError(
                f"tunnel: {printable(word)}: not known{hint}: expected one of {expected}"
            )
        if chosen.declared[option].commas:
            values = [
                attrs.evolve(value, text=part) for value in values for part in value.text.split(",")
            ]
        settings[option] = list(values)
    if asked == BOTH:
        settings[BOTH] = [Given("true", "tunnel: role")]
    return roles[name], settings


def read_any(file: str, options: Iterable[type[RoleOptions]]) -> dict[str, list[Given]]:
    """The configuration file of a role with one of these options; raises `ConfigError`."""
    from tunnelkit.services.config_file import read_config_file

    known, flags, repeatable, paths = (
        frozenset().union(*names)
        for names in zip(
            *((one.known(), one.flags, one.repeatable, one.paths) for one in options), strict=True
        )
    )
    return read_config_file(file, known, flags, repeatable, paths)


def _keyword(option: str) -> str:
    return re.sub(r"-([a-z0-9])", lambda match: match[1].upper(), option)
