"""Text in figures as it was given: names of photos, folders and classes may hold any character."""

import unicodedata
from functools import cache
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager, get_font
from matplotlib.text import Text

FAMILY = "DejaVu Sans"
"""It comes with matplotlib. It has Latin, Greek, Cyrillic, Arabic and Hebrew letters, and no Chinese or Indian ones."""
BOXES = "LastResort"
"""The file name of a font that has an empty box for every character."""


def tail(name: str, columns: int) -> str:
    """Return as much of the end of a name as fits into so many columns; a Chinese character takes two of them."""
    if _width(name) <= columns:
        return name
    while _width(name) > columns - 1:
        name = name[1:]
    return f"…{name}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def make_legible(figure: Figure) -> None:
    """Draw characters that the house font lacks in an installed font that has them; if none has, as `\\u72d0`."""
    for text in figure.findobj(Text):
        words = text.get_text()
        lacking = {letter for letter in words if letter != "\n" and not (letter.isprintable() and _has(FAMILY, letter))}
        families = {letter: _family_with(letter) for letter in lacking}
        for letter in (letter for letter, family in families.items() if family is None):
            words = words.replace(letter, letter.encode("unicode_escape").decode())
        if found := sorted(filter(None, families.values())):
            text.set_fontfamily([FAMILY, *dict.fromkeys(found)])
        if lacking:
            text.set_text(words)


@cache
def _family_with(letter: str) -> str | None:
    return next((family for family in _families() if letter.isprintable() and _has(family, letter)), None)


def _has(family: str, letter: str) -> bool:
    return ord(letter) in _letters(_families()[family])


@cache
def _families() -> dict[str, FontEntry]:
    """Return the installed families with an upright font of normal weight, in alphabetical order."""
    fonts = [font for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")]
    return {font.name: font for font in sorted(fonts, key=lambda font: font.name) if BOXES not in Path(font.fname).stem}


@cache
def _letters(font: FontEntry) -> frozenset[int]:
    """Return the code points of a font; none, if it can't be drawn at any size, such as one of coloured pictures."""
    try:
        opened = get_font(font.fname)
        return frozenset(opened.get_charmap()) if opened.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
