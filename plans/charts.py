"""Draw charts as SVG in HTML, with their figures as tables: lines, bars, strips, timelines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, floor, log10

from markupsafe import Markup

from plans.tables import date_time, percent
from plans.templating import rendered

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


WIDTH, HEIGHT = 1000.0, 100.0
"""The view box, which is stretched to the room on the page; labels are text beside it."""
LEVELS = 5
"""Number of shades of a heat map."""
MOST_LABELS = 8
"""Upper bound of labels below a chart."""


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """Values with a name; None where a value is not known."""

    name: str
    values: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """The values that are known."""
        return [value for value in self.values if value is not None]


def line_chart(
    title: str,
    labels: Sequence[str],
    series: Sequence[ChartSeries],
    *,
    unit: str = "",
    band: tuple[ChartSeries, ChartSeries] | None = None,
    limit: float | None = None,
    marks: Sequence[tuple[int, str]] = (),
) -> Markup:
    """Return lines over the labels; a line has a gap where a value is not known.

    `band`: lower and upper bound, as an area. `limit`: a dashed line. `marks`: events by index.
    """
    every = [*series, *(band or ())]
    top = ceiling([value for line in every for value in line.known] + [limit or 0.0])
    step = WIDTH / max(len(labels) - 1, 1)

    def place(index: int, value: float) -> tuple[float, float]:
        return index * step, HEIGHT * (1 - value / top)

    paths = []
    if band:
        low, high = ([place(*point) for run in runs(line.values) for point in run] for line in band)
        paths.append(ChartPath("band", polyline([*low, *reversed(high)]) + "z"))
    for number, line in enumerate(series):
        for run in runs(line.values):
            points = [place(*point) for point in run]
            ends = points
            if len(points) == 1:  # a point alone would not be seen
                ((x, y),) = points
                ends = [(max(x - step / 2, 0), y), (min(x + step / 2, WIDTH), y)]
            paths.append(ChartPath(f"line s{number % 6}", polyline(ends)))
    paths += [
        ChartPath("event", f"M{index * step:.2f},0V{HEIGHT:.0f}", text) for index, text in marks
    ]
    return _figure(title, labels, every, top, unit, limit, paths, dict(marks), len(series))


def bar_chart(
    title: str,
    labels: Sequence[str],
    series: Sequence[ChartSeries],
    *,
    unit: str = "",
    limit: float | None = None,
) -> Markup:
    """Return a bar for every label; several series are stacked."""
    totals = [sum(line.values[index] or 0.0 for line in series) for index in range(len(labels))]
    top, step = ceiling([*totals, limit or 0.0]), WIDTH / max(len(labels), 1)
    paths, floors = [], [HEIGHT] * len(labels)
    for number, line in enumerate(series):
        for index, value in enumerate(line.values):
            if value:
                tall = HEIGHT * value / top
                floors[index] -= tall
                words = f"{labels[index]}: {line.name} {figure(value, unit)}"
                place = (index * step + step * 0.1, floors[index], step * 0.8, tall)
                paths.append(rectangle(f"fill s{number % 6}", *place, words))
    return _figure(title, labels, series, top, unit, limit, paths, {}, len(series))


def heat_map(title: str, columns: Sequence[str], rows: Sequence[ChartSeries]) -> Markup:
    """Return a table of boxes, the darker the larger the value; boxes of 0 are empty."""
    top = ceiling([float(LEVELS), *(value for row in rows for value in row.known)])
    wide, tall, paths = WIDTH / max(len(columns), 1), HEIGHT / max(len(rows), 1), []
    for number, row in enumerate(rows):
        for index, value in enumerate(row.values):
            level = ceil(LEVELS * (value or 0.0) / top)
            words = f"{row.name} {columns[index]}: {figure(value)}"
            look = f"fill heat{level}" if level else "free"
            paths.append(rectangle(look, index * wide, number * tall, wide, tall, words))
    known = [value for row in rows for value in row.known]
    return Markup(  # noqa: S704 (our own template, which has escaped it)
        rendered(
            "chart.html.j2",
            title=title,
            text=f"largest {figure(max(known, default=None))}",
            box=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
            paths=paths,
            heights=[row.name[:3] for row in rows],
            below=_below(columns),
            names=columns,
            legend=[
                (f"fill heat{level}", f"to {figure(top * level / LEVELS)}")
                for level in range(1, LEVELS + 1)
            ],
            grid=True,
            limit="",
            events=False,
            rows=[(row.name, *map(figure, row.values), "") for row in rows],
        )
    )


def _figure(
    title: str, labels: Sequence[str], series: Sequence[ChartSeries], top: float, unit: str,
    limit: float | None, paths: list[ChartPath], events: dict[int, str], lines: int,
) -> Markup:  # fmt: skip
    if limit is not None:
        y = HEIGHT * (1 - limit / top)
        paths.append(ChartPath("limit", f"M0,{y:.2f}H{WIDTH:.0f}", f"limit {figure(limit, unit)}"))
    known = [value for line in series for value in line.known]
    words = "no value is known"
    if known:
        words = f"{len(labels)} values from {figure(min(known))} to {figure(max(known), unit)}"
    return Markup(  # noqa: S704 (our own template, which has escaped it)
        rendered(
            "chart.html.j2",
            title=title,
            text=words + (f"; limit {figure(limit, unit)}" if limit is not None else ""),
            box=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
            paths=paths,
            heights=[figure(top, unit), figure(top / 2), "0"],
            below=_below(labels),
            names=[line.name for line in series],
            legend=[
                (f"fill s{number % 6}" if number < lines else "band", line.name)
                for number, line in enumerate(series)
            ],
            grid=False,
            limit=figure(limit, unit) if limit is not None else "",
            rows=[
                (label, *(figure(line.values[at], unit) for line in series), events.get(at, ""))
                for at, label in enumerate(labels)
            ],
            events=bool(events),
        )
    )


def _below(labels: Sequence[str]) -> list[str]:
    """Return labels at equal distances from the first on, else the first and the last."""
    size = len(labels)
    for number in range(min(MOST_LABELS, size), 2, -1):
        if size % number == 0:
            return list(labels[:: size // number])
    return [*labels[:1], *labels[1:][-1:]]


STRIP_WIDTH, STRIP_HEIGHT = 240.0, 24.0
_HOUR = 3600


@dataclass(frozen=True, slots=True)
class BarPart:
    """A part of a bar, with a CSS class and a text for the pointer."""

    look: str
    amount: float
    title: str


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A time on a row of a timeline; `look` is a CSS class."""

    start: datetime
    end: datetime
    look: str
    title: str


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """A row of a timeline."""

    label: str
    spans: tuple[TimeSpan, ...]
    note: str = ""


