"""The user's own side of X: the DISPLAY text, and the authority file with its cookies (F3, X20).

Authority files are shared with xauth, display managers and ssh: they are
changed under xauth's locks (the files ``FILE-c`` and ``FILE-l``), and replaced
as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, ip_address

from tunnelkit.errors import ConfigError, RemoteProtocolError
from tunnelkit.policy.destination import X11, Destination, parse_destination
from tunnelkit.policy.files import read_file, reason
from tunnelkit.policy.printable import printable
from tunnelkit.policy.special import unmapped
from tunnelkit.wire.x11 import (
    FAMILY_INTERNET,
    FAMILY_INTERNET6,
    FAMILY_LOCAL,
    MIT_MAGIC_COOKIE,
    AuthorityEntry,
    encode_authority,
    parse_authority,
)

LARGEST_FILE = 1 << 20
COOKIE_BYTES = 16
OWNED = b"TUNNELKIT"
"""Kind of an entry that no X client asks for: it says which cookies were put here by an end."""
PATIENCE = 5.0
"""Seconds to wait for somebody else's lock."""
STALE_LOCK = 600.0
"""Seconds after which a lock was left behind by a program that died; xauth's own figure."""
_LOCK_INTERVAL = 0.05

Place = tuple[int, bytes]
"""Family and address of a display, as in an `AuthorityEntry`."""

_LOOPBACK: Place = (FAMILY_INTERNET, IPv4Address("127.0.0.1").packed)


def parse_display(text: str) -> Destination:
    """What DISPLAY says, as an ``x11`` Destination.

    ======================================  ==============================
    text                                    Destination
    ======================================  ==============================
    ``:1``, ``:1.0``, ``unix:1``            display 1 of this machine
    ``desk:0``, ``tcp/desk:0``              display 0 of ``desk``, by TCP
    ``localhost:10.0``                      what ``ssh -X`` makes
    ``x11::1``, ``x11:desk:0``              the same in tunnelkit's words
    ======================================  ==============================

    Raises `ConfigError`.
    """
    rest = text.removeprefix(f"{X11}:").removeprefix("tcp/")
    for prefix in ("unix:", "unix/:", "unix/unix:"):
        if rest.startswith(prefix):
            rest = ":" + rest.removeprefix(prefix)
    try:
        return parse_destination(f"{X11}:{rest}")
    except ConfigError:
        raise ConfigError(
            f"'{printable(text, 80)}' is not a display: expected :NUMBER or HOST:NUMBER"
        ) from None


def authority_path(environment: Mapping[str, str]) -> str:
    """The authority file of this user: XAUTHORITY, or ``.Xauthority`` in the home directory."""
    home = environment.get("HOME") or os.path.expanduser("~")
    return environment.get("XAUTHORITY") or os.path.join(home, ".Xauthority")


def local_places() -> Sequence[Place]:
    """Where clients look for the cookie of a display of this machine: most under the host's
    name, also with TCP on loopback, some under 127.0.0.1."""
    return (FAMILY_LOCAL, os.fsencode(socket.gethostname())), _LOOPBACK


def places_of(address: str) -> Sequence[Place]:
    """Where the cookie of the X server at ``address`` is; empty: a unix socket of this machine."""
    if not address:
        return local_places()
    where = unmapped(ip_address(address))
    if where.is_loopback:
        return local_places()
    return ((FAMILY_INTERNET if where.version == 4 else FAMILY_INTERNET6, where.packed),)


