"""What a unit forbids a service, as far as it can be set without systemd: by bubblewrap, seccomp.

No capability, an unprivileged user, a file system to be read only but for its own directories,
devices and /tmp of its own, the system calls and address families that the unit lists.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001
_EQUAL = 4
USER = 65534


class _Comparison(ctypes.Structure):
    """libseccomp's ``scmp_arg_cmp``."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


@cache
def calls_of(name: str) -> frozenset[str]:
    """The system calls in one of systemd's sets."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    found: set[str] = set()
    for line in done.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= calls_of(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return frozenset(found)


def settings(unit: str, name: str) -> list[str]:
    """All that a unit says of one thing, word for word."""
    return " ".join(re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)).split()


def seccomp_filter(unit: str, file: Path) -> None:
    """Write the filter of ``SystemCallFilter=`` and ``RestrictAddressFamilies=``."""
    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        denied = line.startswith("~")
        for word in line.lstrip("~").split():
            allowed = allowed - calls_of(word) if denied else allowed | calls_of(word)
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_EPERM))
    for name in sorted(allowed - {"socket"}):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert library.seccomp_rule_add(context, _ALLOW, number, 0) == 0, name
    socket = library.seccomp_syscall_resolve_name(b"socket")
    for family in settings(unit, "RestrictAddressFamilies"):
        one = (_Comparison * 1)(_Comparison(0, _EQUAL, FAMILIES[family], 0))
        assert library.seccomp_rule_add_array(context, _ALLOW, socket, 1, one) == 0
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        assert library.seccomp_export_bpf(context, descriptor) == 0
    finally:
        os.close(descriptor)
        library.seccomp_release(context)


def confined(unit: str, directory: Path, credential: Path | None) -> Sequence[str]:
    """The beginning of a command that runs as ``unit`` says.

    ``directory`` becomes its runtime and its state directory; ``credential`` is its identity.
    """
    place = directory / "own"
    place.mkdir()
    rules = directory / "seccomp"
    seccomp_filter(unit, rules)
    shown: list[str] = []
    if credential is not None:
        shown = ["--ro-bind", str(credential.parent), "/run/credentials",
            "--setenv", "CREDENTIALS_DIRECTORY", "/run/credentials"]  # fmt: skip
    return [
        "sh", "-c", 'exec 9<"$0"; exec "$@"', str(rules),
        "bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run",
        "--bind", str(place), "/run/own", "--chdir", "/run/own", *shown,
        "--setenv", "RUNTIME_DIRECTORY", "/run/own", "--setenv", "STATE_DIRECTORY", "/run/own",
        "--unshare-user", "--unshare-ipc", "--uid", str(USER), "--gid", str(USER),
        "--cap-drop", "ALL", "--new-session", "--die-with-parent", "--seccomp", "9",
    ]  # fmt: skip
