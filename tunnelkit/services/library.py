"""Ends of tunnels for programs that import tunnelkit; `tunnelkit` itself names them.

Each takes the options of its twistd subcommand as keywords, dashes as underscores, and is a
Twisted service. With ``async with`` it runs for as long as the block does::

    async with LstpEnd(reactor, middle="relay.example:7000", tunnel="office",
                       identity="me.pem", peer="server") as tunnel:
        await tunnel.channel_to("tcp:intranet:80").connect(factory)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import attrs
from twisted.application.service import IService, MultiService
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred

from tunnelkit.errors import Code, ConfigError, DialTimeout
from tunnelkit.frontends.registry import configured, front_end_options
from tunnelkit.interfaces import ITunnel
from tunnelkit.net.channels.contracts import TunnelStatus
from tunnelkit.policy.acl import Policy, PolicyHolder
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Given, Option, Settings, suggestion
from tunnelkit.roles.ports import FrontEnds, descriptions
from tunnelkit.roles.registry import end_roles, named
from tunnelkit.roles.secure_proxy_resources import DEFAULT_RESOURCE
from tunnelkit.services.options import GRACE, grace_of
from tunnelkit.wire.secureproxy import GROUP

PATIENCE = 30.0
"""Seconds that a program waits for its tunnel to come up, unless it says otherwise."""

Value = str | int | bool | Iterable[str | int] | None
"""One option's value; several for one that can be repeated; None or False: not given."""


async def wait_until_up(reactor: Any, tunnel: Any, timeout: float) -> None:
    """Return once channels can be opened.

    Raises `DialTimeout` after ``timeout`` seconds, with the reason why the tunnel is down.
    """
    up = tunnel.when_up()
    waiting = reactor.callLater(timeout, up.cancel)
    try:
        await up
    except CancelledError:
        why = f": {tunnel.last_error}" if tunnel.last_error else ""
        raise DialTimeout(
            f"the tunnel {tunnel.name} is not up after {timeout:g} s{why}",
            hop=tunnel.name,
            code=Code.TIMED_OUT,
        ) from None
    finally:
        if waiting.active():
            waiting.cancel()


class End(MultiService):
    """An end of the kind that ``role`` names: the twistd subcommand of any end that is installed.

    Its ports are bound when it is made. Raises `ConfigError` for a mistake in the options.
    """

    def __init__(self, reactor: Any, role: str, /, **options: Value) -> None:
        MultiService.__init__(self)
        self._reactor = reactor
        maker = named(end_roles(), role)
        settings = _settings(type(self).__name__, (*maker.options, GRACE), options)
        grace = grace_of(settings)
        self._end = maker.make_service(reactor, maker.configure(settings, False))
        if grace is not None:
            self._end.grace = grace
        IService(self._end).setServiceParent(self)

    @property
    def tunnel(self) -> ITunnel:
        """Where channels are opened and accepted."""
        return self._end.tunnel

    @property
    def last_error(self) -> str:
        """Why the tunnel is down, in words; empty while it is up."""
        return self.tunnel.last_error

    @property
    def ports(self) -> tuple[str, ...]:
        """What is open here, in words: ``forward 127.0.0.1:8080 to service:wiki``."""
        return tuple(descriptions(self))

    def status(self) -> TunnelStatus:
        """A snapshot of now."""
        return self.tunnel.status()

    async def up(self, timeout: float = PATIENCE) -> ITunnel:
        """The tunnel, once channels can be opened; this has to have been started.

        Raises `DialTimeout` after ``timeout`` seconds, with the reason why the tunnel is down.
        """
        await wait_until_up(self._reactor, self.tunnel, timeout)
        return self.tunnel

    async def __aenter__(self) -> ITunnel:
        """Start, and wait until the tunnel is up."""
        IService(self).startService()
        try:
            return await self.up()
        except BaseException:
            await maybeDeferred(IService(self).stopService)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop once the open channels have finished."""
        await maybeDeferred(IService(self).stopService)


class LstpEnd(End):
    """An end of an LSTP tunnel: it meets the other one at ``middle``.

    ``role`` is ``client-end``, ``server-end`` (which waits for several clients), or ``both``.
    ``identity`` is a file that ``tunnelkit keys issue`` made, ``peer`` the other end's name.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        tunnel: str,
        identity: str,
        middle: str | None = None,
        peer: Value = None,
        role: str = "client-end",
        **options: Value,
    ) -> None:
        if role not in ("client-end", "server-end", "both"):
            raise ConfigError(
                f"{type(self).__name__}: role {printable(role)}: not known: "
                "expected client-end, server-end or both"
            )
        options |= {"middle": middle, "tunnel": tunnel, "identity": identity, "peer": peer}
        options["both"] = role == "both"
        name = "lstp-server-end" if role == "server-end" else "lstp-client-end"
        super().__init__(reactor, name, **options)


class UsherPortal(End):
    """The end of an Usher tunnel that dials ``gate``, ``HOST:PORT``."""

    def __init__(
        self, reactor: Any, *, gate: str, identity: str, peer: Value = None, **options: Value
    ) -> None:
        options |= {"gate": gate, "identity": identity, "peer": peer}
        super().__init__(reactor, "usher-portal", **options)


