"""A screen in a company: an X server, a window manager, and what is to be seen there."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from tests.acceptance.x11 import free_display
from tests.system.pictures import write_png
from tests.system.places import PlacedProcesses

WIDTH, HEIGHT = 900, 640
DESK = "#8fa8bf"
"""What a screen shows where there is no window."""
_FRAME = "#24476b"
_WINDOW_MANAGER = f"""
NoGrabServer
NoHighlight
NoTitleFocus
TitleFont "6x13"
MenuFont "6x13"
IconFont "6x13"
ResizeFont "6x13"
IconManagerFont "6x13"
BorderWidth 3
TitlePadding 5
Color {{ BorderColor "{_FRAME}" TitleBackground "{_FRAME}" TitleForeground "white" }}
"""
LIMIT = 60.0
"""Seconds for a screen to come to show what it should."""


@attrs.frozen
class Picture:
    """A screen at one moment."""

    width: int
    height: int
    pixels: bytes
    """Four bytes each: blue, green, red, nothing."""

    def drawn(self, other: Picture) -> int:
        """In how many pixels it differs from another of the same size."""
        ours, theirs = (memoryview(each.pixels).cast("I") for each in (self, other))
        return sum(a != b for a, b in zip(ours, theirs, strict=True))

    def count(self, colour: str) -> int:
        """How many pixels have the colour, given as ``#8fa8bf``."""
        wanted = int(colour[1:], 16)
        return sum(pixel & 0xFFFFFF == wanted for pixel in memoryview(self.pixels).cast("I"))

    def save(self, file: Path) -> None:
        """Write it as PNG."""
        red_green_blue = bytearray(3 * self.width * self.height)
        for channel in range(3):
            red_green_blue[channel::3] = self.pixels[2 - channel :: 4]
        file.write_bytes(write_png(self.width, self.height, bytes(red_green_blue)))


class Screen:
    """Xvfb and twm at one place, as somebody there would have them.

    The cookie is in ``~/.Xauthority``, where programs of that place find it.
    """

    def __init__(self, processes: PlacedProcesses) -> None:
        self.place = processes.place
        self._memory = processes.directory / "screen"
        self._memory.mkdir()
        self.number = free_display()
        """It is display ``:number`` of its place, and no other place has one of that number."""
        authority = processes.directory / ".Xauthority"
        cookie = os.urandom(16).hex()
        self.place.run(["xauth", "-q", "add", f":{self.number}", ".", cookie])
        processes.start(
            "Xvfb",
            *("Xvfb", f":{self.number}", "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nocursor"),
            *("-noreset", "-nolisten", "tcp", "-auth", authority, "-fbdir", self._memory),
        )
        wait_until(self._answers)
        self.run("xsetroot", "-solid", DESK)
        settings = processes.directory / "twmrc"
        settings.write_text(_WINDOW_MANAGER)
        processes.start("twm", "twm", "-f", settings, env=self.environment)
        # It has windows of its own once it manages those of others.
        wait_until(lambda: "0 children" not in self.run("xwininfo", "-root", "-children"))

    def _answers(self) -> bool:
        return self.place.run(["xdpyinfo"], env=self.environment, check=False).returncode == 0

    @property
    def environment(self) -> dict[str, str]:
        """For X programs that run at the same place."""
        return {"DISPLAY": f":{self.number}"}

    def run(self, *words: object) -> str:
        """What an X program of the same place printed that came to its end."""
        return self.place.run(words, env=self.environment).stdout

    def type(self, text: str) -> None:
        """Type a line into the window under the pointer."""
        self.run("xdotool", "type", text)
        self.run("xdotool", "key", "Return")

    def point(self, x: int, y: int) -> None:
        """Move the pointer."""
        self.run("xdotool", "mousemove", x, y)

    def picture(self) -> Picture:
        """What it shows now: the X server's own memory, maybe in the middle of drawing."""
        return read_xwd((self._memory / "Xvfb_screen0").read_bytes())

    def picture_between_requests(self) -> Picture:
        """What it shows when the X server has finished one request and not begun another."""
        file = self._memory / "asked-for.xwd"
        self.run("xwd", "-root", "-silent", "-out", file)
        return read_xwd(file.read_bytes())


def read_xwd(data: bytes) -> Picture:
    """The picture in an XWD file of an X server on a PC."""
    head = struct.unpack_from(">25I", data)
    size, width, height, order, bits, row, colours = (head[n] for n in (0, 4, 5, 7, 11, 12, 19))
    assert (bits, order, row) == (32, 0, 4 * width), "another kind of screen was expected"
    start = size + 12 * colours
    return Picture(width, height, data[start : start + row * height])


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again; fails if it takes longer than `LIMIT`."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "the screen has not come to show it"
