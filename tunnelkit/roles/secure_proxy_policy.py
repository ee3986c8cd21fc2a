"""The policy file of a Communication Server: TOML, read strictly, with the place of each mistake.

Nothing in it is ever ignored (X22): a key that is not known could be a rule that
somebody believes to be in force.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from tunnelkit.core.secureproxy.names import normal_host
from tunnelkit.core.secureproxy.policy import REFUSE, REPLACE, ClientRules, Policy
from tunnelkit.errors import ConfigError
from tunnelkit.policy.printable import printable
from tunnelkit.policy.rules import parse_network
from tunnelkit.policy.settings import suggestion
from tunnelkit.policy.special import Network

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_SIZE = 4 << 20
"""Bytes; a policy file is never this large."""

EXAMPLE = """\
# Who may do what at the Communication Server. What no rule allows is refused. The server reads this
# file again when it changes; `tunnelkit policy explain` says which rule decides.

duplicate = "replace"       # what a second registration of a live name does: "replace" or "refuse"

# One section for each client, by the name in its certificate; * stands for any run of characters.
#
# [clients.office]
# publish = ["tunnel", "pass:site.example", "web:app.example"]    # what it may offer
# groups = ["servers"]                                            # and as part of which groups
#
# [clients.laptop]
# connect = ["office/tunnel", "group:servers/*"]                  # TARGET/RESOURCE
# lookup = ["office"]                                             # whose presence it may know
# admin = false                                                   # pages and metrics
#
# Browsers may come from anywhere to a site that is published, unless it is said here:
#
# [resources."pass:site.example"]
# from = ["192.0.2.0/24"]
"""

_CLIENT_KEYS = ("publish", "groups", "connect", "lookup", "admin")
_PLAIN = re.compile(r"[A-Za-z0-9@_*](?:[A-Za-z0-9._@*-]{0,62}[A-Za-z0-9_*])?")
_HEADER = re.compile(r"^\s*\[([^\[\]]+)\]")
_KEY = re.compile(r"^\s*([A-Za-z0-9_-]+)\s*=")


def load_policy(path: str) -> Policy:
    """The policy in a file; raises `ConfigError` with file, line and key for every mistake."""
    return parse_policy(_read(path), path)


def parse_policy(text: str, path: str) -> Policy:
    """The same, of text that has been read; ``path`` is for errors."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{printable(path)}: not TOML: {error}") from None
    return _Reader(text, path).policy(table)


def _read(path: str) -> str:
    where = printable(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_SIZE:
        raise ConfigError(f"{where}: more than {MAX_SIZE} bytes: expected a policy file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: not UTF-8 text: expected a policy file") from None


class _Reader:
    """One file; knows on which line each key is."""

    def __init__(self, text: str, path: str) -> None:
        self._path = printable(path)
        self._lines: dict[tuple[str, str], int] = {}
        section = ""
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.match(line):
                section = header[1].replace('"', "").replace("'", "").replace(" ", "")
                self._lines.setdefault((section, ""), number)
            elif key := _KEY.match(line):
                self._lines.setdefault((section, key[1]), number)

    def policy(self, table: Mapping[str, Any]) -> Policy:
        self._only(table, ("duplicate", "clients", "resources"), "")
        duplicate = table.get("duplicate", REPLACE)
        if duplicate not in (REPLACE, REFUSE):
            self._wrong("", "duplicate", f'"{REPLACE}" or "{REFUSE}"')
        clients = {
            name: self._client(name, fields)
            for name, fields in self._tables(table, "clients").items()
        }
        sources = {
            name: self._sources(name, fields)
            for name, fields in self._tables(table, "resources").items()
        }
        return Policy(clients, sources, duplicate)

    def _client(self, name: str, fields: Mapping[str, Any]) -> ClientRules:
        section = f"clients.{name}"
        if not name or not name.isprintable() or name.startswith("group:") or " " in name:
            self._wrong(section, "", "a client's name, as in its certificate")
        self._only(fields, _CLIENT_KEYS, section)
        admin = fields.get("admin", False)
        if not isinstance(admin, bool):
            self._wrong(section, "admin", "true or false")
        return ClientRules(
            publish=self._texts(section, fields, "publish", _resource),
            groups=self._texts(section, fields, "groups", _group),
            connect=self._texts(section, fields, "connect", _reach),
            lookup=self._texts(section, fields, "lookup", _target),
            admin=admin,
        )

    def _sources(self, name: str, fields: Mapping[str, Any]) -> tuple[Network, ...]:
        section = f"resources.{name}"
        if ":" not in name or _resource(name) != name:
            self._wrong(section, "", "pass:HOST or web:HOST")
        self._only(fields, ("from",), section)
        if "from" not in fields:
            self._wrong(section, "", "from = [NETWORK, ...]")
        texts = self._texts(section, fields, "from", str)
        try:
            return tuple(map(parse_network, texts))
        except ConfigError as error:
            raise ConfigError(f"{self._where(section, 'from')}: {error}") from None

    def _texts(
        self,
        section: str,
        fields: Mapping[str, Any],
        key: str,
        check: Callable[[str], str | None],
    ) -> tuple[str, ...]:
        """A list of texts, each as ``check`` writes it; None from it is a mistake."""
        value = fields.get(key, [])
        if not isinstance(value, list):
            self._wrong(section, key, "a list")
        found = []
        for text in value:
            checked = check(text) if isinstance(text, str) else None
            if checked is None:
                self._wrong(section, key, f"{_EXPECTED[key]}, not {printable(str(text))}")
            found.append(checked)
        return tuple(found)

    def _tables(self, table: Mapping[str, Any], key: str) -> Mapping[str, Mapping[str, Any]]:
        value = table.get(key, {})
        if not isinstance(value, dict):
            self._wrong("", key, f"sections [{key}.NAME]")
        for name, fields in value.items():
            if not isinstance(fields, dict):
                self._wrong(key, name, f"a section [{key}.{name}]")
        return value

    def _only(self, fields: Mapping[str, Any], known: tuple[str, ...], section: str) -> None:
        for key in fields:
            if key not in known:
                hint = suggestion(key, known)
                self._wrong(section, key, f"one of {', '.join(known)}", f"not known{hint}")

    def _where(self, section: str, key: str) -> str:
        line = self._lines.get((section, key)) or self._lines.get((section, "")) or 1
        what = ".".join(filter(None, (section, key)))
        return f"{self._path}:{line}: {printable(what)}"

    def _wrong(self, section: str, key: str, expected: str, what: str = "wrong") -> NoReturn:
        raise ConfigError(f"{self._where(section, key)}: {what}: expected {expected}")


_EXPECTED = {
    "publish": "a resource's name, pass:HOST or web:HOST",
    "groups": "a group's name",
    "connect": "TARGET/RESOURCE",
    "lookup": "a client's name, or group:NAME",
    "from": "a network",
}


def _resource(text: str) -> str | None:
    kind, colon, host = text.partition(":")
    if not colon:
        return text if _PLAIN.fullmatch(text) else None
    normal = normal_host(host) if kind in ("pass", "web") else None
    return None if normal is None else f"{kind}:{normal}"


def _group(text: str) -> str | None:
    return text if _PLAIN.fullmatch(text) and "*" not in text else None


def _target(text: str) -> str | None:
    name = text.removeprefix("group:")
    return text if name and name.isprintable() and " " not in name else None


def _reach(text: str) -> str | None:
    target, slash, resource = text.rpartition("/")
    return text if slash and _target(target) and _PLAIN.fullmatch(resource) else None
