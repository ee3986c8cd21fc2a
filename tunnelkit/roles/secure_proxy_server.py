"""The Communication Server as a role: its port, its policy, its logs (rows S1, S5, S8, S9, S11)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web import resource
from zope.interface import implementer

from tunnelkit.core.secureproxy.accounts import Failures
from tunnelkit.core.secureproxy.limits import Limits
from tunnelkit.core.secureproxy.policy import Policy as ServerPolicy
from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import (
    IExplains,
    IKeepsFiles,
    IPortProtocol,
    IRoleService,
    IServesPages,
    ISteered,
)
from tunnelkit.net.role_status import RoleStatus, metric_by
from tunnelkit.net.secureproxy.administrators import Administrators, ForAdministrators
from tunnelkit.net.secureproxy.http import OwnPages, ServerCertificate, WebFront
from tunnelkit.net.secureproxy.server import Browse, SecureProxyServer
from tunnelkit.net.secureproxy.server_status import ServerStatus
from tunnelkit.net.secureproxy.vhost import VhostPages
from tunnelkit.net.sockets.tcp import Listener
from tunnelkit.net.sockets.timer import Timer
from tunnelkit.net.tls.context import TlsContext
from tunnelkit.net.traffic import Traffic
from tunnelkit.policy.acl import Policy
from tunnelkit.policy.destination import parse_open_listen
from tunnelkit.policy.identity import STRICT, Identity, Terms, load_certificate_file
from tunnelkit.policy.passphrases import open_identity
from tunnelkit.policy.printable import printable
from tunnelkit.policy.rules import parse_network
from tunnelkit.policy.settings import Settings
from tunnelkit.policy.special import Network
from tunnelkit.policy.stamp import stamp
from tunnelkit.policy.validity import KeyStatus
from tunnelkit.registry.memory import MemoryRegistry
from tunnelkit.roles.configure import count, identity_terms, revocation_list, secret_text, state_dir
from tunnelkit.roles.credential_watch import CredentialWatch
from tunnelkit.roles.end import GRACE
from tunnelkit.roles.ready import tell_ready
from tunnelkit.roles.registry import port_protocols
from tunnelkit.roles.secure_proxy_logins import Logins, SecretFileChecker, parse_secrets
from tunnelkit.roles.secure_proxy_options import SECURE_PROXY_LIMITS
from tunnelkit.roles.secure_proxy_policy import load_policy
from tunnelkit.roles.secure_proxy_records import Records
from tunnelkit.roles.thrown_out import tell_thrown_out
from tunnelkit.wire.secureproxy import ALPN, WEB

_log = Logger()

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the policy file and at who is revoked."""


@attrs.frozen(kw_only=True)
class SecureProxyServerConfig:
    """What a Communication Server is told."""

    listen: tuple[tuple[str, int], ...]
    """Address and port of each listener; port 0 is any free one."""
    identity: Identity
    identity_file: str
    terms: Terms = STRICT
    state_dir: str | None = None
    policy: ServerPolicy
    policy_file: str
    certificates: tuple[ServerCertificate, ...] = ()
    """For browsers; the identity's is the last resort."""
    proxies: tuple[Network, ...] = ()
    """Networks whose connections begin with a PROXY header."""
    limits: Limits = attrs.field(factory=Limits)
    log_file: str | None = None
    crl_file: str | None = None
    secrets: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    """Passwords and tokens by name; None: nobody logs in so."""


@attrs.frozen(kw_only=True)
class SecureProxyServerStatus(ServerStatus, KeyStatus, RoleStatus):
    """What a Communication Server is doing, at one moment."""

    name: str
    listening: str
    present: tuple[str, ...]
    """Names of the clients that are here."""
    denied: Mapping[str, int] = metric_by(
        "reason", "authorize_denied_total", "What the policy has not allowed, by what it was"
    )


