"""What a channel leads to, as text and as values (row P1), and the forms of listening options."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

import attrs
import idna

from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable

TCP, UDP, UNIX, X11, SERVICE, LISTEN = "tcp", "udp", "unix", "x11", "service", "listen"
KINDS = (TCP, UDP, UNIX, X11, SERVICE, LISTEN)
DNS_SERVICE = "service:@dns"
"""The far side's resolver."""
DEFAULT_DISPLAY = "service:@x11"
"""The display of the far side's user."""
BENCH_SERVICE = "service:@bench"
"""The far side's part of ``tunnelkit bench``."""

MAX_TEXT = 400
"""Characters of a whole destination; longer texts are not looked at."""
MAX_NAME = 253
MAX_PATH_BYTES = 107
"""What fits into a unix socket address besides the final NUL."""
X11_BASE_PORT = 6000
MAX_DISPLAY = 65535 - X11_BASE_PORT
MAX_RANGE = 1024
"""Ports of one ``--forward`` range."""

_OWN_CONNECTION = ",connection=own"

EXPECTED = (
    "expected tcp:HOST:PORT, udp:HOST:PORT, udp:*, unix:PATH, x11:DISPLAY, service:NAME or "
    "listen:tcp:HOST:PORT"
)

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_SERVICE = re.compile(r"@?[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_DISPLAY = re.compile(r"([0-9]{1,5})(?:\.[0-9]{1,5})?\Z")
_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})\Z")


@attrs.frozen
class Destination:
    """What a channel leads to. Made by `parse_destination` or `destination_to`, which check it."""

    kind: str
    """``tcp``, ``udp``, ``unix``, ``x11``, ``service`` or ``listen`` (a TCP listener)."""
    host: str
    """A name in ASCII and lower case or an address without brackets; ``*`` for ``udp:*``; the path
    for ``unix``; the name for ``service``; empty for a display of the same machine (``x11::0``)."""
    port: int = 0
    """1 to 65535, 0 also for ``listen``; the display's number for ``x11``; otherwise 0."""

    @property
    def is_address(self) -> bool:
        """Whether ``host`` is an IPv4 or IPv6 address rather than a name to resolve."""
        return ":" in self.host or self.host.rpartition(".")[2].isdigit()

    def __str__(self) -> str:
        """The text that `parse_destination` reads as an equal Destination."""
        if self.kind in (UNIX, SERVICE):
            return f"{self.kind}:{self.host}"
        if self.kind == UDP and self.host == "*":
            return "udp:*"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'listen:tcp' if self.kind == LISTEN else self.kind}:{host}:{self.port}"


@lru_cache(maxsize=1024)
def parse_destination(text: str) -> Destination:
    """Read a destination (row P1).

    ==========================  ====================================
    text                        (kind, host, port)
    ==========================  ====================================
    ``tcp:HOST:PORT``           ``("tcp", HOST, PORT)``
    ``udp:HOST:PORT``           ``("udp", HOST, PORT)``
    ``udp:*``                   ``("udp", "*", 0)``
    ``unix:/PATH``              ``("unix", "/PATH", 0)``
    ``x11::N``                  ``("x11", "", N)``
    ``x11:HOST:N``              ``("x11", HOST, N)``
    ``service:NAME``            ``("service", NAME, 0)``
    ``listen:tcp:HOST:PORT``    ``("listen", HOST, PORT)``
    ==========================  ====================================

    HOST is a name (IDNA is converted to ASCII), an IPv4 address of four
    decimal numbers, or an IPv6 address in brackets. Spellings that some
    resolvers read as addresses (``127.1``, ``0x7f000001``) are errors.

    Raises `ConfigError`.
    """
    if len(text) > MAX_TEXT:
        raise ConfigError(f"{_shown(text)} has {len(text)} characters; expected at most {MAX_TEXT}")
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        raise ConfigError(f"{_shown(text)} is not a destination; {EXPECTED}")
    try:
        if kind == UDP and rest == "*":
            return Destination(UDP, "*")
        if kind == UNIX:
            return Destination(UNIX, to_unix_path(rest))
        if kind == SERVICE:
            return Destination(SERVICE, to_service_name(rest))
        if kind == X11:
            return _parse_display(rest)
        if kind == LISTEN:
            if not rest.startswith("tcp:"):
                raise ConfigError(
                    "only TCP ports can be listened on; expected listen:tcp:HOST:PORT"
                )
            rest = rest[4:]
        host, port = split_host_port(rest)
        return Destination(kind, to_host(host), to_port(port, lowest=0 if kind == LISTEN else 1))
    except ConfigError as error:
        raise ConfigError(f"destination {_shown(text)}: {error}") from None


def destination_to(kind: str, host: str, port: int) -> Destination:
    """A ``tcp``, ``udp`` or ``listen`` Destination of a host without brackets, as SOCKS has it.

    Raises `ConfigError`.
    """
    return Destination(kind, to_host(host), to_port(str(port), lowest=0 if kind == LISTEN else 1))


