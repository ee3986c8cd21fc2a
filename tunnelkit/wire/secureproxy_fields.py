"""Secure Proxy: the types of its messages, and the fields that several of them have."""

from __future__ import annotations

import re
from enum import IntEnum

from tunnelkit.wire.json_body import Fields


class MessageType(IntEnum):
    """The type byte of the header."""

    HELLO = 1
    WELCOME = 2
    PUBLISH = 3
    CONNECT = 4
    INCOMING = 5
    ANSWER = 6
    JOIN = 7
    START_SECURE = 8
    START_PASS = 9
    LOOKUP = 10
    PRESENCE = 11
    DRAIN = 12
    ERROR = 13
    OK = 14
    KEEPALIVE = 15
    SESSION = 16
    SPARE = 17
    START_WEB = 18


VERSION = 1
PRESENT = "present"
ASK = "ask"
SESSION = "session"
PURPOSES = (PRESENT, ASK, SESSION)

PASS = "pass"
WEB = "web"
KINDS = (SESSION, PASS, WEB)

GROUP = "group:"
"""In front of a group's name where a client's could stand."""

MAX_RESOURCES = 128
MAX_GROUPS = 64
MAX_PROPERTIES = 16
MAX_ADDRESSES = 16
MAX_SERVERS = 16
MAX_ENTRIES = 100
MAX_GENERATION = (1 << 63) - 1
MAX_TTL = 10 * 365 * 86400.0
MAX_KEEPALIVE = 3600.0
MAX_HOST = 253

HEX32 = re.compile(r"[0-9a-f]{32}")
HEX32_WORDS = "32 lower-case hex digits"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9@_](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9_])?")
_PLAIN_WORDS = "1 to 64 letters, digits, '.', '_', '@' or '-'"


def read_target(fields: Fields, name: str) -> str:
    """A client's name, or ``group:`` and a group's."""
    value = fields.name(name)
    if value.startswith(GROUP) and _PLAIN_NAME.fullmatch(value[len(GROUP) :]) is None:
        raise fields.wrong(name, f"a name, or {GROUP} and {_PLAIN_WORDS}")
    return value


def read_resource(fields: Fields, name: str) -> str:
    """A resource's name: of a session a plain one, otherwise ``pass:HOST`` or ``web:HOST``."""
    value = fields.text(name, MAX_HOST + 5, 1)
    kind, colon, host = value.partition(":")
    plain = _PLAIN_NAME.fullmatch(value) is not None
    if not plain and not (colon and kind in (PASS, WEB) and is_host(host)):
        raise fields.wrong(name, f"{_PLAIN_WORDS}, or pass:HOST or web:HOST")
    return value


_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_HOST_WORDS = "a host's name in lower-case A-labels"


def is_host(text: str) -> bool:
    """Whether it is a host's name in lower-case A-labels; ``*.`` in front is one label of any name.

    An IP address is none.
    """
    labels = text.removeprefix("*.").split(".")
    return len(text) <= MAX_HOST and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def read_host(fields: Fields, name: str) -> str:
    """A host's name."""
    value = fields.text(name, MAX_HOST, 1)
    if not is_host(value):
        raise fields.wrong(name, _HOST_WORDS)
    return value


def read_generation(fields: Fields) -> int:
    """A fencing number."""
    return fields.integer("generation", 0, MAX_GENERATION)
