"""Lay out a drawing: hosts as rows, devices as boxes in proportion to memory. Unit: pixels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from plans.amounts import size
from plans.drawing.content import DeviceBox, Drawing, HostRow, Part
from plans.drawing.labels import PART_NAMES, device_label, headline, host_notes
from plans.drawing.server_panel import Palette, Region, region
from plans.drawing.shapes import Area, Rect, Shape, TextLabel, fits, lines

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


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes and the height of the page."""

    height: float
    marks: tuple[Shape, ...]


def arrange(drawing: Drawing) -> Picture:
    """Return the shapes of a drawing."""
    palette = {
        name: round(index * GOLDEN_ANGLE % 360, 1) for index, name in enumerate(drawing.clients)
    }
    marks: list[Shape] = []
    y = MARGIN + 18.0
    marks.append(TextLabel(MARGIN, y, f"Fleet {drawing.fleet}", "heading"))
    for line in lines(headline(drawing), WIDTH - 2 * MARGIN, 13):
        y += 20
        marks.append(TextLabel(MARGIN, y, line, "lead"))
    y = _legend(drawing, palette, marks, y + 14)
    canvas = _Canvas(drawing, palette)
    for row in drawing.rows:
        y = canvas.row(row, y + 30)
    return Picture(round(y + MARGIN, 1), (*marks, *canvas.marks))


def _legend(drawing: Drawing, palette: Palette, marks: list[Shape], y: float) -> float:
    """Add the legends of memory and of clients; return their lower end."""
    names = {part.name for box in drawing.boxes for part in box.parts}
    shown: list[tuple[str, str, float | None]] = [
        (word, f"part {name}", None) for name, word in PART_NAMES.items() if name in names
    ]
    if drawing.boxes:
        shown.append(("free", "part free", None))
    clients = drawing.clients
    shown += [(client, "block", palette[client]) for client in clients[:MOST_CLIENTS]]
    if len(clients) > MOST_CLIENTS:
        shown.append((f"and {len(clients) - MOST_CLIENTS} clients more", "", None))
    x = float(MARGIN)
    for text, look, hue in shown:
        width = 18 + len(text) * 7 + 14
        if x + width > WIDTH - MARGIN:
            x, y = float(MARGIN), y + 20
        if look:
            marks.append(Rect(x, y, 12, 12, look, hue=hue))
        marks.append(TextLabel(x + 18, y + 10, text, "small"))
        x += width
    return y + 12


class _Canvas:
    """Draw host after host at a common scale."""

    def __init__(self, drawing: Drawing, palette: Palette) -> None:
        """Choose the columns: two, or a single column where devices are shared."""
        alone = all(len(group.panels) == 1 for group in drawing.groups)
        several = any(len(row.groups) > 1 for row in drawing.rows)
        self.columns = 2 if alone and several else 1
        self.width = (WIDTH - 2 * MARGIN - GAP * (self.columns - 1)) / self.columns
        self.largest = max((box.memory_bytes for box in drawing.boxes), default=1)
        self.palette = palette
        self.marks: list[Shape] = []

    def row(self, row: HostRow, y: float) -> float:
        """Draw a host; return its lower end."""
        self.marks.append(TextLabel(MARGIN, y, f"Host {row.host}", "title"))
        y += 12
        for first in range(0, len(row.groups), self.columns):
            ends = [y]
            for index, group in enumerate(row.groups[first : first + self.columns]):
                x = MARGIN + index * (self.width + GAP)
                top = y
                for box in group.boxes:
                    top = self.box(box, x, top)
                regions = [region(panel, group, self.palette) for panel in group.panels]
                ends.append(self.servers(regions, group.boxes, x, top))
            y = max(ends) + 12
        for text in host_notes(row):
            for line in lines(text, WIDTH - 2 * MARGIN, 12):
                y += 16
                self.marks.append(TextLabel(MARGIN, y, line, "small"))
        return y

    def box(self, box: DeviceBox, x: float, y: float) -> float:
        """Draw a device with its parts; return its lower end."""
        text = f"{box.device}  {device_label(box)}, {size(box.free_bytes)} free"
        self.marks.append(TextLabel(x, y + 14, text, "small"))
        y += 20
        self.marks.append(
            Rect(
                x, y, round(self._wide(box.memory_bytes), 2), BAR, "part free",
                f"{box.device}: {size(box.free_bytes)} free of {size(box.memory_bytes)}",
                (("device", box.device), ("bytes", str(box.memory_bytes))),
            )
        )  # fmt: skip
        for part, left, width in self._parts(box, x):
            name = PART_NAMES[part.name]
            self.marks.append(
                Rect(
                    round(left, 2), y, round(width, 2), BAR, f"part {part.name}",
                    f"{part.server}: {name} {size(part.bytes)}",
                    (("part", part.name), ("of", part.server), ("on", box.device),
                     ("bytes", str(part.bytes))),
                )
            )  # fmt: skip
            text = f"{name} {size(part.bytes)}"
            shown = text if fits(text, width - 8) else name if fits(name, width - 8) else ""
            if shown:
                self.marks.append(TextLabel(left + 5, y + 18, shown, "in"))
        return y + BAR

    def servers(
        self, regions: list[Region], boxes: tuple[DeviceBox, ...], x: float, y: float
    ) -> float:
        """Draw the servers of a group below the devices; return their lower end."""
        across = min(len(regions), BESIDE)
        width = (self.width - GAP * (across - 1)) / across
        slots = self._slots(boxes[-1], x) if boxes else {}
        for first in range(0, len(regions), across):
            top, ends = y + ZOOM, [y]
            for index, region_ in enumerate(regions[first : first + across]):
                left = x + index * (width + GAP)
                if region_.server in slots and first == 0:
                    low, high = slots[region_.server]
                    points = ((low, y), (high, y), (left + width, top), (left, top))
                    self.marks.append(Area(points, "zoom"))
                marks, end = region_.place(left, top, width)
                self.marks += marks
                ends.append(end)
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
