"""Draw figures that fit into a line: bars of parts, sparklines, the hours of a day, timelines."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from plans.charts.figures import ChartPath, ceiling, figure, polyline, rectangle, runs
from plans.tables import date_time, percent
from plans.templating import rendered

WIDTH, HEIGHT = 240.0, 24.0
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
    paths, x = [rectangle("free", 0, 0, WIDTH, HEIGHT)], 0.0
    for part in parts:
        wide = WIDTH * part.amount / full
        paths.append(rectangle(f"fill {part.look}", x, 0, wide, HEIGHT, part.title))
        x += wide
    if limit is not None:
        paths.append(ChartPath("limit", f"M{WIDTH * limit / full:.2f},0V{HEIGHT:.0f}"))
    return _picture("share", title, "; ".join(part.title for part in parts), paths)


def sparkline(title: str, values: Sequence[float | None]) -> Markup:
    """Return a small line without axes; a gap where a value is not known."""
    known = [value for value in values if value is not None]
    top, step = ceiling(known), WIDTH / max(len(values) - 1, 1)
    paths = [
        ChartPath("line s0", polyline((i * step, HEIGHT * (1 - value / top)) for i, value in run))
        for run in runs(values)
    ]
    words = f"from {figure(min(known))} to {figure(max(known))}" if known else "no value is known"
    return _picture("spark", title, words, paths)


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
    top, step = max(1.0, *declared, *seen), WIDTH / 24
    paths = [] if now is None else [rectangle("now", now * step, 0, step, HEIGHT, "now")]
    for look, values in (("declared", declared), ("observed", observed)):
        for hour, value in enumerate(values):
            tall = HEIGHT * (value or 0.0) / top
            inset = 1.0 if look == "declared" else 3.0
            words = f"{hour:02}:00 UTC, {look}: {percent(value or 0.0)}"
            place = (hour * step + inset, HEIGHT - tall, step - 2 * inset, tall)
            paths += [rectangle(f"fill {look}", *place, words)] if tall else []
    if limit is not None:
        paths.append(ChartPath("limit", f"M0,{HEIGHT * (1 - limit / top):.2f}H{WIDTH:.0f}"))
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
        return WIDTH * min(max((moment - start).total_seconds() / length, 0.0), 1.0)

    digits = len("2026-11-28 12:00") if length > _HOUR else None
    drawn = []
    for row in rows:
        paths = [
            rectangle(
                span.look, place(span.start), 3, max(place(span.end) - place(span.start), 1.0),
                HEIGHT - 6, span.title,
            )
            for span in row.spans
        ]  # fmt: skip
        if start <= now <= end:
            paths.append(ChartPath("event", f"M{place(now):.2f},0V{HEIGHT:.0f}", "now"))
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
    box = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    return Markup(  # noqa: S704 (our own template, which has escaped it)
        rendered("strip.svg.j2", look=look, title=title, text=text, box=box, paths=paths)
    )
