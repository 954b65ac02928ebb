"""Render a drawing as SVG, and as an HTML page: no script, no outside asset, light and dark.

Hosts are rows, devices are boxes in proportion to their memory. Unit: pixels.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from textwrap import wrap
from typing import ClassVar

from markupsafe import Markup

from fleet.capacity import HOURS
from fleet.names import alias_parts
from plans.drawing import labels
from plans.drawing.content import (
    AdapterBlock,
    DeviceBox,
    DeviceGroup,
    Drawing,
    HostRow,
    Part,
    ServerPanel,
)
from plans.tables import percent, size
from plans.templating import rendered

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


WIDTH = 1000
MARGIN = 20
GAP = 24
BAR = 28
"""Height of a device."""
ZOOM = 16
"""Height between a device and its servers."""
BESIDE = 3
"""Upper bound of servers in a line below their devices."""
MOST_CLIENTS = 40
"""Upper bound of clients that the legend names."""
GOLDEN_ANGLE = 137.508
"""Degrees between the hues of two clients; neighbours in the legend differ."""
Palette = Mapping[str, float]
"""Hue by client."""
CELL = 124
"""Lower bound of a slot's width, for names to fit. Unit: pixels."""
CELL_HEIGHT = 22
CHART = 46
"""Height of the chart at full throughput. Unit: pixels."""
CHART_WIDTH = 480


_FIGURES = (labels.slots_label, labels.requests_label, labels.load_label)


def svg(drawing: Drawing) -> str:
    """Return the picture; names from outside are escaped."""
    return rendered(
        "drawing.svg.j2",
        title=f"Fleet {drawing.fleet}: what fills each device, and who is where",
        description=labels.headline(drawing),
        width=WIDTH,
        picture=arrange(drawing),
    )


