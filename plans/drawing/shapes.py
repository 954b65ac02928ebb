"""Hold the shapes of a picture: rectangles, texts, polygons and lines. Unit: pixels."""

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar

GLYPH = 0.58
"""Upper bound of a character's mean width, as a part of the font size."""


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle with a tooltip."""

    kind: ClassVar[str] = "rect"
    x: float
    y: float
    width: float
    height: float
    look: str
    title: str = ""
    data: tuple[tuple[str, str], ...] = ()
    """Attributes `data-…` of the rectangle."""
    hue: float | None = None
    """Degrees on the colour wheel, for a client; None: the colour of `look`."""


@dataclass(frozen=True, slots=True)
class TextLabel:
    """A line of text, from its left end on the base line."""

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


def first_fitting(texts: Iterable[str], width: float, size: float = 11) -> str:
    """Return the first text that has room in a line; empty where no text has."""
    return next((text for text in texts if len(text) * size * GLYPH <= width), "")


def paragraph(
    marks: list[Shape], text: str, x: float, y: float, width: float,
    leading: int = 15, look: str = "small", size: float = 11,
) -> float:  # fmt: skip
    """Add a text in lines below a base line; return the base line of the last line.

    A word longer than a line stays whole.
    """
    room = max(int(width / (size * GLYPH)), 8)
    for line in wrap(text, room, break_long_words=False, break_on_hyphens=False):
        y += leading
        marks.append(TextLabel(x, y, line, look))
    return y
