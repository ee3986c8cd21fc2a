"""Networks of a test's own: places, wired as a test needs them, all gone when it is over.

Nothing has a name on the machine: namespaces, devices and mounts exist only as long as the
processes that use them, and those are ended by a keeper process even if the tests are killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.system import keeper
from tests.system.places import Place, PlacedProcesses

Self = TypeVar("Self", bound="Network")


class Network:
    """Some places; a context manager. A subclass makes and wires them in `build`."""

    def __init__(self) -> None:
        keeper.clear_leftovers()
        self.directory = Path(tempfile.mkdtemp(prefix=keeper.PREFIX))
        self.directory.chmod(0o755)  # proxies give up root
        self.places: tuple[Place, ...] = ()
        """All of them, in the order in which they were made."""
        self._stack = contextlib.ExitStack()
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self) -> None:
        """Make the places, `keep` them, and wire them."""
        raise NotImplementedError

    def place(self, name: str, files: dict[str, str]) -> Place:
        """A new one, see `Place`."""
        place = Place(name, self.directory, files)
        self._stack.callback(place.namespace.close)
        self.places += (place,)
        return place

    def keep(self) -> None:
        """From now on somebody sees to it that the places end, whatever happens."""
        descriptors = [os.open(place.path, os.O_RDONLY) for place in self.places]
        command = [sys.executable, keeper.__file__, str(self.directory), *map(str, descriptors)]
        self._keeper: subprocess.Popen[str] | None = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=descriptors,
            start_new_session=True,
        )
        for descriptor in descriptors:
            os.close(descriptor)
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "keeping\n"

    def processes(self, place: Place) -> PlacedProcesses:
        """To start programs at ``place`` that run as long as the laboratory."""
        running = PlacedProcesses(place.directory, place)
        self._stack.callback(running.end)
        return running

    def close(self) -> None:
        """End everything; fails if a process had to be killed."""
        try:
            self._stack.close()
        finally:
            left = self._end_keeper()
        assert not left, f"had to be killed: {left}"

    def _end_keeper(self) -> list[str]:
        keeping: subprocess.Popen[str] | None = getattr(self, "_keeper", None)
        if keeping is None:
            shutil.rmtree(self.directory)
            return []
        said, _ = keeping.communicate(timeout=30)
        return said.splitlines()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def wire(near: Place, device: str, here: list[str], far: Place, there: list[str]) -> None:
    """Join two places by a cable; at the far side the device is called after the near place."""
    words = (
        f"ip link add {device} netns {near.path} type veth peer name {near.name} netns {far.path}"
    )
    subprocess.run(words.split(), check=True)
    for place, name, addresses in ((near, device, here), (far, near.name, there)):
        for address in addresses:
            place.run(["ip", "address", "add", f"{address}/24", "dev", name])
        place.run(["ip", "link", "set", "dev", name, "up"])


def route(place: Place, network: str, gateway: str) -> None:
    """Packets for ``network`` go to ``gateway``."""
    place.run(["ip", "route", "add", network, "via", gateway])
