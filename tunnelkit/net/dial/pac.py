"""Proxy auto-configuration: a script, in a file or at a URL, says which proxy leads where (N1).

The script is read again when its file changes, and from a URL after `KEPT` seconds; so are its
answers. One that cannot be had or gives no answer is an error: nothing is then connected
directly in silence.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet import defer
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from tunnelkit.errors import ConfigError, DialError, ProxyAuthRequired, ProxyRefused
from tunnelkit.interfaces import IDialer
from tunnelkit.net.dial.dialers import USUAL, DirectDialer, Limits, ProxyDialer
from tunnelkit.net.dial.pac_answer import Way, parse_answer
from tunnelkit.net.dial.pac_process import ask_script, interpreter, shown
from tunnelkit.net.dial.via import Pac, ascii_host
from tunnelkit.net.sockets.tcp import format_address
from tunnelkit.net.web_client import WebError, fetch

_log = Logger()

KEPT = 300.0
"""Seconds for which a script from a URL, and the answers of any script, are used again."""
FAILURE_KEPT = 30.0
"""Seconds for which a script that had no answer is not asked again, as long as it is the same."""
FETCH_LIMIT = 15.0
"""Seconds to fetch a script."""
LONGEST_SCRIPT = 1 << 20
"""Bytes; as in Chromium."""
PREFIX = "pac:"
_EXPECTED = "expected pac:FILE, pac:http://HOST/PATH or pac:https://HOST/PATH"


def parse_pac(text: str, option: str = "--via", beside: str = "") -> Pac:
    """The script that ``pac:FILE`` or ``pac:URL`` names; raises `ConfigError`.

    A file has to be there and readable, and so has the interpreter. ``beside``: the directory
    that its path is relative to (default: the current one).
    """
    place = text.removeprefix(PREFIX)
    scheme = place.partition("://")[0].lower() if "://" in place else ""
    if scheme == "file":
        parts = urlsplit(place)
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"{option}: file:// with a host in it; {_EXPECTED}")
        place = unquote(parts.path)
    elif scheme:
        place = _url(place, option)
    if not place:
        raise ConfigError(f"{option}: behind pac: there is nothing; {_EXPECTED}")
    pac = Pac(place if "://" in place else os.path.abspath(os.path.join(beside, place)))
    try:
        interpreter()
        if pac.is_file:
            read_script(pac.place)
    except (ConfigError, DialError) as problem:
        raise ConfigError(f"{option}: {pac}: {problem}") from None
    return pac


def _url(text: str, option: str) -> str:
    if not re.fullmatch(r"(?i)https?://[!-~]+", text):
        raise ConfigError(f"{option}: what is behind pac: is no such URL; {_EXPECTED}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{option}: no host and port can be read from it; {_EXPECTED}") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{option}: a PAC file is fetched without a login; {_EXPECTED}")
    if port == 0:
        raise ConfigError(f"{option}: there is no port 0; {_EXPECTED}")
    try:
        ascii_host(f"[{host}]" if ":" in host else host)
    except ConfigError as problem:
        raise ConfigError(f"{option}: {problem}; {_EXPECTED}") from None
    return text.partition("#")[0]


def read_script(path: str) -> str:
    """The script in a file; raises `DialError`."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(file, "rb") as opened:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise DialError("it is no file: expected a file with a script")
            data = opened.read(LONGEST_SCRIPT + 1)
    except OSError as problem:
        raise DialError(f"{problem.strerror or problem}") from None
    if len(data) > LONGEST_SCRIPT:
        raise DialError(f"it is too long: expected at most {LONGEST_SCRIPT} bytes")
    return _text(data)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


