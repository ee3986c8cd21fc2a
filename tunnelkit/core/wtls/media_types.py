"""Media types of the web and the numbers that CoAP has for them (RFC 8075, 6)."""

from __future__ import annotations

TEXT, OCTETS, XML, JSON, CBOR = 0, 42, 41, 50, 60

NAMES = {
    TEXT: "text/plain; charset=utf-8",
    21: "image/gif",
    22: "image/jpeg",
    23: "image/png",
    40: "application/link-format",
    XML: "application/xml",
    OCTETS: "application/octet-stream",
    47: "application/exi",
    JSON: "application/json",
    51: "application/json-patch+json",
    52: "application/merge-patch+json",
    CBOR: "application/cbor",
    110: "application/senml+json",
    112: "application/senml+cbor",
    310: "application/senml+xml",
}
"""Content-Formats of the registry that devices use."""

_NUMBERS = {name.partition(";")[0]: number for number, name in NAMES.items()}
_SUFFIXES = {"+json": JSON, "+xml": XML, "+cbor": CBOR}


def to_name(number: int) -> str:
    """The media type of a Content-Format; one that is not known stays told apart (6.2)."""
    return NAMES.get(number, f"application/coap-payload;cf={number}")


def to_number(name: str) -> int:
    """The Content-Format of a media type, or of the nearest that has one (6.3)."""
    plain = name.partition(";")[0].strip().lower()
    if plain in _NUMBERS:
        return _NUMBERS[plain]
    if plain == "application/coap-payload":
        number = name.partition("cf=")[2].strip().strip('"')
        return int(number) if number.isascii() and number.isdigit() and len(number) < 6 else OCTETS
    if plain == "text/xml":
        return XML
    if plain.startswith("text/") or plain == "application/javascript":
        return TEXT
    return next((each for suffix, each in _SUFFIXES.items() if plain.endswith(suffix)), OCTETS)
