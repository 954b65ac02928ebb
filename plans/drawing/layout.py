"""Puts a drawing on a plane: hosts as rows, devices as boxes in proportion to their memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from plans.drawing.content import DeviceBox, Drawing, HostRow, Part
from plans.drawing.labels import PART_NAMES, beside, device, headline
from plans.drawing.server_panel import Palette, Region, region
from plans.drawing.shapes import Area, Rect, Shape, TextLabel, fits, lines
from plans.wording import size

WIDTH = 1000
MARGIN = 20
GAP = 24
BAR = 28
"""Height of a device."""
ZOOM = 16
"""Height between a device and its servers."""
BESIDE = 3
"""Servers of one device that are drawn beside each other before a new line starts."""
MOST_CLIENTS = 40
"""Clients that the legend names."""
GOLDEN_ANGLE = 137.508
"""Degrees between the colours of two clients: neighbours in the legend never look alike."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Marks on a plane of a size."""

    height: float
    marks: tuple[Shape, ...]


def arrange(drawing: Drawing) -> Picture:
    """Return the marks of a drawing."""
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
    """Add the legend of memory, then that of clients; return where it ends."""
    names = {part.name for box in drawing.boxes for part in box.parts}
    shown: list[tuple[str, str, float | None]] = [
        (word, f"part {name}", None) for name, word in PART_NAMES.items() if name in names
    ]
    if drawing.boxes:
        shown.append(("free", "part free", None))
    clients = drawing.clients
    shown += [(each, "block", palette[each]) for each in clients[:MOST_CLIENTS]]
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
    """Draws host after host, and remembers what the scale is."""

    def __init__(self, drawing: Drawing, palette: Palette) -> None:
        """Choose columns: two panels beside each other, unless devices are shared."""
        alone = all(len(each.tenants) == 1 for each in drawing.panels)
        several = any(len(row.panels) > 1 for row in drawing.rows)
        self.columns = 2 if alone and several else 1
        self.width = (WIDTH - 2 * MARGIN - GAP * (self.columns - 1)) / self.columns
        self.largest = max((each.memory_bytes for each in drawing.boxes), default=1)
        self.palette = palette
        self.marks: list[Shape] = []

    def row(self, row: HostRow, y: float) -> float:
        """Draw one host; return where it ends."""
        self.marks.append(TextLabel(MARGIN, y, f"Host {row.host}", "title"))
        y += 12
        for first in range(0, len(row.panels), self.columns):
            ends = [y]
            for index, panel in enumerate(row.panels[first : first + self.columns]):
                x = MARGIN + index * (self.width + GAP)
                top = y
                for box in panel.boxes:
                    top = self.box(box, x, top)
                regions = [region(each, panel, self.palette) for each in panel.tenants]
                ends.append(self.servers(regions, panel.boxes, x, top))
            y = max(ends) + 12
        for text in beside(row):
            for line in lines(text, WIDTH - 2 * MARGIN, 12):
                y += 16
                self.marks.append(TextLabel(MARGIN, y, line, "small"))
        return y

    def box(self, box: DeviceBox, x: float, y: float) -> float:
        """Draw one device with its parts; return where it ends."""
        text = f"{box.device}  {device(box)}, {size(box.free_bytes)} free"
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
        """Draw the servers of a panel beside each other, below its devices."""
        across = min(len(regions), BESIDE)
        width = (self.width - GAP * (across - 1)) / across
        slots = self._slots(boxes[-1], x) if boxes else {}
        for first in range(0, len(regions), across):
            top, ends = y + ZOOM, [y]
            for index, each in enumerate(regions[first : first + across]):
                left = x + index * (width + GAP)
                if each.server in slots and first == 0:
                    low, high = slots[each.server]
                    points = ((low, y), (high, y), (left + width, top), (left, top))
                    self.marks.append(Area(points, "zoom"))
                marks, end = each.place(left, top, width)
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
        """Return from where to where a device's slots are drawn, by server."""
        return {
            part.server: (left, left + width)
            for part, left, width in self._parts(box, x)
            if part.name == "slots"
        }