class UsherGate(End):
    """The end of Usher tunnels that awaits portals at ``listen``, ``HOST:PORT``."""

    def __init__(
        self, reactor: Any, *, listen: Value, identity: str, peer: Value = None, **options: Value
    ) -> None:
        options |= {"listen": listen, "identity": identity, "peer": peer}
        super().__init__(reactor, "usher-gate", **options)


@attrs.frozen
class GroupTunnels:
    """What became of a tunnel to each member of a group."""

    tunnels: Mapping[str, ITunnel]
    """Those that are up, by the member's name."""
    failed: Mapping[str, str]
    """Why there is none, by name."""


class SecureProxyClient(End):
    """An end that finds the other one through the Communication Server at ``server``.

    ``target`` is the name of the client to call; one that is called has ``publish`` instead.
    """

    def __init__(
        self, reactor: Any, *, server: str, identity: str, peer: Value = None, **options: Value
    ) -> None:
        options |= {"server": server, "identity": identity, "peer": peer}
        # What a client with several tunnels has only once is left out.
        once = {"target", "publish", "allow", "control", "manual"}
        once |= {option.attribute for option in front_end_options()}
        self._way = {name: value for name, value in options.items() if name not in once}
        super().__init__(reactor, "secure-proxy-client", **options)

    async def tunnels_to(self, group: str, timeout: float = PATIENCE) -> GroupTunnels:
        """A tunnel to each member of ``group:NAME`` that is up within ``timeout`` seconds (S7).

        ``peer`` must name those that may be in the group: nobody else is called, whatever the
        server says. The tunnels end with this client, which has to have been started. Raises
        `ConfigError`, and `RemoteProtocolError` if the server does not tell who is there.
        """
        expected = _texts(self._way["peer"])
        if not group.startswith(GROUP) or not expected:
            raise ConfigError(
                f"{type(self).__name__}: tunnels_to({printable(group)}): expected group:NAME, and "
                "as peer each name that may be in it"
            )
        service: Any = self._end
        presence = await service.look_up(group)
        resource = str(self._way.get("resource") or DEFAULT_RESOURCE)
        there = {entry.name for entry in presence.entries if resource in entry.resources}
        failed = {name: "not present in the group" for name in expected if name not in there}
        failed |= {name: "not named as peer" for name in there if name not in expected}
        ends = {
            name: SecureProxyClient(self._reactor, **{**self._way, "target": name, "peer": name})
            for name in sorted(there.intersection(expected))
        }
        for end in ends.values():
            IService(end).setServiceParent(self)
        results: Any = await DeferredList(
            [Deferred.fromCoroutine(end.up(timeout)) for end in ends.values()], consumeErrors=True
        )
        tunnels: dict[str, ITunnel] = {}
        for (name, end), (worked, result) in zip(ends.items(), results, strict=True):
            if worked:
                tunnels[name] = end.tunnel
            else:
                failed[name] = result.getErrorMessage()
                await maybeDeferred(IService(end).disownServiceParent)
        return GroupTunnels(tunnels, failed)


def front_ends(
    reactor: Any, tunnel: ITunnel, policy: PolicyHolder | None = None, **options: Value
) -> FrontEnds:
    """A service with ports that lead through ``tunnel``: ``socks="1080"``, ``http_proxy=...``.

    The keywords are the options of the front ends that are installed. ``policy`` says who may
    enter; None: everybody. The ports are bound now. Raises `ConfigError` for a mistake in
    the options, and if a port is taken.
    """
    settings = _settings("front_ends", front_end_options(), options)
    ports = FrontEnds(reactor, tunnel, PolicyHolder(Policy()) if policy is None else policy)
    ports.replace(configured(settings))
    return ports


def _texts(value: Value) -> list[str]:
    """One option's value, as texts."""
    if value is None or isinstance(value, bool):
        return []
    return [str(value)] if isinstance(value, (str, int)) else [str(one) for one in value]


def _settings(who: str, declared: Iterable[Option], options: Mapping[str, Value]) -> Settings:
    """The options as settings, each checked to be one; raises `ConfigError`."""
    known = {option.attribute: option for option in declared}
    settings: dict[str, list[Given]] = {}
    for word, value in options.items():
        option = known.get(word)
        if option is None:
            hint = suggestion(word, known)
            raise ConfigError(
                f"{who}: {printable(word)} is not an option{hint}: expected those of its "
                "twistd subcommand, with underscores"
            )
        if value is None or value is False:
            continue
        values = [value] if isinstance(value, (str, int)) else list(value)
        where = f"{who}: {word}"
        if (value is True) is bool(option.metavar):
            wanted = "a value" if option.metavar else "True or False"
            raise ConfigError(f"{where}: {printable(str(value))}: expected {wanted}")
        if len(values) > 1 and not option.repeatable:
            raise ConfigError(f"{where}: {len(values)} values: expected one")
        texts = ["true"] if value is True else [str(one) for one in values]
        settings[option.name] = [Given(text, where) for text in texts]
    return Settings(settings)
