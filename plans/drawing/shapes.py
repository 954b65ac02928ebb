"""What a picture is made of: rectangles, words, areas and lines on a plane. Units: pixels."""

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar

GLYPH = 0.58
"""Width of a character as a part of the font's size; a little more than the usual faces have."""


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle, with what a pointer over it shows."""

    kind: ClassVar[str] = "rect"
    x: float
    y: float
    width: float
    height: float
    look: str
    title: str = ""
    data: tuple[tuple[str, str], ...] = ()
    """What it stands for, as `data-…` attributes."""
    hue: float | None = None
    """Degrees on the colour wheel, where it stands for a client."""


@dataclass(frozen=True, slots=True)
class TextLabel:
    """One line of text, from its left end on the base line."""

    kind: ClassVar[str] = "words"
    x: float
    y: float
    text: str
    look: str = ""


@dataclass(frozen=True, slots=True)
class Area:
    """A closed polygon."""

    kind: ClassVar[str] = "area"
    points: tuple[tuple[float, float], ...]
    look: str


@dataclass(frozen=True, slots=True)
class Stroke:
    """A straight line."""

    kind: ClassVar[str] = "stroke"
    x1: float
    y1: float
    x2: float
    y2: float
    look: str


Shape = Rect | TextLabel | Area | Stroke


def fits(text: str, width: float, size: float = 11) -> bool:
    """Say whether one line of text has room."""
    return len(text) * size * GLYPH <= width


def first_fitting(texts: Iterable[str], width: float, size: float = 11) -> str:
    """Return the first of some texts that has room; empty where none has."""
    return next((each for each in texts if fits(each, width, size)), "")


def lines(text: str, width: float, size: float = 11) -> list[str]:
    """Break text into lines that have room; a word longer than that stays whole."""
    room = max(int(width / (size * GLYPH)), 8)
    return wrap(text, room, break_long_words=False, break_on_hyphens=False)