class PacScript:
    """A script as it is now, and what it has answered."""

    def __init__(self, reactor: Any, pac: Pac) -> None:
        self._reactor = reactor
        self._pac = pac
        self._script = ""
        self._seen: object = None
        """What says that a file is still the same; for a URL, when to fetch it again."""
        self._answers: dict[tuple[str, int], tuple[float, tuple[Way, ...]]] = {}
        self._failures: dict[tuple[str, int], tuple[float, DialError]] = {}
        self._turn = defer.DeferredLock()

    async def ways_to(self, host: str, port: int) -> tuple[Way, ...]:
        """The proxies to try for ``host:port``, in order; raises `DialError`."""
        await self._turn.acquire()
        try:
            await self._read()
            return await self._known_or_asked(host, port)
        except DialError as problem:
            self.doubt()
            where = format_address((host, port))
            raise type(problem)(
                f"{self._pac} does not say how to connect to {where}: {problem} "
                "(--via none connects directly)",
                hop=str(self._pac),
                code=problem.code,
            ) from None
        finally:
            self._turn.release()

    def doubt(self) -> None:
        """It is of no use as it is: fetch it anew and ask it anew the next time."""
        self._answers.clear()
        if not self._pac.is_file:
            self._seen = None

    async def _read(self) -> None:
        try:
            if self._pac.is_file:
                script, seen = self._from_file()
            else:
                script, seen = await self._from_url()
        except DialError as problem:
            if not self._script:
                raise
            _log.warn(
                "{pac} cannot be read again: {problem}; going by what was in it",
                pac=str(self._pac),
                problem=str(problem),
            )
            return
        self._seen = seen
        if script != self._script:
            self._script = script
            self._answers.clear()
            self._failures.clear()

    def _from_file(self) -> tuple[str, object]:
        try:
            status = os.stat(self._pac.place)
        except OSError as problem:
            raise DialError(f"{problem.strerror or problem}") from None
        seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if seen == self._seen:
            return self._script, seen
        return read_script(self._pac.place), seen

    async def _from_url(self) -> tuple[str, object]:
        now = self._reactor.seconds()
        if isinstance(self._seen, float) and now < self._seen:
            return self._script, self._seen
        try:
            answer = await fetch(
                self._reactor,
                DirectDialer(self._reactor).endpoint_for,
                "GET",
                self._pac.place,
                limit=FETCH_LIMIT,
                max_body=LONGEST_SCRIPT,
            )
        except WebError as problem:
            raise DialError(str(problem), code=problem.code) from None
        if answer.status != 200:
            there = answer.headers.get("location", "")
            hint = f", which leads to {shown(there)}" if there else ""
            raise DialError(f"the web server answers with status {answer.status}{hint}")
        return _text(answer.body), now + KEPT

    async def _known_or_asked(self, host: str, port: int) -> tuple[Way, ...]:
        place, clock = (host, port), self._reactor.seconds
        until, ways = self._answers.get(place, (0.0, ()))
        if ways and clock() < until:
            return ways
        if place in self._failures and clock() < self._failures[place][0]:
            raise self._failures[place][1]
        try:
            ways = await self._ask(host, port)
        except DialError as problem:
            # One that runs for ever costs its time once, not at each attempt to connect.
            self._failures = {place: (clock() + FAILURE_KEPT, problem)}
            raise
        self._answers = {place: (clock() + KEPT, ways)}
        return ways

    async def _ask(self, host: str, port: int) -> tuple[Way, ...]:
        shown_port = "" if port == 443 else f":{port}"
        url = f"https://[{host}]{shown_port}/" if ":" in host else f"https://{host}{shown_port}/"
        answer = await ask_script(self._reactor, self._script, url, host)
        try:
            return parse_answer(answer, "it")
        except ConfigError as problem:
            raise DialError(str(problem).removeprefix("it: ")) from None


@implementer(IDialer)
class PacDialer:
    """Connects the way that a script says, trying its proxies in turn."""

    def __init__(self, reactor: Any, pac: Pac, limits: Limits = USUAL) -> None:
        self._reactor = reactor
        self._pac = pac
        self._limits = limits
        self._script = PacScript(reactor, pac)

    def endpoint_for(self, host: str, port: int) -> IStreamClientEndpoint:
        """An endpoint that connects to ``host:port``; raises `ConfigError` for a bad host."""
        return _PacEndpoint(self, ascii_host(host), port)

    def describe(self) -> str:
        """For example ``as the PAC file /etc/proxy.pac says``."""
        return f"as {self._pac} says"

    async def connect(self, factory: IProtocolFactory, host: str, port: int) -> IProtocol:
        """Connect by the first way that works.

        The next one is tried where a proxy cannot be used, not where it refuses: what it forbids
        is not got around.
        """
        ways = await self._script.ways_to(host, port)
        failures: list[str] = []
        for place, way in enumerate(ways, 1):
            dialer: IDialer = (
                DirectDialer(self._reactor, self._limits)
                if way is None
                else ProxyDialer(self._reactor, [way], self._limits)
            )
            endpoint = IStreamClientEndpoint(dialer.endpoint_for(host, port))
            try:
                protocol: IProtocol = await endpoint.connect(factory)
                return protocol
            except DialError as problem:
                failures.append(str(problem))
                refused = isinstance(problem, (ProxyRefused, ProxyAuthRequired))
                if refused or place == len(ways):
                    self._script.doubt()
                    text = f"{'; then '.join(failures)} (the way that {self._pac} says)"
                    raise type(problem)(text, hop=problem.hop, code=problem.code) from None
                _log.info("{problem}: trying the next way that {pac} names",
                          problem=str(problem), pac=str(self._pac))  # fmt: skip
        raise AssertionError("an answer has at least one way")


@implementer(IStreamClientEndpoint)
class _PacEndpoint:
    def __init__(self, dialer: PacDialer, host: str, port: int) -> None:
        self._dialer = dialer
        self._place = host, port

    def connect(self, protocolFactory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """Ask the script, then connect."""
        return defer.Deferred.fromCoroutine(self._dialer.connect(protocolFactory, *self._place))
