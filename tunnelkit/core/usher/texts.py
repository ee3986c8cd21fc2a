"""Texts in Usher records: destinations of opens, and reasons that carry a `Code`.

Usher's reasons are plain text. Ours begin with the name of the code, then a
colon and a space: ``not-allowed: no rule allows it``, or the name alone. So a
front end at the other end knows what to tell its client, and a person reading
it does too. A text without such a beginning is taken as it is.
"""

from __future__ import annotations

from tunnelkit.core.mux.contract import LimitReached
from tunnelkit.errors import Code, LocalProtocolError, RemoteProtocolError
from tunnelkit.wire.usher import (
    MAX_GATES,
    MAX_LENGTH,
    AddressType,
    UsherOpen,
    Version,
    address_type_of,
)

MAX_REASON = 512
"""Bytes of a reason that is sent, code included."""
_MAX_NAME = 253
_MAX_TEXT = 1000
_CODES = {code.value: code for code in Code}


class NotInUsher1(LocalProtocolError):
    """This needs `usher/1.1`; the far side speaks only `usher/1`."""

    code = Code.UNREACHABLE

    def __init__(self, what: str) -> None:
        super().__init__(f"usher/1 has no {what}; the far side would have to offer usher/1.1")


# -- reasons --------------------------------------------------------------


def reason_text(code: Code, reason: str) -> str:
    """The REASON that stands for both; shortened if need be."""
    return shortened(f"{code.value}: {reason}" if reason else code.value)


def shortened(text: str) -> str:
    """What of ``text`` a record can hold."""
    raw = text.replace("\0", " ").encode("utf-8", "replace")
    return raw[:MAX_REASON].decode("utf-8", "ignore")


def read_reason(text: str, default: Code) -> tuple[Code, str]:
    """Code and reason in a REASON; the code is ``default`` if it begins with none."""
    code = _code_of(text)
    return (default, text) if code is None else (code, text.partition(": ")[2])


def names_code(text: str) -> bool:
    """Whether a REASON begins with a code."""
    return _code_of(text) is not None


def _code_of(text: str) -> Code | None:
    return _CODES.get(text.partition(": ")[0])


# -- destinations ---------------------------------------------------------


def open_record(destination: str, version: Version) -> UsherOpen:
    """What asks for a session to ``destination``.

    Raises `NotInUsher1`, and `LocalProtocolError` for what is no destination of a session.
    """
    kind, _, rest = destination.partition(":")
    if not destination.isprintable() or len(destination.encode("utf-8", "replace")) > _MAX_TEXT:
        raise LocalProtocolError("a destination is printable and has at most 1000 bytes")
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise LocalProtocolError(f"{destination[:80]} is not tcp:HOST:PORT")
        address_type = address_type_of(host)
        if address_type is AddressType.IPV6 and version is Version.V1:
            raise NotInUsher1("IPv6 addresses")
        if len(host.encode()) > _MAX_NAME:
            raise LocalProtocolError(f"a host name has at most {_MAX_NAME} bytes")
        return UsherOpen(address_type, host, int(port))
    if kind == "udp":
        raise LocalProtocolError("datagrams need no session in Usher, see DatagramMux")
    if version is Version.V1:
        raise NotInUsher1(f"sessions to {kind[:20]}: destinations")
    return UsherOpen(AddressType.TEXT, destination)


def onward_record(destination: str, via: tuple[str, ...]) -> UsherOpen:
    """The same for a destination that has been asked for by way of the gates ``via``.

    Raises `LimitReached` if they do not fit.
    """
    open_record(destination, Version.V1_1)
    record = UsherOpen(AddressType.ONWARD, destination, via=via)
    if len(via) > MAX_GATES or len(record.body()) > MAX_LENGTH:
        raise LimitReached("too many gates are on the way already", Code.LIMIT)
    return record


def destination_of(record: UsherOpen) -> str:
    """The destination that an open asks for; empty for an accepted connection.

    Raises `RemoteProtocolError`, with the code for the refusal, if it cannot be one.
    """
    kind, address = record.address_type, record.address
    if kind is AddressType.ACCEPTED:
        return ""
    if kind in (AddressType.TEXT, AddressType.ONWARD):
        if address.startswith("udp:"):
            raise RemoteProtocolError("UDP has records of its own", code=Code.REFUSED)
        return address
    if kind is AddressType.IPV6:
        return f"tcp:[{address}]:{record.port}"
    if kind is AddressType.NAME and not _is_name(address):
        raise RemoteProtocolError("that is not a host name", code=Code.NO_SUCH_HOST)
    return f"tcp:{address}:{record.port}"


def _is_name(text: str) -> bool:
    """Nothing in it could make another destination of it."""
    return text.isprintable() and not any(character in ":[]/ " for character in text)
