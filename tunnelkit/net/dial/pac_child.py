"""Asks a proxy auto-configuration script for one answer, in a process of its own (row N1).

A PAC script is foreign code. It runs where nothing of the tunnel is: the process is started from
this file with nothing else of the package, holds no key and no connection, and its limits on
memory and processor time are set before the script is read. Its interpreter has no files, no
network and no modules; what it gets are the functions of `FUNCTIONS`.

Read from standard input: JSON with ``script``, ``url``, ``host`` and ``library``, the directory
that the interpreter is in. Written to standard output: JSON with ``answer`` or ``problem``.
"""

from __future__ import annotations

import importlib
import ipaddress
import json
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

CPU_LIMIT = 2
"""Seconds of processor time for the process."""
SCRIPT_MEMORY = 64 << 20
"""Bytes that the script may hold; the stack is not among them."""
PROCESS_MEMORY = 1 << 30
"""Bytes of address space of the process."""
STACK = 512 << 10
"""Bytes of the script's stack."""
LOOKUPS = 32
"""Different names that a script may have looked up for one answer."""
LONGEST_ANSWER = 4096

_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_ELSEWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))
"""Addresses of nobody, in the direction of everybody: what leads there is our own address."""


class Names:
    """The script's view of the resolver: each name once, and not too many."""

    def __init__(self) -> None:
        self._known: dict[str, list[str]] = {}

    def addresses(self, name: str) -> list[str]:
        """All addresses of ``name``, an address itself included; empty: it has none."""
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= LOOKUPS:
                raise ValueError(f"the script looks up more than {LOOKUPS} names")
            try:
                entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError):
                entries = []
            found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
            self._known[name] = found
        return found

    def address(self, name: str) -> str | None:
        """The first IPv4 address: older scripts know no others."""
        return next((text for text in self.addresses(name) if ":" not in text), None)


NAMES = Names()


# -- hosts and addresses --------------------------------------------------


def is_plain_host_name(host: str) -> bool:
    """Whether there is no dot in it."""
    return "." not in host and ":" not in host


def dns_domain_is(host: str, domain: str) -> bool:
    """Whether ``host`` ends with ``domain``."""
    return host.lower().endswith(domain.lower())


def local_host_or_domain_is(host: str, full: str) -> bool:
    """Whether they are one, or ``host`` is the first part of it without a domain."""
    host, full = host.lower(), full.lower()
    return host == full or ("." not in host and full.startswith(f"{host}."))


def dns_domain_levels(host: str) -> int:
    """How many dots there are."""
    return host.count(".")


def is_resolvable(host: str) -> bool:
    """Whether it has an IPv4 address."""
    return NAMES.address(host) is not None


def is_resolvable_ex(host: str) -> bool:
    """Whether it has an address of any kind."""
    return bool(NAMES.addresses(host))


def dns_resolve(host: str) -> str | None:
    """Its IPv4 address."""
    return NAMES.address(host)


def dns_resolve_ex(host: str) -> str:
    """All its addresses, with ``;`` between them."""
    return ";".join(NAMES.addresses(host))


def is_in_net(host: str, pattern: str, mask: str) -> bool:
    """Whether its IPv4 address is the pattern where the mask is set."""
    address = NAMES.address(host)
    if address is None:
        return False
    bits = int(ipaddress.IPv4Address(mask))
    return int(ipaddress.IPv4Address(address)) & bits == int(ipaddress.IPv4Address(pattern)) & bits


def is_in_net_ex(host: str, prefix: str) -> bool:
    """Whether one of its addresses is in the network."""
    network = ipaddress.ip_network(prefix, strict=False)
    found = (ipaddress.ip_address(text.partition("%")[0]) for text in NAMES.addresses(host))
    return any(address in network for address in found)


def convert_addr(address: str) -> int:
    """An IPv4 address as a number."""
    return int(ipaddress.IPv4Address(address))


def my_addresses() -> list[str]:
    """What this machine is called by those it connects to, IPv4 first."""
    found = []
    for place, family in _ELSEWHERE:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((place, 9))  # nothing is sent
            except OSError:
                continue
            found.append(str(probe.getsockname()[0]))
    return found


def my_ip_address() -> str:
    """This machine's IPv4 address; loopback: it has none that leads anywhere."""
    return next((text for text in my_addresses() if ":" not in text), "127.0.0.1")


def my_ip_address_ex() -> str:
    """This machine's addresses, with ``;`` between them."""
    return ";".join(my_addresses())


def sh_exp_match(text: str, pattern: str) -> bool:
    """Whether ``text`` is as the shell's pattern says: ``*`` any characters, ``?`` one of them.

    Goes back to the last star only, so that the work is at most the product of both lengths.
    """
    place, at, star, retry = 0, 0, -1, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, retry, at = at, place, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            place, at = place + 1, at + 1
        elif star >= 0:
            retry += 1
            place, at = retry, star + 1
        else:
            return False
    return pattern[at:].strip("*") == ""


# -- days and hours -------------------------------------------------------


def now(words: list[Any]) -> datetime:
    """The time that the rest of ``words`` is about, which are rid of the zone."""
    if words and words[-1] == "GMT":
        words.pop()
        return datetime.now(timezone.utc)
    return datetime.now()


def between(start: Any, moment: Any, end: Any) -> bool:
    """Whether it lies between them, both included; from late to early is over the turn."""
    if start <= end:
        return bool(start <= moment <= end)
    return bool(moment >= start or moment <= end)


