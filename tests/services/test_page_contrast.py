"""Every text of the page can be read on what it stands on, light and dark (row O6)."""

from __future__ import annotations

import re

import pytest

from tunnelkit.services.page import assets

LEAST = 4.5
"""What WCAG 2.2 asks of text (1.4.3, level AA)."""
TONES = ("blue", "good", "busy", "bad")
PAIRS = (
    *((text, back) for text in ("text", "soft") for back in ("back", "card")),
    *((tone, "card") for tone in TONES),
    *((tone, f"{tone}-soft") for tone in TONES),
    *(("card", back) for back in ("text", "blue", "bad")),
)
"""Text and what is behind it, by custom property."""


def palettes() -> list[dict[str, str]]:
    """The colours in light, and in dark."""
    css = assets()[b"/page.css"].body.decode()
    found = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    assert len(found) == 2
    return found


def luminance(colour: str) -> float:
    """Relative, from 0 to 1."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(("text", "back"), PAIRS)
def test_text_stands_out_from_what_is_behind_it(text: str, back: str) -> None:
    for palette in palettes():
        assert contrast(palette[text], palette[back]) >= LEAST


def test_what_fields_say_while_they_are_empty_has_a_colour_of_the_page() -> None:
    # A browser's own gray has 3.6:1 in the dark.
    css = assets()[b"/page.css"].body.decode()
    assert "::placeholder { color: var(--soft); opacity: 1; }" in css