# -- parts ----------------------------------------------------------------


def to_host(text: str) -> str:
    """A host name or address (without brackets) in its one canonical spelling.

    Raises `ConfigError`.
    """
    if ":" in text:
        return _to_ipv6(text)
    if not text:
        raise ConfigError("the host is missing; expected a name or an address")
    name = text.lower()
    if not name.isascii():
        try:
            if len(name) > MAX_NAME:
                raise ConfigError(f"the host name has more than {MAX_NAME} characters")
            name = idna.encode(name, uts46=True).decode("ascii")
        except UnicodeError as error:
            raise ConfigError(
                f"host {_shown(text)} is not a valid international name ({printable(str(error))})"
            ) from None
    labels = name.removesuffix(".").split(".")
    if _NUMBER.match(labels[-1]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise ConfigError(
                f"host {_shown(text)} looks like an address but is none; "
                "expected four decimal numbers such as 192.0.2.1"
            ) from None
    if len(name.removesuffix(".")) > MAX_NAME:
        raise ConfigError(f"the host name has more than {MAX_NAME} characters")
    if not all(map(_LABEL.match, labels)):
        raise ConfigError(
            f"host {_shown(text)} is not a name; expected labels of 1 to 63 letters, digits and "
            "hyphens with dots between them"
        )
    return name


def to_port(text: str, lowest: int = 1) -> int:
    """A port number from ``lowest`` to 65535. Raises `ConfigError`."""
    if text.isascii() and text.isdigit() and len(text) <= 5 and lowest <= int(text) <= 65535:
        return int(text)
    raise ConfigError(f"port {_shown(text)} is wrong; expected a number from {lowest} to 65535")


def to_unix_path(text: str) -> str:
    """The absolute, normal path of a unix socket. Raises `ConfigError`."""
    if not text.startswith("/") or text.endswith("/"):
        raise ConfigError("the path is not absolute; expected one such as /run/name.sock")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise ConfigError(f"the path is too long; expected at most {MAX_PATH_BYTES} bytes")
    if not text.isprintable():
        raise ConfigError("the path has characters that cannot be printed; expected none")
    if any(part in ("", ".", "..") for part in text.split("/")[1:]):
        raise ConfigError("the path has empty or dotted parts; expected it without // . and ..")
    return text


def to_service_name(text: str) -> str:
    """The name of a published service. Raises `ConfigError`."""
    if not _SERVICE.match(text):
        raise ConfigError(
            "the service's name is wrong; expected 1 to 128 letters, digits, dots, hyphens and "
            "underscores"
        )
    return text


def split_host_port(text: str) -> tuple[str, str]:
    """Cut ``HOST:PORT`` or ``[IPV6]:PORT`` into its texts, without brackets.

    Raises `ConfigError`.
    """
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]:")
        if not bracket or ":" not in host:
            raise ConfigError(f"{_shown(text)} is wrong; expected [IPV6-ADDRESS]:PORT")
        return host, port
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ConfigError(f"the port is missing in {_shown(text)}; expected HOST:PORT")
    if ":" in host:
        raise ConfigError(
            f"{_shown(text)} has too many colons; expected HOST:PORT, IPv6 addresses in brackets"
        )
    return host, port


def _to_ipv6(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError("zone")
        return str(IPv6Address(text))
    except ValueError:
        raise ConfigError(
            f"host {_shown(text)} is not an IPv6 address; expected one such as 2001:db8::1, "
            "without zone"
        ) from None


def _parse_display(text: str) -> Destination:
    host, number = split_host_port(text)
    match = _DISPLAY.match(number)
    if not match or int(match[1]) > MAX_DISPLAY:
        raise ConfigError(
            f"display {_shown(text)} is wrong; expected :NUMBER or HOST:NUMBER, "
            f"at most {MAX_DISPLAY}"
        )
    return Destination(X11, to_host(host) if host else "", int(match[1]))


def _shown(text: str) -> str:
    return f"'{printable(text, 80)}'"


# -- options --------------------------------------------------------------


def parse_host_port(text: str) -> tuple[str, int]:
    """``HOST:PORT`` of something to connect to. Raises `ConfigError`."""
    host, port = split_host_port(text)
    return to_host(host), to_port(port)


def parse_listen(text: str) -> tuple[str, int]:
    """``[HOST:]PORT`` of a listener here: (address, port); port 0 is any free port.

    HOST is an address or ``localhost``; without it the listener is on
    127.0.0.1 (row P4). Raises `ConfigError`.
    """
    host, port = _listen_parts(text)
    return host, to_port(port, lowest=0)


def parse_open_listen(text: str) -> tuple[str, int]:
    """The same for what is there to be dialled from elsewhere: a port alone is that port of all
    IPv4 addresses (row Q8)."""
    return parse_listen(text if ":" in text else f"0.0.0.0:{text}")


def _listen_parts(text: str) -> tuple[str, str]:
    if ":" not in text:
        return "127.0.0.1", text
    host, port = split_host_port(text)
    if host == "localhost":
        return "127.0.0.1", port
    try:
        return str(IPv6Address(to_host(host)) if ":" in host else IPv4Address(host)), port
    except ValueError:
        raise ConfigError(
            f"{_shown(text)} cannot be listened on; expected [ADDRESS:]PORT, with 0.0.0.0 or [::] "
            "for every address"
        ) from None


@attrs.frozen
class ForwardSpec:
    """One ``--forward`` or ``--reverse`` of one port: where to listen and where it leads (F2)."""

    protocol: str
    """``tcp``, ``udp`` or ``unix``: what the listener takes."""
    address: str
    """IPv4 or IPv6 address, or the path of a unix socket."""
    port: int
    """0 to 65535, 0 for any free port; 0 for unix sockets."""
    destination: Destination
    own_connection: bool = False
    """What comes in has a tunnel connection of its own (row L16)."""

    def __str__(self) -> str:
        """The text that `parse_forward` reads as an equal ForwardSpec."""
        own = _OWN_CONNECTION if self.own_connection else ""
        if self.protocol == UNIX:
            return f"unix:{self.address}={self.destination}{own}"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}={self.destination}{own}"