def weekday_range(*given: Any) -> bool:
    """``weekdayRange(DAY[, DAY][, "GMT"])``."""
    words = list(given)
    today = now(words).weekday()
    days = [_DAYS.index(str(word).upper()) for word in words]
    if len(days) not in (1, 2):
        raise ValueError("expected one or two days of the week")
    return between(days[0], today, days[-1])


def date_range(*given: Any) -> bool:
    """``dateRange``: a day, month, year or some of them; or two such dates, and all between."""
    words = list(given)
    today = now(words)
    half = len(words) // 2
    start, end = words[:half], words[half:]
    kinds = [[_kind(word) for word in part] for part in (start, end)]
    if kinds[0] != kinds[1]:
        start = end = words
    if not words or len(set(map(_kind, end))) != len(end):
        raise ValueError("expected a date, or two of the same form")
    return between(_date(start, words), _date(_parts(today), words), _date(end, words))


def _kind(word: Any) -> str:
    if isinstance(word, str) and not word.isdigit():
        return "month"
    return "day" if int(word) <= 31 else "year"


def _parts(today: datetime) -> list[Any]:
    return [today.year, _MONTHS[today.month - 1], today.day]


def _date(parts: Sequence[Any], wanted: Sequence[Any]) -> tuple[int, ...]:
    """Year, month and day of ``parts``, as far as ``wanted`` has such."""
    values = {_kind(part): part for part in parts}
    kinds = {_kind(word) for word in wanted}
    if "month" in values:
        values["month"] = _MONTHS.index(str(values["month"]).upper())
    return tuple(int(values[kind]) for kind in ("year", "month", "day") if kind in kinds)


def time_range(*given: Any) -> bool:
    """``timeRange``: an hour, or from one to another with minutes, and seconds, if given."""
    words = list(given)
    moment = now(words)
    numbers = [int(word) for word in words]
    if len(numbers) not in (1, 2, 4, 6):
        raise ValueError("expected an hour, or two times of day")
    half = max(1, len(numbers) // 2)
    current = (moment.hour, moment.minute, moment.second)[:half]
    return between(tuple(numbers[:half]), current, tuple(numbers[-half:]))


def ignored(*given: Any) -> None:
    """``alert``: nobody would see it."""


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isPlainHostName": is_plain_host_name,
    "dnsDomainIs": dns_domain_is,
    "localHostOrDomainIs": local_host_or_domain_is,
    "dnsDomainLevels": dns_domain_levels,
    "isResolvable": is_resolvable,
    "isResolvableEx": is_resolvable_ex,
    "dnsResolve": dns_resolve,
    "dnsResolveEx": dns_resolve_ex,
    "isInNet": is_in_net,
    "isInNetEx": is_in_net_ex,
    "convert_addr": convert_addr,
    "myIpAddress": my_ip_address,
    "myIpAddressEx": my_ip_address_ex,
    "shExpMatch": sh_exp_match,
    "weekdayRange": weekday_range,
    "dateRange": date_range,
    "timeRange": time_range,
    "alert": ignored,
}
"""What a script may call."""


# -- the script -----------------------------------------------------------


def limit_this_process() -> None:
    """What the process may use from here on; a sandbox around it may forbid to say so."""
    for kind, limit in (
        (resource.RLIMIT_CPU, CPU_LIMIT),
        (resource.RLIMIT_AS, PROCESS_MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(kind)
        if most == resource.RLIM_INFINITY or most > limit:
            try:
                resource.setrlimit(kind, (limit, limit))
            except OSError:
                # Whoever started it has a deadline for it, and the interpreter has its own limit.
                pass


def ask(script: str, url: str, host: str, library: str) -> str:
    """What ``FindProxyForURL`` says; raises `ValueError` with the reason if it says nothing."""
    sys.path.append(library)
    quickjs: Any = importlib.import_module("quickjs")
    context = quickjs.Context()
    context.set_memory_limit(SCRIPT_MEMORY)
    context.set_max_stack_size(STACK)
    problems: list[str] = []
    for name, function in FUNCTIONS.items():
        context.add_callable(name, _guarded(name, function, problems))
    try:
        context.eval(script)
        if context.eval("typeof FindProxyForURL") != "function":
            raise ValueError("there is no function FindProxyForURL in it")
        given = f"{json.dumps(url)}, {json.dumps(host)}"
        answer = context.eval(
            f"(function (a) {{ return a === null ? '' : typeof a === 'string' ? a : 0; }})"
            f"(FindProxyForURL({given}))"
        )
    except quickjs.JSException as error:
        raise ValueError(problems[0] if problems else str(error)) from None
    if not isinstance(answer, str):
        raise ValueError("it returns something that is no text")
    if len(answer) > LONGEST_ANSWER:
        raise ValueError(f"its answer is too long: expected at most {LONGEST_ANSWER} characters")
    return answer


def _guarded(name: str, function: Callable[..., Any], problems: list[str]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        # JavaScript has one kind of number.
        words = [int(word) if isinstance(word, float) else word for word in given]
        try:
            return function(*words)
        except (AttributeError, TypeError, ValueError) as error:
            shown = ", ".join(repr(word)[:40] for word in words[:7])
            problems.append(f"{name}({shown}): {error}")
            raise

    return call


def main() -> None:
    """Answer the one question on standard input."""
    limit_this_process()
    question = json.load(sys.stdin)
    try:
        told = {"answer": ask(**question)}
    except (ValueError, MemoryError) as error:
        told = {"problem": str(error)[:LONGEST_ANSWER] or "it needs too much memory"}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