def share_bar(
    title: str, parts: Sequence[BarPart], total: float, limit: float | None = None
) -> Markup:
    """Return a horizontal bar of parts of a total; `limit`: a line at this amount."""
    full = max(total, sum(part.amount for part in parts), limit or 0.0) or 1.0
    paths, x = [rectangle("free", 0, 0, STRIP_WIDTH, STRIP_HEIGHT)], 0.0
    for part in parts:
        wide = STRIP_WIDTH * part.amount / full
        paths.append(rectangle(f"fill {part.look}", x, 0, wide, STRIP_HEIGHT, part.title))
        x += wide
    if limit is not None:
        paths.append(ChartPath("limit", f"M{STRIP_WIDTH * limit / full:.2f},0V{STRIP_HEIGHT:.0f}"))
    return _picture("share", title, "; ".join(part.title for part in parts), paths)


def day_strip(
    title: str,
    declared: Sequence[float],
    observed: Sequence[float | None] = (),
    *,
    limit: float | None = None,
    now: int | None = None,
) -> Markup:
    """Return the hours of a day as bars, UTC: declared load behind the observed load.

    Values are parts of 1. `limit`: a line. `now`: the hour that is marked.
    """
    seen = [value for value in observed if value is not None]
    top, step = max(1.0, *declared, *seen), STRIP_WIDTH / 24
    paths = [] if now is None else [rectangle("now", now * step, 0, step, STRIP_HEIGHT, "now")]
    for look, values in (("declared", declared), ("observed", observed)):
        for hour, value in enumerate(values):
            tall = STRIP_HEIGHT * (value or 0.0) / top
            inset = 1.0 if look == "declared" else 3.0
            words = f"{hour:02}:00 UTC, {look}: {percent(value or 0.0)}"
            place = (hour * step + inset, STRIP_HEIGHT - tall, step - 2 * inset, tall)
            paths += [rectangle(f"fill {look}", *place, words)] if tall else []
    if limit is not None:
        paths.append(
            ChartPath("limit", f"M0,{STRIP_HEIGHT * (1 - limit / top):.2f}H{STRIP_WIDTH:.0f}")
        )
    busiest = max(range(len(declared)), key=lambda hour: declared[hour], default=0)
    words = (
        f"busiest {busiest:02}:00 UTC: {percent(declared[busiest])}" if declared else "not known"
    )
    return _picture("day", title, words, paths)


def timeline(
    title: str, rows: Sequence[TimelineRow], start: datetime, end: datetime, now: datetime
) -> Markup:
    """Return rows on a common axis of time, with the time now as a line."""
    length = (end - start).total_seconds() or 1.0

    def place(moment: datetime) -> float:
        return STRIP_WIDTH * min(max((moment - start).total_seconds() / length, 0.0), 1.0)

    digits = len("2026-11-28 12:00") if length > _HOUR else None
    drawn = []
    for row in rows:
        paths = [
            rectangle(
                span.look, place(span.start), 3, max(place(span.end) - place(span.start), 1.0),
                STRIP_HEIGHT - 6, span.title,
            )
            for span in row.spans
        ]  # fmt: skip
        if start <= now <= end:
            paths.append(ChartPath("event", f"M{place(now):.2f},0V{STRIP_HEIGHT:.0f}", "now"))
        words = "; ".join(span.title for span in row.spans) or "nothing yet"
        drawn.append((row.label, _picture("row", f"{title}, {row.label}", words, paths), row.note))
    return Markup(  # noqa: S704 (our own template, which has escaped it)
        rendered(
            "timeline.html.j2",
            title=title,
            rows=drawn,
            ends=[f"{date_time(moment)[:digits]} UTC" for moment in (start, end)],
            spans=[(row.label, span) for row in rows for span in row.spans],
        )
    )


def _picture(look: str, title: str, text: str, paths: Sequence[ChartPath]) -> Markup:
    box = f"0 0 {STRIP_WIDTH:.0f} {STRIP_HEIGHT:.0f}"
    return Markup(  # noqa: S704 (our own template, which has escaped it)
        rendered("strip.svg.j2", look=look, title=title, text=text, box=box, paths=paths)
    )
