"""One server on a plane: its name, its slots with who is in them, and its day."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from fleet.names import alias_parts
from plans.drawing.content import Block, Panel, ServerPanel
from plans.drawing.labels import busiest, concurrency, flags, label, slots
from plans.drawing.labels import waiting as waiting_of_words
from plans.drawing.shapes import Rect, Shape, Stroke, TextLabel, first_fitting, lines

Palette = Mapping[str, float]
"""Hue of each client."""

CELL = 124
"""Least width of a slot that we like, so that names fit."""
CELL_HEIGHT = 22
CHART = 46
"""Height of the day, up to all of the throughput."""
CHART_WIDTH = 480
HOURS = 24


@dataclass(frozen=True, slots=True)
class Region:
    """One server, to be placed."""

    tenant: ServerPanel
    across: int
    """Devices that it stands on."""
    palette: Palette

    @property
    def server(self) -> str:
        """Its name."""
        return self.tenant.server

    def place(self, x: float, y: float, width: float) -> tuple[list[Shape], float]:
        """Return its marks from a corner on, and where it ends."""
        tenant = self.tenant
        marks: list[Shape] = []
        top = y
        y += 18
        over = f" over {self.across} devices" if self.across > 1 else ""
        marks.append(TextLabel(x + 6, y, tenant.server + over, "name"))
        texts = [f"{flags(tenant)}; {slots(tenant)}", concurrency(tenant)]
        for line in [line for text in texts for line in lines(text, width - 12)]:
            y += 15
            marks.append(TextLabel(x + 6, y, line, "small"))
        y += 8
        cells, y = self._slots(x + 6, y, width - 12)
        marks += cells
        for line in lines(waiting_of_words(tenant), width - 12):
            y += 15
            marks.append(TextLabel(x + 6, y, line, "small"))
        day, y = self._day(x + 6, y + 10, width - 12)
        marks += day
        frame = Rect(x, top, width, y + 8 - top, "server", data=(("server", tenant.server),))
        return [frame, *marks], y + 8

    def _slots(self, x: float, y: float, width: float) -> tuple[list[Shape], float]:
        """Draw slots as cells of one width in lines, then adapters that have none."""
        tenant = self.tenant
        shown: list[Block | str] = [*tenant.pinned]
        shown += [*tenant.others, *("",) * tenant.empty]
        waiting = [each for each in tenant.blocks if each.cached]
        marks: list[Shape] = []
        for group in (shown, waiting):
            across = max(min(int(width // CELL), len(group)), 1)
            across = ceil(len(group) / max(ceil(len(group) / across), 1)) or 1
            cell = width / across
            for index, each in enumerate(group):
                line, place = divmod(index, across)
                corner = (x + place * cell, y + line * CELL_HEIGHT)
                marks += self._cell(each, *corner, cell)
            y += ceil(len(group) / across) * CELL_HEIGHT
        return marks, y

    def _cell(self, each: "Block | str", x: float, y: float, width: float) -> Iterator[Shape]:
        size = (round(width - 3, 2), CELL_HEIGHT - 3)
        if isinstance(each, str):
            look = "taken" if each else "empty"
            yield Rect(round(x, 2), y, *size, look, f"slot: {each or look}")
            if each:
                yield TextLabel(round(x + 4, 2), y + 13.5, each, "small")
            return
        title = f"{each.adapter}, rank {each.rank}" + (", without a slot" if each.cached else "")
        look = "block cached" if each.cached else "block"
        data = (("adapter", each.adapter), ("at", self.server))
        yield Rect(round(x, 2), y, *size, look, title, data, self.palette[each.client])
        texts = (label(each), each.alias, alias_parts(each.alias)[1])
        name = first_fitting(texts, width - 10)
        if name:
            yield TextLabel(round(x + 4, 2), y + 13.5, name, "in")

    def _day(self, x: float, y: float, width: float) -> tuple[list[Shape], float]:
        """Draw 24 bars up to the throughput, and the limit as a line."""
        tenant, wide = self.tenant, min(width, CHART_WIDTH)
        marks: list[Shape] = []
        if tenant.hours:
            step, floor = wide / HOURS, y + CHART
            tall = max(1.0, *tenant.hours)
            for hour, part in enumerate(tenant.hours):
                height = round(CHART * part / tall, 2)
                look = "worst" if hour == tenant.worst_hour and part else "hour"
                title = f"{hour:02}:00 UTC: {100 * part:.0f} %"
                left = round(x + hour * step, 2)
                data = (("hour", str(hour)), ("in", self.server))
                marks.append(
                    Rect(left, round(floor - height, 2), round(step - 2, 2), height, look,
                         title, data)
                )  # fmt: skip
                if hour % 6 == 0:
                    marks.append(TextLabel(left, floor + 12, f"{hour:02}", "tiny"))
            marks.append(Stroke(x, floor, x + wide, floor, "floor"))
            at = round(floor - CHART * tenant.limit / tall, 2)
            marks.append(Stroke(x, at, x + wide, at, "limit"))
            marks.append(TextLabel(x, at - 3, f"limit {100 * tenant.limit:.0f} %", "tiny"))
            y = floor + 12
        for line in lines(busiest(tenant), width):
            y += 15
            marks.append(TextLabel(x, y, line, "small"))
        return marks, y


def region(tenant: ServerPanel, panel: Panel, palette: Palette) -> Region:
    """Return a server of a panel, to be placed."""
    across = sum(any(p.server == tenant.server for p in box.parts) for box in panel.boxes)
    return Region(tenant, across, palette)