def html(drawing: Drawing) -> str:
    """Return a page with the picture and a table of the figures."""
    return rendered(
        "drawing.html.j2",
        drawing=drawing,
        headline=labels.headline(drawing),
        picture=Markup(svg(drawing)),  # noqa: S704 (our own template, which has escaped it)
        rows=[(panel, *(label(panel) for label in _FIGURES)) for panel in drawing.panels],
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes and the height of the page."""

    height: float
    marks: tuple[Shape, ...]


def arrange(drawing: Drawing) -> Picture:
    """Return the shapes of a drawing."""
    canvas = _Canvas(drawing)
    y = MARGIN + 18.0
    canvas.marks.append(TextLabel(MARGIN, y, f"Fleet {drawing.fleet}", "heading"))
    y = paragraph(
        canvas.marks, labels.headline(drawing), MARGIN, y, WIDTH - 2 * MARGIN, 20, "lead", 13
    )
    y = canvas.legend(y + 14)
    for row in drawing.rows:
        y = canvas.row(row, y + 30)
    return Picture(round(y + MARGIN, 1), tuple(canvas.marks))


class _Canvas:
    """Draw the legend, then host after host at a common scale; methods return the lower end."""

    def __init__(self, drawing: Drawing) -> None:
        """Choose the columns: two, or a single column where devices are shared."""
        self.drawing = drawing
        alone = all(len(group.panels) == 1 for group in drawing.groups)
        several = any(len(row.groups) > 1 for row in drawing.rows)
        self.columns = 2 if alone and several else 1
        self.width = (WIDTH - 2 * MARGIN - GAP * (self.columns - 1)) / self.columns
        self.largest = max((box.memory_bytes for box in drawing.boxes), default=1)
        self.palette: Palette = {
            name: round(index * GOLDEN_ANGLE % 360, 1) for index, name in enumerate(drawing.clients)
        }
        self.marks: list[Shape] = []

    def legend(self, y: float) -> float:
        """Draw the legends of memory and of clients."""
        boxes, clients = self.drawing.boxes, self.drawing.clients
        names = {part.name for box in boxes for part in box.parts}
        shown: list[tuple[str, str, float | None]] = [
            (word, f"part {name}", None)
            for name, word in labels.PART_NAMES.items()
            if name in names
        ]
        if boxes:
            shown.append(("free", "part free", None))
        shown += [(client, "block", self.palette[client]) for client in clients[:MOST_CLIENTS]]
        if len(clients) > MOST_CLIENTS:
            shown.append((f"and {len(clients) - MOST_CLIENTS} clients more", "", None))
        x = float(MARGIN)
        for text, look, hue in shown:
            width = 18 + len(text) * 7 + 14
            if x + width > WIDTH - MARGIN:
                x, y = float(MARGIN), y + 20
            if look:
                self.marks.append(Rect(x, y, 12, 12, look, hue=hue))
            self.marks.append(TextLabel(x + 18, y + 10, text, "small"))
            x += width
        return y + 12

    def row(self, row: HostRow, y: float) -> float:
        """Draw a host."""
        self.marks.append(TextLabel(MARGIN, y, f"Host {row.host}", "title"))
        y += 12
        for first in range(0, len(row.groups), self.columns):
            ends = [y]
            for index, group in enumerate(row.groups[first : first + self.columns]):
                x = MARGIN + index * (self.width + GAP)
                top = y
                for box in group.boxes:
                    top = self.box(box, x, top)
                ends.append(self.servers(group, x, top))
            y = max(ends) + 12
        for text in labels.host_notes(row):
            y = paragraph(self.marks, text, MARGIN, y, WIDTH - 2 * MARGIN, 16, size=12)
        return y

    def box(self, box: DeviceBox, x: float, y: float) -> float:
        """Draw a device with its parts."""
        text = f"{box.device}  {labels.device_label(box)}, {size(box.free_bytes)} free"
        self.marks.append(TextLabel(x, y + 14, text, "small"))
        y += 20
        title = f"{box.device}: {size(box.free_bytes)} free of {size(box.memory_bytes)}"
        data = (("device", box.device), ("bytes", str(box.memory_bytes)))
        wide = round(self._wide(box.memory_bytes), 2)
        self.marks.append(Rect(x, y, wide, BAR, "part free", title, data))
        for part, left, width in self._parts(box, x):
            name = labels.PART_NAMES[part.name]
            filled = f"{name} {size(part.bytes)}"
            of = (("part", part.name), ("of", part.server), ("on", box.device))
            self.marks.append(
                Rect(
                    round(left, 2), y, round(width, 2), BAR, f"part {part.name}",
                    f"{part.server}: {filled}", (*of, ("bytes", str(part.bytes))),
                )
            )  # fmt: skip
            if shown := first_fitting((filled, name), width - 8):
                self.marks.append(TextLabel(left + 5, y + 18, shown, "in"))
        return y + BAR

    def servers(self, group: DeviceGroup, x: float, y: float) -> float:
        """Draw the servers of a group below the devices."""
        across = min(len(group.panels), BESIDE)
        width = (self.width - GAP * (across - 1)) / across
        slots = self._slots(group.boxes[-1], x) if group.boxes else {}
        for first in range(0, len(group.panels), across):
            top, ends = y + ZOOM, [y]
            for index, panel in enumerate(group.panels[first : first + across]):
                left = x + index * (width + GAP)
                if panel.server in slots and first == 0:
                    low, high = slots[panel.server]
                    points = ((low, y), (high, y), (left + width, top), (left, top))
                    self.marks.append(Area(points, "zoom"))
                ends.append(draw_server(panel, group, self.palette, self.marks, left, top, width))
            y = max(ends)
        return y

    def _wide(self, amount: int) -> float:
        return self.width * amount / self.largest

    def _parts(self, box: DeviceBox, x: float) -> Iterator[tuple[Part, float, float]]:
        for part in box.parts:
            width = self._wide(part.bytes)
            yield part, x, width
            x += width

    def _slots(self, box: DeviceBox, x: float) -> Mapping[str, tuple[float, float]]:
        """Return left and right end of a device's slots, by server."""
        return {
            part.server: (left, left + width)
            for part, left, width in self._parts(box, x)
            if part.name == "slots"
        }


def draw_server(
    panel: ServerPanel, group: DeviceGroup, palette: Palette, marks: list[Shape],
    x: float, y: float, width: float,
) -> float:  # fmt: skip
    """Add the shapes of a server of a group, from a corner on; return their lower end."""
    top, frame, inside = y, len(marks), width - 12
    across = sum(any(part.server == panel.server for part in box.parts) for box in group.boxes)
    over = f" over {across} devices" if across > 1 else ""
    y += 18
    marks.append(TextLabel(x + 6, y, panel.server + over, "name"))
    for text in (
        f"{labels.flags_label(panel)}; {labels.slots_label(panel)}",
        labels.requests_label(panel),
    ):
        y = paragraph(marks, text, x + 6, y, inside)
    y = _draw_slots(panel, palette, marks, x + 6, y + 8, inside)
    y = paragraph(marks, labels.waiting_label(panel), x + 6, y, inside)
    y = _day(panel, marks, x + 6, y + 10, inside) + 8
    marks.insert(frame, Rect(x, top, width, y - top, "server", data=(("server", panel.server),)))
    return y


def _draw_slots(
    panel: ServerPanel, palette: Palette, marks: list[Shape], x: float, y: float, width: float
) -> float:
    """Add slots as cells of equal width in lines, then the adapters without a slot."""
    slots: list[AdapterBlock | str] = [*panel.pinned, *panel.others, *("",) * panel.empty]
    for group in (slots, [block for block in panel.blocks if block.cached]):
        across = max(min(int(width // CELL), len(group)), 1)
        across = ceil(len(group) / max(ceil(len(group) / across), 1)) or 1
        cell = width / across
        for index, slot in enumerate(group):
            line, place = divmod(index, across)
            corner = (x + place * cell, y + line * CELL_HEIGHT)
            marks += _cell(panel.server, palette, slot, *corner, cell)
        y += ceil(len(group) / across) * CELL_HEIGHT
    return y


def _cell(
    server: str, palette: Palette, slot: AdapterBlock | str, x: float, y: float, width: float
) -> Iterator[Shape]:
    left, size = round(x, 2), (round(width - 3, 2), CELL_HEIGHT - 3)
    if isinstance(slot, str):
        look = "taken" if slot else "empty"
        yield Rect(left, y, *size, look, f"slot: {slot or look}")
        if slot:
            yield TextLabel(round(x + 4, 2), y + 13.5, slot, "small")
        return
    title = f"{slot.adapter}, rank {slot.rank}" + (", without a slot" if slot.cached else "")
    look = "block cached" if slot.cached else "block"
    data = (("adapter", slot.adapter), ("at", server))
    yield Rect(left, y, *size, look, title, data, palette[slot.client])
    texts = (labels.block_label(slot), slot.alias, alias_parts(slot.alias)[1])
    if name := first_fitting(texts, width - 10):
        yield TextLabel(round(x + 4, 2), y + 13.5, name, "in")


def _day(panel: ServerPanel, marks: list[Shape], x: float, y: float, width: float) -> float:
    """Add 24 bars up to the throughput, and the limit as a line."""
    if panel.hours:
        wide = min(width, CHART_WIDTH)
        step, floor = wide / HOURS, y + CHART
        tall = max(1.0, *panel.hours)
        for hour, part in enumerate(panel.hours):
            left, height = round(x + hour * step, 2), round(CHART * part / tall, 2)
            look = "worst" if hour == panel.worst_hour and part else "hour"
            title = f"{hour:02}:00 UTC: {percent(part)}"
            data = (("hour", str(hour)), ("in", panel.server))
            bar = (left, round(floor - height, 2), round(step - 2, 2), height)
            marks.append(Rect(*bar, look, title, data))
            if hour % 6 == 0:
                marks.append(TextLabel(left, floor + 12, f"{hour:02}", "tiny"))
        marks.append(Stroke(x, floor, x + wide, floor, "floor"))
        at = round(floor - CHART * panel.limit / tall, 2)
        marks.append(Stroke(x, at, x + wide, at, "limit"))
        marks.append(TextLabel(x, at - 3, f"limit {percent(panel.limit)}", "tiny"))
        y = floor + 12
    return paragraph(marks, labels.load_label(panel), x, y, width)