class AuthorityFile:
    """One authority file; every method raises `ConfigError` with one line that names it."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._where = f"X authority file {printable(path)}"

    def cookie(self, places: Iterable[Place], number: int) -> bytes | None:
        """The cookie of display ``number`` at the first of ``places`` that has one."""
        entries = [entry for entry in self.entries() if entry.name == MIT_MAGIC_COOKIE]
        for family, address in places:
            for entry in entries:
                if entry.is_for(family, address, number):
                    return entry.data
        return None

    def entries(self) -> tuple[AuthorityEntry, ...]:
        """What is in the file; nothing if there is none."""
        if not os.path.exists(self.path):
            return ()
        try:
            return parse_authority(read_file(self.path, self._where, LARGEST_FILE))
        except RemoteProtocolError as error:
            raise ConfigError(f"{self._where}: it is damaged ({error})") from None

    def put(
        self,
        places: Sequence[Place],
        number: int,
        cookie: bytes,
        given_up: Callable[[int], bool] = lambda number: False,
    ) -> None:
        """Make ``cookie`` the one of display ``number`` at each of ``places``.

        Cookies that were put there before are taken out if their display is ``given_up``: whoever
        put them was killed.
        """
        own = b"%d" % number
        new = [AuthorityEntry(*place, own, MIT_MAGIC_COOKIE, cookie) for place in places]
        # Behind them: programs that know only one kind of entry take the first one.
        new.append(AuthorityEntry(*places[0], own, OWNED, cookie))
        taken = {(entry.family, entry.address, entry.number) for entry in new}
        with self._locked(PATIENCE):
            entries = self.entries()
            useless = {
                entry.data
                for entry in entries
                if entry.name == OWNED
                and (entry.family, entry.address) == places[0]
                and entry.number.isdigit()
                and given_up(int(entry.number))
            }
            # In front: clients take the first entry that fits, and some fit every display.
            self._write(
                new
                + [
                    entry
                    for entry in entries
                    if (entry.family, entry.address, entry.number) not in taken
                    and entry.data not in useless
                ]
            )

    def remove(self, cookie: bytes, patience: float = PATIENCE) -> None:
        """Take out every entry that holds ``cookie``."""
        with self._locked(patience):
            entries = self.entries()
            others = [entry for entry in entries if entry.data != cookie]
            if len(others) < len(entries):
                self._write(others)

    def _write(self, entries: Iterable[AuthorityEntry]) -> None:
        target = os.path.realpath(self.path)
        name = ""
        try:
            # mkstemp: mode 0600, and never somebody else's file.
            descriptor, name = tempfile.mkstemp(prefix=".Xauthority-", dir=os.path.dirname(target))
            with open(descriptor, "wb") as file:
                file.write(encode_authority(entries))
                file.flush()
                os.fsync(descriptor)
            os.replace(name, target)
        except OSError as error:
            if name:
                with contextlib.suppress(OSError):
                    os.unlink(name)
            raise self._cannot("be written", error) from None

    def _cannot(self, what: str, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self._where}: it cannot {what} ({reason(error)}): expected XAUTHORITY to name a "
            "file in a directory of this user's own"
        )

    @contextlib.contextmanager
    def _locked(self, patience: float) -> Iterator[None]:
        """xauth's lock: ``FILE-c`` is created, and linked to ``FILE-l``, which fails if it is
        there; both also where the file system does not know exclusive creation."""
        created, linked = f"{self.path}-c", f"{self.path}-l"
        deadline = time.monotonic() + patience
        self._drop_stale(created, linked)
        have_created = False
        while True:
            try:
                if not have_created:
                    os.close(os.open(created, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                    have_created = True
                os.link(created, linked)
                break
            except FileNotFoundError as error:
                if not have_created:
                    raise self._cannot("be locked", error) from None
                have_created = False  # somebody took the lock for a stale one
            except OSError as error:
                if error.errno != errno.EEXIST:
                    if have_created:
                        os.unlink(created)
                    raise self._cannot("be locked", error) from None
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"{self._where}: another program has locked it for {patience:g} s: expected "
                    f"it to finish; if none runs, remove {printable(created)} and "
                    f"{printable(linked)}"
                )
            time.sleep(_LOCK_INTERVAL)
        try:
            yield
        finally:
            for path in (created, linked):
                with contextlib.suppress(OSError):
                    os.unlink(path)

    @staticmethod
    def _drop_stale(*paths: str) -> None:
        try:
            stale = time.time() - os.stat(paths[0]).st_ctime > STALE_LOCK
        except OSError:
            return
        if stale:
            for path in paths:
                with contextlib.suppress(OSError):
                    os.unlink(path)
