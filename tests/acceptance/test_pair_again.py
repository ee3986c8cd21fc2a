"""New keys for two paired ends while they run: ``tunnelkit pair --again`` (row Q2)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import stat
from collections.abc import Iterator

import pytest

from tests.acceptance.applications import Application, echo
from tests.acceptance.eavesdropper import Eavesdropper
from tests.acceptance.paired import Paired, paired
from tests.acceptance.processes import TUNNELKIT, Identities, Process, Processes, Role, tunnelkit


@pytest.fixture
def server() -> Iterator[Application]:
    with Application(echo) as running:
        yield running


def again(ends: Paired, name: str) -> Process:
    return ends.processes.start(
        "again", *TUNNELKIT, "pair", "--again", "--control", ends.control(name)
    )


def opened(laptop: Role) -> socket.socket:
    """A connection through the tunnel, which has carried something."""
    sock = socket.create_connection(("127.0.0.1", laptop.port("forward")), timeout=20)
    sock.sendall(b"before")
    assert sock.recv(6, socket.MSG_WAITALL) == b"before"
    return sock


@pytest.mark.parametrize("way", ["middle", "gate", "server"])
def test_both_keys_are_renewed_while_a_download_goes_on(
    processes: Processes, identities: Identities, server: Application, way: str
) -> None:
    ends = paired(processes, identities, way, server.destination)
    old = {name: ends.pin(name) for name in ends.roles}
    ends.start("office")
    laptop = ends.start("laptop")
    with opened(laptop) as sock:
        done = again(ends, "laptop")
        assert done.wait() == 0
        new = {name: ends.pin(name) for name in ends.roles}
        assert not {*old.values()} & {*new.values()}
        done.wait_for(f"office: its key is {new['office']} now")
        done.wait_for(f"laptop: the key here is {new['laptop']} now")
        sock.sendall(b"after")
        assert sock.recv(5, socket.MSG_WAITALL) == b"after"
    for name, other in (("office", "laptop"), ("laptop", "office")):
        text = ends.files(name).config_file.read_text()
        assert f'"{other}={new[other]}"' in text
        assert old[other] not in text
        for file in ends.files(name).directory.glob("[!.]*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # The other one took the keys as it was running; this one begins with them.
    laptop.process.stop()
    opened(ends.start("laptop")).close()


def test_who_is_in_between_neither_sees_nor_asks_for_it(
    processes: Processes, identities: Identities, server: Application, middle: Role
) -> None:
    with contextlib.closing(Eavesdropper(middle.address("listening on"))) as between:
        ends = paired(processes, identities, "middle", server.destination, between.place)
        stolen = processes.directory / "stolen"
        shutil.copytree(ends.files("laptop").directory, stolen)
        config = stolen / "laptop.toml"
        config.write_text(config.read_text().replace("laptop-keys/", "stolen/"))
        office = ends.start("office")
        laptop = ends.start("laptop")
        assert again(ends, "office").wait() == 0
        new = ends.pin("laptop")
        seen = b"".join(bytes(piece) for piece in (*between.upwards, *between.downwards))
        for name in ends.roles:
            assert bytes.fromhex(ends.pin(name).removeprefix("sha256:")) not in seen
        assert b"@again" not in seen
        assert b"RENEW" not in seen
        # What he puts in ends the connection, and changes no key.
        between.meddle = lambda data: data[:-1] + bytes([data[-1] ^ 1])
        with pytest.raises((AssertionError, OSError)):
            opened(laptop).close()
        between.meddle = lambda data: data
        assert ends.pin("laptop") == new
        laptop.process.stop()
        # Who has copied the files before cannot come in any more.
        ends.start("laptop", wait=False, config=config)
        office.wait_for("the key of laptop is not one of the pinned keys")


@pytest.mark.parametrize("way", ["middle", "gate", "server"])
def test_a_copied_identity_is_told_at_both_ends(
    processes: Processes, identities: Identities, server: Application, way: str
) -> None:
    counted = r"channel (in|out) peer=(office|laptop) destination=service:@met .*outcome=done"
    ends = paired(processes, identities, way, server.destination)
    copy = processes.directory / "copy"
    shutil.copytree(ends.files("laptop").directory, copy)
    config = copy / "laptop.toml"
    config.write_text(config.read_text().replace("laptop-keys/", "copy/"))
    office = ends.start("office")
    laptop = ends.start("laptop")
    for role in (laptop, office):
        role.wait_for(counted)
        assert "somebody else" not in role.process.log
    laptop.process.stop()
    thief = ends.start("laptop", config=config)
    thief.wait_for(
        "office has met laptop 1 times, and the files here know of 0: .*the key of laptop"
    )
    office.wait_for("know of 1 meetings with laptop, and those of laptop of 0: .*peer-pin")
    shown = tunnelkit("status", "--control", ends.control("office"))
    assert "somebody else" in shown
