"""A client's way to its Communication Server, as options say it (row X5; S3)."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509

from tunnelkit.errors import ConfigError
from tunnelkit.net.dial.via import Via
from tunnelkit.net.secureproxy.link import ServerLink
from tunnelkit.net.sockets.context import Shared
from tunnelkit.net.tls.context import Credentials, KeyUse, TlsContext
from tunnelkit.policy.destination import parse_host_port
from tunnelkit.policy.files import read_file
from tunnelkit.policy.identity import Identity
from tunnelkit.policy.printable import printable
from tunnelkit.policy.settings import Settings
from tunnelkit.roles.configure import proxies, secret_line, to_name, to_server_name
from tunnelkit.roles.secure_proxy_resources import DEFAULT_RESOURCE, RESOURCE, session_name
from tunnelkit.roles.way_out import WayOut
from tunnelkit.version import __version__
from tunnelkit.wire.secureproxy import ALPN, GROUP, Login

SYSTEM = "system"
"""For ``--server-ca``: the CAs that this machine trusts."""
NO_SERVER_CA = (
    "--server-ca is missing: this end's own certificate is self-signed: expected FILE with the CAs "
    "that may have issued the server's"
)


@attrs.frozen(kw_only=True)
class LinkConfig:
    """Where the server is, and what the two need to know each other."""

    server: tuple[str, int]
    """Host and port."""
    server_name: str
    """The name that its certificate must have."""
    authorities: tuple[x509.Certificate, ...] = ()
    """The CAs that may have issued it; empty: the identity's."""
    login: Login | None = None
    via: Via = ()
    """The way out."""
    binding_required: bool = True
    """Other clients must say which TLS they are in, as this one does."""

    def context(self, credentials: Credentials) -> TlsContext:
        """For the TLS with the server, of the client with ``credentials``."""
        if self.authorities:
            # Pinned keys, and the list of the revoked, are about other clients.
            credentials = attrs.evolve(
                credentials, authorities=self.authorities, check_revocation=False, crls=()
            )
        # Here the roles in TLS are always the same, and public CAs issue for servers only.
        credentials = attrs.evolve(credentials, pins={}, use=KeyUse.ROLE)
        name = self.server_name if _is_name(self.server_name) else ""
        # Who logs in may have a certificate of a CA that the server does not know, or of none.
        anonymous = self.login is not None
        return TlsContext(credentials, (ALPN,), server_name=name, anonymous=anonymous)

    def way(self, reactor: Any) -> WayOut:
        """The way to the server."""
        return WayOut(reactor, self.via, "server", self.server)

    def link(self, shared: Shared, way: WayOut, identity: Identity) -> ServerLink:
        """``way`` as who has ``identity``."""
        return ServerLink(
            shared,
            way,
            self.context(identity.credentials),
            self.server_name,
            software=f"tunnelkit/{__version__}",
            login=self.login,
            secret=identity.rendezvous_secret,
            binding_required=self.binding_required,
        )

    def renew(self, link: ServerLink, identity: Identity) -> None:
        """From now on connect as ``identity``."""
        link.context = self.context(identity.credentials)
        link.secret = identity.rendezvous_secret


def configure_link(settings: Settings) -> LinkConfig:
    """The options that begin with the server; raises `ConfigError`."""
    server = settings.required("server", "HOST:PORT of the server, e.g. relay.example:443")
    host, port = server.parsed(parse_host_port)
    named = settings.one("server-name")
    return LinkConfig(
        server=(host, port),
        server_name=host if named is None else named.parsed(to_server_name),
        authorities=_authorities(settings),
        login=_login(settings),
        via=proxies(settings),
        binding_required=_binding_required(settings),
    )


def asked_for(settings: Settings) -> str | None:
    """Whom to ask for: a name, or ``group:`` and a group's; None: nobody."""
    given = settings.one("target")
    if given is None:
        return None
    name = given.parsed(to_name)
    if name.startswith(GROUP):
        if not RESOURCE.fullmatch(name[len(GROUP) :]):
            given.wrong("not a group's name", "group:NAME, letters, digits, '.', '_' and '-'")
        if not (settings.all("peer") or settings.all("peer-pin")):
            given.wrong("any member of a group may come", "--peer for each one that is welcome")
    return name


def resource(settings: Settings) -> str:
    """The name of what is asked for."""
    given = settings.one("resource")
    return DEFAULT_RESOURCE if given is None else given.parsed(session_name)


def _is_name(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return True
    return False


def _login(settings: Settings) -> Login | None:
    name, file = settings.one("login"), settings.one("login-file")
    if name is None:
        if file is not None:
            file.wrong("nobody logs in", "--login NAME as well")
        return None
    if file is None:
        name.wrong("its password is missing", "--login-file FILE as well")
    return Login(name.parsed(to_name), password=secret_line(file))


def _binding_required(settings: Settings) -> bool:
    given = settings.one("session-binding")
    if given is not None and given.text not in ("required", "optional"):
        given.wrong("not known", "required or optional")
    return given is None or given.text == "required"


def _authorities(settings: Settings) -> tuple[x509.Certificate, ...]:
    given = settings.one("server-ca")
    if given is None:
        return ()
    path = _system_authorities() if given.text == SYSTEM else given.text
    data = read_file(path, f"{given.where} {printable(path)}", 1 << 21)
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        given.wrong("no certificates that can be read", "a PEM file of CAs, or `system`")


def _system_authorities() -> str:
    """The file of the CAs that this machine trusts."""
    found = ssl.get_default_verify_paths()
    for path in (found.cafile, found.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt"):
        if path and Path(path).is_file():
            return path
    raise ConfigError("--server-ca system: this machine has no file of CAs: expected FILE")
