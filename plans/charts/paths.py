"""Define the shape of all charts, a path, and the words of figures. Unit: the view box."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10

_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_LARGE = 1000


@dataclass(frozen=True, slots=True)
class ChartPath:
    """A shape with a CSS class and a text for the pointer."""

    look: str
    d: str
    title: str = ""


def rectangle(
    look: str, x: float, y: float, width: float, height: float, title: str = ""
) -> ChartPath:  # fmt: skip
    """Return a rectangle."""
    return ChartPath(look, f"M{x:.2f},{y:.2f}h{width:.2f}v{height:.2f}h{-width:.2f}z", title)


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """Return the path data of lines from point to point."""
    return "M" + "L".join(f"{x:.2f},{y:.2f}" for x, y in points)


def ceiling(values: Iterable[float]) -> float:
    """Return a round number that no value exceeds; 1 where all are 0."""
    largest = max(values, default=0.0)
    if largest <= 0:
        return 1.0
    magnitude = 10.0 ** floor(log10(largest))
    return next(step * magnitude for step in _STEPS if step * magnitude >= largest * (1 - 1e-9))


def figure(value: float | None, unit: str = "") -> str:
    """Return a value with its unit: `1,234 ms`; `not known` for None, which is never 0."""
    if value is None:
        return "not known"
    text = f"{value:,.0f}" if abs(value) >= _LARGE else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Return the known values with their index, split where a value is not known."""
    found: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is not None:
            found[-1].append((index, value))
        elif found[-1]:
            found.append([])
    return [run for run in found if run]
