"""From settings, as they were given, to the configuration of a role, valid as a whole.

Every function raises `ConfigError` with one line: the place, what is wrong
there, and what is expected (X22, R13).
"""

from __future__ import annotations

import re
import socket

from tunnelkit.errors import ConfigError
from tunnelkit.policy.destination import parse_listen
from tunnelkit.policy.identity import read_private_file
from tunnelkit.policy.printable import printable
from tunnelkit.policy.rules import parse_network
from tunnelkit.roles.lstp_middle import LstpMiddleConfig
from tunnelkit.services.given import Given, Settings

LONGEST_NAME = 255
LONGEST_TOKEN = 1024


def lstp_middle_config(settings: Settings) -> LstpMiddleConfig:
    """The configuration of ``twistd lstp-middle``."""
    settings.required("listen", "HOST:PORT on which ends are awaited, e.g. 0.0.0.0:7000")
    listen = tuple(given.parsed(parse_listen) for given in settings.all("listen"))
    name = settings.one("name")
    return LstpMiddleConfig(
        listen=listen,
        name=name.parsed(to_name) if name else to_name(socket.gethostname() or "middle"),
        admit=tuple(given.parsed(parse_network) for given in settings.all("admit")),
        admission_token=admission_token(settings),
        max_waiting=count(settings, "max-waiting", 10_000, 1, 1_000_000),
        max_waiting_per_address=count(settings, "max-waiting-per-address", 10_000, 1, 1_000_000),
        max_in_setup=count(settings, "max-in-setup", 200, 1, 100_000),
    )


# -- parts that several roles have ----------------------------------------


def to_name(text: str) -> str:
    """A name as certificates and topologies carry it."""
    if not text or len(text) > LONGEST_NAME or not re.fullmatch(r"[!-~]+", text):
        raise ConfigError(
            f"'{printable(text)}' is not a name: expected 1 to {LONGEST_NAME} "
            "letters, digits and signs, without spaces"
        )
    return text


def count(settings: Settings, name: str, default: int, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``."""
    given = settings.one(name)
    if given is None:
        return default
    text = given.text
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        given.wrong("not possible", f"a whole number from {least} to {most}")
    return int(text)


def admission_token(settings: Settings) -> str | None:
    """The token in the file that ``--admission-token-file`` names."""
    given = settings.one("admission-token-file")
    if given is None:
        return None
    token = secret_line(given)
    if len(token) > LONGEST_TOKEN:
        given.wrong(f"the token has {len(token)} characters", f"at most {LONGEST_TOKEN}")
    return token


def secret_line(given: Given) -> str:
    """The one line of a file that holds a secret and that only its owner can read (X13)."""
    text = secret_text(given)
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        given.wrong(f"it has {len(lines)} lines", "a file of one line")
    return lines[0].strip()


def secret_text(given: Given) -> str:
    """The text of a file that only its owner can read."""
    where = f"{given.where} {printable(given.text)}"
    try:
        return read_private_file(given.text, where).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: not UTF-8 text: expected a text file") from None
