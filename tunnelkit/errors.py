"""Every exception that tunnelkit raises on purpose.

The docstring of a class is the sentence that the command line prints when it
has nothing more exact to say: what happened, and what to do about it.
"""

from __future__ import annotations

from enum import Enum


class Code(str, Enum):
    """Why something ended or was refused: the codes that travel on the wire (LSTP ``code``)."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed-out"
    NOT_ALLOWED = "not-allowed"
    NO_SUCH_HOST = "no-such-host"
    NO_SUCH_SERVICE = "no-such-service"
    LIMIT = "limit"
    RESET = "reset"
    SHUTDOWN = "shutdown"
    PROTOCOL = "protocol"
    SETUP_MISMATCH = "setup-mismatch"
    ROLE_CONFLICT = "role-conflict"
    REPLACED = "replaced"
    """Secure Proxy: somebody else has registered under this name."""
    NOT_PRESENT = "not-present"
    """Secure Proxy: nobody who publishes it is registered."""
    WRONG_CODE = "wrong-code"
    """Pairing: the two ends do not have the same one-time code."""
    CROWDED = "crowded"
    """Pairing: somebody else is using the code, or its number."""
    INTERNAL = "internal"

    @classmethod
    def read(cls, text: str) -> Code:
        """The code that ``text`` names; one that this version does not know reads as INTERNAL."""
        try:
            return cls(text)
        except ValueError:
            return cls.INTERNAL

    def __str__(self) -> str:
        return self.value


class TunnelkitError(Exception):
    """Something went wrong in tunnelkit."""

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or "").strip()


class ConfigError(TunnelkitError):
    """The configuration is wrong: the message says what, where, and what is expected."""


class DialError(TunnelkitError):
    """A connection outwards could not be made.

    ``code`` says how it failed in the terms of the wire; ``hop`` names the
    party that failed or refused (an address or proxy, never a password).
    """

    code: Code = Code.UNREACHABLE

    def __init__(self, message: str = "", *, hop: str = "", code: Code | None = None) -> None:
        super().__init__(message)
        self.hop = hop
        if code is not None:
            self.code = code


class ProxyRefused(DialError):
    """The network proxy refused to connect onwards."""

    code = Code.REFUSED


class ProxyAuthRequired(DialError):
    """The network proxy wants a user name and password, or does not accept the ones given."""

    code = Code.NOT_ALLOWED


class DialTimeout(DialError):
    """No answer came within the time allowed."""

    code = Code.TIMED_OUT


class AuthError(TunnelkitError):
    """The other side may not do this."""


class PeerNotTrusted(AuthError):
    """The other side's certificate is not one that this end trusts."""


class Revoked(AuthError):
    """The other side's certificate has been revoked."""


class NotAuthorized(AuthError):
    """No rule allows this destination.

    ``reason`` says why in one word of a few, for metrics; ``remedy`` is the option that would
    allow it, where there is one. It is not part of the message, which the other side may be told.
    """

    def __init__(self, message: str = "", reason: str = "no-rule", remedy: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.remedy = remedy


class ProtocolError(TunnelkitError):
    """A rule of the protocol was broken."""


class LocalProtocolError(ProtocolError):
    """This program used a protocol object in a state that does not allow it: a bug here."""


class RemoteProtocolError(ProtocolError):
    """The other side broke a rule of the protocol.

    ``code`` travels in the ERROR message that tells it so; ``state`` names
    the state in which the rule was broken.
    """

    def __init__(self, message: str, *, code: Code = Code.PROTOCOL, state: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.state = state


class PairingFailed(AuthError):
    """The two ends were not paired; the code is used up."""

    def __init__(self, message: str = "", code: Code = Code.WRONG_CODE) -> None:
        super().__init__(message)
        self.code = code


class ChannelClosed(TunnelkitError):
    """A channel of the tunnel has ended."""

    def __init__(self, code: Code, reason: str = "") -> None:
        super().__init__(f"{code}: {reason}" if reason else str(code))
        self.code = code
        self.reason = reason


class ChannelRefused(ChannelClosed):
    """The far side did not open the channel."""


class ChannelReset(ChannelClosed):
    """The channel ended before both sides had finished; data may be missing."""