def parse_forward(text: str) -> tuple[ForwardSpec, ...]:
    """Read ``LISTEN=DESTINATION``: one ForwardSpec, or one for each port of a range (F2).

    ======================================  =========================================
    text                                    meaning
    ======================================  =========================================
    ``8080=tcp:web:80``                     127.0.0.1:8080 to tcp:web:80
    ``8080=web:80``                         the same: tcp is the default
    ``0.0.0.0:8080=tcp:web:80``             all IPv4 addresses, port 8080
    ``[::1]:8080=tcp:[2001:db8::1]:80``     IPv6 in brackets
    ``0=tcp:web:80``                        any free port
    ``5353=udp:ns:53``                      a UDP forward: the destination decides
    ``8080=unix:/run/x.sock``               to a unix socket there
    ``unix:/run/y.sock=tcp:web:80``         from a unix socket here
    ``8080=service:NAME``                   to a published service
    ``8000-8002=tcp:web:9000-9002``         three ports, each to its own
    ``8080=tcp:web:80,connection=own``      not on the connection that others share
    ======================================  =========================================

    Raises `ConfigError`.
    """
    listen, equals, target = text.partition("=")
    try:
        if not equals:
            raise ConfigError("there is no '='; expected [HOST:]PORT=DESTINATION")
        own = target.endswith(_OWN_CONNECTION)
        target = target.removesuffix(_OWN_CONNECTION)
        if not target.startswith(tuple(f"{kind}:" for kind in KINDS)):
            target = f"tcp:{target}"
        if own and target.startswith(f"{UDP}:"):
            raise ConfigError("datagrams have no connection; expected no ',connection=own'")
        if listen.startswith("unix:"):
            destination = _forwardable(parse_destination(target))
            if destination.kind == UDP:
                raise ConfigError("a unix socket cannot lead to UDP; expected a stream destination")
            return (ForwardSpec(UNIX, to_unix_path(listen[5:]), 0, destination, own),)
        address, ports = _listen_parts(listen)
        near = _port_range(ports, lowest=0)
        start, dash, _ = target.rpartition("-")
        far: range | None = None
        if dash and target.startswith(("tcp:", "udp:")) and _RANGE.match(target.rpartition(":")[2]):
            far = _port_range(target.rpartition(":")[2], lowest=1)
            target = start
        if len(near) != (1 if far is None else len(far)):
            raise ConfigError("the ranges differ in length; expected as many ports on both sides")
        destination = _forwardable(parse_destination(target))
        protocol = UDP if destination.kind == UDP else TCP
        return tuple(
            ForwardSpec(
                protocol,
                address,
                port,
                destination if far is None else attrs.evolve(destination, port=far[index]),
                own,
            )
            for index, port in enumerate(near)
        )
    except ConfigError as error:
        raise ConfigError(f"forward {_shown(text)}: {error}") from None


def _forwardable(destination: Destination) -> Destination:
    if destination.kind in (LISTEN, X11) or destination.host == "*":
        raise ConfigError(
            f"'{destination}' cannot be forwarded to; expected tcp:, udp:HOST:PORT, unix: or "
            "service:"
        )
    return destination


def _port_range(text: str, lowest: int) -> range:
    match = _RANGE.match(text)
    if not match:
        port = to_port(text, lowest)
        return range(port, port + 1)
    first, last = to_port(match[1]), to_port(match[2])
    if not 0 < last - first + 1 <= MAX_RANGE:
        raise ConfigError(
            f"ports {text} are wrong; expected FIRST-LAST in rising order, at most {MAX_RANGE}"
        )
    return range(first, last + 1)
