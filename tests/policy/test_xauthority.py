"""Authority files as xauth keeps them, and what DISPLAY says."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tunnelkit.errors import ConfigError
from tunnelkit.policy.xauthority import (
    AuthorityFile,
    authority_path,
    local_places,
    parse_display,
    places_of,
)
from tunnelkit.wire.x11 import (
    FAMILY_INTERNET,
    FAMILY_INTERNET6,
    FAMILY_LOCAL,
    FAMILY_WILD,
    MIT_MAGIC_COOKIE,
    AuthorityEntry,
    encode_authority,
)

COOKIE = bytes.fromhex("00112233445566778899aabbccddeeff")
OTHER = bytes(16)
HOST = socket.gethostname().encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "authority"


@pytest.fixture
def file(path: Path) -> AuthorityFile:
    return AuthorityFile(str(path))


def xauth(path: Path, *words: str) -> str:
    """What the real xauth says."""
    done = subprocess.run(
        ["xauth", "-f", str(path), *words], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_xauth_reads_what_is_put_and_the_file_is_private(file: AuthorityFile, path: Path) -> None:
    file.put(local_places(), 10, COOKIE)
    assert path.stat().st_mode & 0o777 == 0o600
    lines = xauth(path, "list").splitlines()
    assert lines[0].split() == [
        f"{socket.gethostname()}/unix:10", "MIT-MAGIC-COOKIE-1", COOKIE.hex(),
    ]  # fmt: skip
    assert len(lines) == 3
    assert lines[2].split()[1] == "TUNNELKIT"  # last: programs take the first that fits


def test_what_xauth_adds_is_found(file: AuthorityFile, path: Path) -> None:
    path.touch(0o600)
    xauth(path, "add", ":3", ".", COOKIE.hex())
    assert file.cookie(local_places(), 3) == COOKIE
    assert file.cookie(local_places(), 4) is None


def test_a_file_that_others_can_read_is_private_afterwards(file: AuthorityFile, path: Path) -> None:
    path.write_bytes(b"")
    path.chmod(0o644)
    file.put(local_places(), 10, COOKIE)
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_entries_stay_and_the_same_displays_are_replaced(
    file: AuthorityFile, path: Path
) -> None:
    others = [
        AuthorityEntry(FAMILY_WILD, b"", b"", MIT_MAGIC_COOKIE, OTHER),
        AuthorityEntry(FAMILY_LOCAL, HOST, b"1", b"XDM-AUTHORIZATION-1", b"x"),
    ]
    stale = AuthorityEntry(FAMILY_LOCAL, HOST, b"10", MIT_MAGIC_COOKIE, OTHER)
    path.write_bytes(encode_authority([*others, stale]))
    file.put(local_places(), 10, COOKIE)
    entries = file.entries()
    assert stale not in entries
    assert list(entries[-2:]) == others
    assert entries[0].data == COOKIE  # in front of what is for every display
    file.remove(COOKIE)
    assert list(file.entries()) == others


def test_cookies_of_ends_that_were_killed_are_taken_out(file: AuthorityFile, path: Path) -> None:
    others = AuthorityEntry(FAMILY_LOCAL, HOST, b"3", MIT_MAGIC_COOKIE, b"o" * 16)
    path.write_bytes(encode_authority([others]))
    for number in (11, 12, 13):
        file.put(local_places(), number, b"%d" % number * 8)
    file.put(local_places(), 14, COOKIE, {3: True, 11: True, 12: False, 13: True}.__getitem__)
    assert file.cookie(local_places(), 11) is None
    assert file.cookie(local_places(), 13) is None
    assert file.cookie(local_places(), 12) == b"12" * 8
    assert file.cookie(local_places(), 14) == COOKIE
    assert others in file.entries()  # no end has put it there
    listed = xauth(path, "list", f"{socket.gethostname()}/unix:14").splitlines()
    assert listed[0].split()[1:] == ["MIT-MAGIC-COOKIE-1", COOKIE.hex()]


def test_removing_what_is_not_there_changes_nothing(file: AuthorityFile, path: Path) -> None:
    file.remove(COOKIE)
    assert not path.exists()
    path.write_bytes(encode_authority([]))
    before = path.stat()
    file.remove(COOKIE)
    assert path.stat().st_ino == before.st_ino


def test_a_link_to_the_file_stays_a_link(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    AuthorityFile(str(link)).put(local_places(), 1, COOKIE)
    assert link.is_symlink()
    assert AuthorityFile(str(path)).cookie(local_places(), 1) == COOKIE


def test_nothing_is_left_beside_the_file(file: AuthorityFile, path: Path) -> None:
    file.put(local_places(), 1, COOKIE)
    assert os.listdir(path.parent) == [path.name]


def test_a_damaged_file_is_told_and_kept(file: AuthorityFile, path: Path) -> None:
    path.write_bytes(b"\x01\x00\x00\xff")
    with pytest.raises(ConfigError, match="damaged"):
        file.put(local_places(), 1, COOKIE)
    assert path.read_bytes() == b"\x01\x00\x00\xff"
    assert os.listdir(path.parent) == [path.name]


def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    file = AuthorityFile(str(tmp_path / "nowhere" / "authority"))
    with pytest.raises(ConfigError, match=r"cannot be locked .*expected XAUTHORITY"):
        file.put(local_places(), 1, COOKIE)


def test_a_file_of_more_than_a_mebibyte_is_refused(file: AuthorityFile, path: Path) -> None:
    path.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ConfigError, match="larger than"):
        file.cookie(local_places(), 1)


def test_a_locked_file_is_waited_for_and_then_told(file: AuthorityFile, path: Path) -> None:
    for end in ("-c", "-l"):
        path.with_name(path.name + end).touch()
    with pytest.raises(ConfigError, match="another program has locked it"):
        file.remove(COOKIE, patience=0.1)
    assert sorted(os.listdir(path.parent)) == [f"{path.name}-c", f"{path.name}-l"]


def test_whoever_holds_the_lock_goes_first(file: AuthorityFile, path: Path) -> None:
    files = [AuthorityFile(str(path)) for _ in range(8)]
    threads = [
        threading.Thread(target=one.put, args=([(FAMILY_LOCAL, b"h%d" % number)], 1, COOKIE))
        for number, one in enumerate(files)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert {entry.address for entry in file.entries()} == {b"h%d" % n for n in range(8)}


def test_a_lock_that_was_left_behind_is_broken(
    file: AuthorityFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for end in ("-c", "-l"):
        path.with_name(path.name + end).touch()
    monkeypatch.setattr("tunnelkit.policy.xauthority.STALE_LOCK", -1.0)
    file.put(local_places(), 1, COOKIE)
    assert file.cookie(local_places(), 1) == COOKIE


def test_the_file_is_where_x_programs_look() -> None:
    assert authority_path({"XAUTHORITY": "/x/file", "HOME": "/h"}) == "/x/file"
    assert authority_path({"HOME": "/h"}) == "/h/.Xauthority"
    assert authority_path({}) == os.path.expanduser("~/.Xauthority")


@pytest.mark.parametrize(
    ("address", "first"),
    [
        ("", (FAMILY_LOCAL, HOST)),
        ("127.0.0.1", (FAMILY_LOCAL, HOST)),
        ("::1", (FAMILY_LOCAL, HOST)),
        ("::ffff:127.0.0.1", (FAMILY_LOCAL, HOST)),
        ("192.0.2.1", (FAMILY_INTERNET, bytes([192, 0, 2, 1]))),
        ("2001:db8::1", (FAMILY_INTERNET6, bytes.fromhex("20010db8" + "0" * 23 + "1"))),
    ],
)
def test_a_display_has_its_cookie_where_clients_look_for_it(
    address: str, first: tuple[int, bytes]
) -> None:
    assert places_of(address)[0] == first


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        (":0", "x11::0"),
        (":10.1", "x11::10"),
        ("unix:3", "x11::3"),
        ("unix/:3", "x11::3"),
        ("localhost:10.0", "x11:localhost:10"),
        ("tcp/Desk.Example:1", "x11:desk.example:1"),
        ("[::1]:2", "x11:[::1]:2"),
        ("x11::4", "x11::4"),
        ("x11:desk:4", "x11:desk:4"),
    ],
)
def test_displays(text: str, destination: str) -> None:
    assert str(parse_display(text)) == destination


@pytest.mark.parametrize("text", ["", "0", ":", ":a", "desk", "/tmp/launch:0", ":70000", "a b:0"])
def test_what_is_no_display_is_told_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a display: expected"):
        parse_display(text)
