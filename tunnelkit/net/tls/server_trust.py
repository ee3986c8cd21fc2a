"""TLS to servers that show themselves by name, as browsers check them: web servers, proxies.

The certificate must be of an authority that this machine trusts (``SSL_CERT_FILE`` names
another list), and for the host.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelkit.errors import AuthError, PeerNotTrusted
from tunnelkit.net.tls.context import describe_certificate, moment

_EXPIRED = 10
"""X509_V_ERR_CERT_HAS_EXPIRED."""
_NO_TLS = ("wrong version number", "http request", "packet length too long", "record layer failure")


@implementer(IOpenSSLClientConnectionCreator)
class ServerTrust:
    """For one connection to ``host``, a name in ASCII or an address."""

    def __init__(self, host: str) -> None:
        self._host = host
        try:
            ip_address(host)
        except ValueError:
            self._is_address = False
        else:
            self._is_address = True

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See `IOpenSSLClientConnectionCreator`."""
        connection = SSL.Connection(_context(), None)
        if not self._is_address:
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        connection.set_info_callback(self._shaken)
        connection.set_app_data(tlsProtocol)
        return connection

    def _shaken(self, connection: SSL.Connection, where: int, result: int) -> None:
        if not where & SSL.SSL_CB_HANDSHAKE_DONE:
            return
        try:
            if self._is_address:
                verify_ip_address(connection, self._host)
            else:
                verify_hostname(connection, self._host)
        except VerificationError:
            _refuse(connection, PeerNotTrusted("the server's certificate is for another name"))
        except Exception as error:
            # Nothing may get past a check that has not been made.
            _refuse(connection, PeerNotTrusted(f"the server's certificate: {error}"))


@lru_cache(maxsize=1)
def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_default_verify_paths()
    context.set_verify(SSL.VERIFY_PEER, _verified)
    return context


def _verified(connection: SSL.Connection, shown: Any, error: int, depth: int, ok: int) -> bool:
    if not ok:
        certificate = shown.to_cryptography()
        who = f"the certificate of {describe_certificate(certificate)}"
        if error == _EXPIRED:
            why = f"{who} has expired on {moment(certificate.not_valid_after_utc)}"
        else:
            why = f"{who} is not of an authority that this machine trusts"
        _refuse(connection, PeerNotTrusted(why))
    return bool(ok)


def _refuse(connection: SSL.Connection, why: AuthError) -> None:
    connection.get_app_data().failVerification(Failure(why))


def explain_loss(error: BaseException | None) -> str:
    """Why a connection to such a server has ended, if TLS is the reason; otherwise empty."""
    if isinstance(error, AuthError):
        return str(error)
    if not isinstance(error, SSL.Error):
        return ""
    reasons = [str(entry[-1]) for entry in (error.args[0] if error.args else ())]
    if not reasons or reasons[0] in _NO_TLS:
        return "the server does not speak TLS"
    return f"TLS failed: {reasons[0]}"