@implementer(IExplains, IRoleService, IKeepsFiles, IServesPages, ISteered)
class SecureProxyServerService(Service):
    """One running server; its ports are bound when it is made (`ConfigError` if one is taken)."""

    def __init__(self, reactor: Any, role: str, config: SecureProxyServerConfig) -> None:
        self._role = role
        self._config = config
        self._policy_stamp = stamp(config.policy_file)
        self._stopping = False
        self._checker = SecretFileChecker(dict(config.secrets or {}))
        check_login = Logins([self._checker]) if config.secrets is not None else None
        make_context = partial(TlsContext, alpn=(ALPN,), peer_optional=True)
        self._records = Records(config.log_file, reactor.seconds)
        self.server = SecureProxyServer(
            reactor,
            config.identity.name,
            TlsContext(config.identity.credentials, (ALPN,), peer_optional=True),
            config.policy,
            record=self._records,
            registry=MemoryRegistry(reactor.seconds, int(time.time() * 1000)),
            check_login=check_login,
            proxies=config.proxies,
            limits=config.limits,
        )
        shared = self.server.shared
        self._watch = CredentialWatch(
            shared,
            config.identity_file,
            config.crl_file,
            make_context,
            terms=config.terms,
            state_dir=config.state_dir,
        )
        self._watch.on_change = self._credentials_changed
        self.server.context = self._watch.context
        self._administrators = Administrators(
            lambda name: self.server.core.policy.may_administrate(name),
            self._watch.is_revoked,
            Failures(config.limits.logins),
            reactor.seconds,
            self._records,
            check_login,
            self._checker.name_of if config.secrets is not None else None,
        )
        self._pages: resource.Resource | None = None
        asks = self._watch.context
        self._front = WebFront(
            reactor, self._certificates(), self._pages_for, self.server.name, asks
        )
        self.server.browse = self._front.browse
        self.server.further = {
            name.encode("ascii"): self._further(name.encode("ascii"), protocol)
            for name, protocol in port_protocols().items()
        }
        self._loop = LoopingCall(self._look)
        self._loop.clock = shared.reactor
        self.grace = GRACE
        """See `IRoleService`."""
        self._end_of_grace = Timer(shared.reactor, self.server.close)
        self._listeners: list[Listener] = []
        own = Policy().own
        try:
            for address, port in config.listen:
                self._listeners.append(self.server.listen(own(address, port, "tcp")))
        except ConfigError:
            self._close_listeners()
            raise

    # -- life ---------------------------------------------------------------------

    def startService(self) -> None:
        """Say that the server is there."""
        Service.startService(self)
        self._watch.start()
        self._loop.start(LOOK_INTERVAL, now=False)
        addresses = ", ".join(listener.address for listener in self._listeners)
        tell_ready(
            self._role,
            f"listening on {addresses}",
            f"as {self.server.name}",
            self._watch.ready_words,
        )

    def stopService(self) -> Deferred[None]:
        """Take nobody new; fires when the sessions have ended, after ``grace`` seconds at most."""
        Service.stopService(self)
        self._stopping = True
        self._watch.stop()
        if self._loop.running:
            self._loop.stop()
        self._close_listeners()
        self._end_of_grace.start(self.grace)
        return self.server.drain(self.grace).addCallback(self._drained)

    def _drained(self, _done: None) -> None:
        self._end_of_grace.stop()
        self.server.close()
        self._records.close()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    # -- what changes while it runs -----------------------------------------------------

    def reload(self, config: SecureProxyServerConfig) -> list[str]:
        """Take over policy, logins, certificates, the list of the revoked; open the log anew."""
        changes = []
        if self._use_policy(config.policy):
            changes.append("policy")
        self._policy_stamp = stamp(config.policy_file)
        if self._checker.secrets != dict(config.secrets or {}):
            self._checker.secrets = dict(config.secrets or {})
            changes.append("logins")
        if self._watch.use_list(config.crl_file):
            changes.append(f"revocation list {config.crl_file or 'none'}")
        self._config = config
        self._front.replace(self._certificates(), self._watch.context)
        self.server.arrivals.proxies = config.proxies
        self.reopen()
        return changes

    def reopen(self) -> None:
        """See `IKeepsFiles`."""
        self._records.reopen()

    def _use_policy(self, policy: ServerPolicy) -> bool:
        changed = policy != self.server.core.policy
        if changed:
            self.server.replace_policy(policy)
        return changed

    def _look(self) -> None:
        """Once a second: the policy file, and who is revoked."""
        found = stamp(self._config.policy_file)
        if found != self._policy_stamp:
            self._policy_stamp = found
            try:
                if self._use_policy(load_policy(self._config.policy_file)):
                    _log.info("Another policy is in force")
            except ConfigError as error:
                _log.error(
                    "{why}; going on with the policy from before", why=str(error), log_always=True
                )
        self.cut(datetime.now(timezone.utc))

    def cut(self, now: datetime) -> None:
        """End everything of those who are revoked, or whose certificate is over at ``now``, by the
        wall clock (rules X17, X30)."""
        for client in self.server.clients():
            if self._watch.is_revoked(client.listings):
                _log.warn("{client} has been revoked: cut", client=printable(client.name))
                self.server.expel(client.name, "the certificate has been revoked")
            elif client.until is not None and now > client.until:
                shown = printable(client.name)
                _log.warn("The certificate of {client} has expired: cut", client=shown)
                self.server.expel(client.name, "the certificate has expired")

    def _credentials_changed(self) -> None:
        self.server.context = self._watch.context
        self._front.replace(self._certificates(), self._watch.context)

    def _certificates(self) -> list[ServerCertificate]:
        credentials = self._watch.identity.credentials
        own = ServerCertificate(credentials.private_key, (credentials.certificate,))
        return [*self._config.certificates, own]

    def _further(self, alpn: bytes, protocol: IPortProtocol) -> Browse:
        factory = protocol.make_factory(self.server.shared.reactor)
        return lambda arrived, host: self._front.serve(arrived, host, alpn, factory)

    # -- pages ---------------------------------------------------------------------------

    def serve(self, pages: resource.Resource) -> None:
        """See `IServesPages`."""
        self._pages = ForAdministrators(self._administrators, pages)

    def _pages_for(self, host: str) -> resource.Resource:
        if self.server.core.policy.kind_of(host) != WEB:
            # Who says no name gets no other page.
            named = self._pages if host else None
            return OwnPages(lambda: not self._stopping, named)

        def own_errand() -> tuple[Deferred[Any], Callable[[], None]]:
            errand = self.server.ask_site(host)
            return errand.carrier, errand.over

        def may_enter(address: str) -> bool:
            return bool(self.server.core.policy.may_enter(f"{WEB}:{host}", address))

        return VhostPages(self.server.shared.reactor, host, own_errand, may_enter)

    # -- by hand (rows O2, S9) -------------------------------------------------------------

    def commands(self) -> dict[str, Callable[[], dict[str, object]]]:
        """What a running server can be told."""
        return {"sessions": self.sessions, "log": self.log}

    def traffic(self) -> Iterator[Traffic]:
        """See `ISteered`."""
        return self.server.traffic()

    def explain(self, who: str, what: str) -> dict[str, object]:
        """See `IExplains`: whether a client may connect to ``TARGET/RESOURCE``."""
        target, slash, resource = what.rpartition("/")
        if not slash:
            raise ConfigError(f"{printable(what)}: expected TARGET/RESOURCE")
        verdict = self.server.core.policy.may_connect(who, target, resource)
        return {"allowed": bool(verdict), "rule": verdict.rule, "why": ""}

    def end_one(self, number: str) -> bool:
        """See `ISteered`."""
        return self.server.end_one(number)

    def throw_out(self, who: str, seconds: float) -> int:
        """See `ISteered`: a client's name."""
        ended = self.server.throw_out(who, seconds)
        tell_thrown_out(who, seconds, ended)
        return ended

    def status(self) -> SecureProxyServerStatus:
        """What the server is doing."""
        registry = self.server.core.registry
        return SecureProxyServerStatus(
            role=self._role,
            name=self.server.name,
            listening=", ".join(listener.address for listener in self._listeners),
            present=tuple(sorted(registration.name for registration in registry)),
            denied=dict(self._records.denied),
            **attrs.asdict(self.server.status()),
            **attrs.asdict(self._watch.status()),
        )

    def sessions(self) -> dict[str, object]:
        """Every session that has begun and is not over."""
        return {
            "sessions": [
                {
                    "id": session.id,
                    "who": session.origin or session.initiator.observed,
                    "target": session.target,
                    "peer": session.peer,
                    "resource": session.resource,
                    "state": session.state.name.lower(),
                }
                for session in self.server.core.sessions.values()
            ]
        }

    def log(self) -> dict[str, object]:
        """The newest decisions and sessions."""
        return {"log": list(self._records.recent)}


