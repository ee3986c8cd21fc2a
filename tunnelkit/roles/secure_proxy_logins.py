"""Who may log in at a Communication Server by name and password or token (row S11).

A `Portal` of `twisted.cred` decides; its checkers may be any. The one that comes with
tunnelkit reads a file.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import Interface, implementer

from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable
from tunnelkit.wire.secureproxy import Login


class IClientName(Interface):
    """What a login gives: the client's name."""


@implementer(IRealm)
class _Names:
    """Everybody is who the checker says."""

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """See `IRealm`."""
        name = avatarId.decode("utf-8") if isinstance(avatarId, bytes) else str(avatarId)
        return IClientName, name, lambda: None


@implementer(ICredentialsChecker)
class SecretFileChecker:
    """Knows the secrets of ``secrets``, by name; it may be replaced at any time."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, secrets: dict[str, str]) -> None:
        self.secrets = secrets

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """See `ICredentialsChecker`."""
        name = credentials.username.decode("utf-8", "replace")
        known = self.secrets.get(name, "")
        same = hmac.compare_digest(known.encode("utf-8"), credentials.password)
        if known and same:
            return succeed(credentials.username)
        return fail(UnauthorizedLogin())

    async def name_of(self, secret: str) -> str:
        """Whose secret that is. Raises `UnauthorizedLogin`."""
        given = secret.encode("utf-8")
        found = ""
        for name, known in self.secrets.items():
            # All of them, so that the time tells nothing.
            if hmac.compare_digest(known.encode("utf-8"), given):
                found = name
        if not found:
            raise UnauthorizedLogin()
        return found


class Logins:
    """Asks the checkers; what `SecureProxyServer` calls ``check_login``."""

    def __init__(self, checkers: Sequence[Any]) -> None:
        self._portal = Portal(_Names(), checkers)

    def __call__(self, login: Login) -> Deferred[str]:
        secret = login.password if login.password is not None else login.token or ""
        credentials = UsernamePassword(login.name.encode("utf-8"), secret.encode("utf-8"))
        checked: Deferred[Any] = self._portal.login(credentials, None, IClientName)
        return checked.addCallback(lambda avatar: avatar[1])


def parse_secrets(text: str, where: str) -> dict[str, str]:
    """``NAME:SECRET`` lines; empty ones and those that begin with # count for nothing."""
    secrets: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, secret = line.strip().partition(":")
        if not colon or not name or len(secret) < 8:
            raise ConfigError(
                f"{where}:{number}: expected NAME:SECRET, the secret of at least 8 characters"
            )
        if name in secrets:
            raise ConfigError(f"{where}:{number}: {printable(name)} stands there twice")
        secrets[name] = secret
    return secrets