config_class = SecureProxyServerConfig


def configure(settings: Settings, starting: bool) -> SecureProxyServerConfig:
    """See `IProxyRole`."""
    settings.required("listen", "[HOST:]PORT on which everybody is awaited, e.g. 0.0.0.0:443")
    identity_file = settings.required("identity", "FILE.pem made by 'tunnelkit keys issue'")
    policy_file = settings.required(
        "policy", "FILE.toml that says who may do what; 'tunnelkit keys init' leaves an example"
    )
    terms = identity_terms(settings)
    identity = identity_file.parsed(partial(open_identity, terms=terms))
    if not identity.credentials.authorities:
        identity_file.wrong("it is self-signed, without a CA", "one that a CA has issued")
    login_file = settings.one("login-file")
    secrets = None
    if login_file is not None:
        secrets = parse_secrets(secret_text(login_file), printable(login_file.text))
    log_file = settings.one("log")
    return SecureProxyServerConfig(
        listen=tuple(given.parsed(parse_open_listen) for given in settings.all("listen")),
        identity=identity,
        terms=terms,
        state_dir=state_dir(settings),
        identity_file=os.path.abspath(identity_file.text),
        policy=policy_file.parsed(load_policy),
        policy_file=os.path.abspath(policy_file.text),
        certificates=tuple(
            ServerCertificate(*given.parsed(load_certificate_file))
            for given in settings.all("certificate")
        ),
        proxies=tuple(given.parsed(parse_network) for given in settings.all("proxy-protocol")),
        limits=Limits(
            **{
                field: count(settings, name, int(getattr(Limits(), field)), 1, most)
                for name, field, most, _ in SECURE_PROXY_LIMITS
            }
        ),
        log_file=None if log_file is None else os.path.abspath(log_file.text),
        crl_file=revocation_list(settings, identity),
        secrets=secrets,
    )


def make_service(reactor: Any, config: SecureProxyServerConfig) -> SecureProxyServerService:
    """See `IProxyRole`."""
    return SecureProxyServerService(reactor, "secure-proxy-server", config)
