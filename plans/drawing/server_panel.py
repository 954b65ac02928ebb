"""Draw a server: name, slots with adapters, and load by the hour."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from plans.amounts import percent
from plans.drawing.content import Block, DeviceGroup, ServerPanel
from plans.drawing.labels import (
    block_label,
    flags_label,
    load_label,
    requests_label,
    slots_label,
    waiting_label,
)
from plans.drawing.shapes import Rect, Shape, Stroke, TextLabel, first_fitting, lines

Palette = Mapping[str, float]
"""Hue by client."""

CELL = 124
"""Lower bound of a slot's width, for names to fit. Unit: pixels."""
CELL_HEIGHT = 22
CHART = 46
"""Height of the chart at full throughput. Unit: pixels."""
CHART_WIDTH = 480
HOURS = 24


@dataclass(frozen=True, slots=True)
class Region:
    """A server, to be placed on the page."""

    panel: ServerPanel
    across: int
    """Devices of the server."""
    palette: Palette

    @property
    def server(self) -> str:
        """Name of the server."""
        return self.panel.server

    def place(self, x: float, y: float, width: float) -> tuple[list[Shape], float]:
        """Return the shapes of the server from a corner on, and their lower end."""
        panel = self.panel
        marks: list[Shape] = []
        top = y
        y += 18
        over = f" over {self.across} devices" if self.across > 1 else ""
        marks.append(TextLabel(x + 6, y, panel.server + over, "name"))
        texts = [f"{flags_label(panel)}; {slots_label(panel)}", requests_label(panel)]
        for line in [line for text in texts for line in lines(text, width - 12)]:
            y += 15
            marks.append(TextLabel(x + 6, y, line, "small"))
        y += 8
        cells, y = self._slots(x + 6, y, width - 12)
        marks += cells
        for line in lines(waiting_label(panel), width - 12):
            y += 15
            marks.append(TextLabel(x + 6, y, line, "small"))
        day, y = self._day(x + 6, y + 10, width - 12)
        marks += day
        frame = Rect(x, top, width, y + 8 - top, "server", data=(("server", panel.server),))
        return [frame, *marks], y + 8

    def _slots(self, x: float, y: float, width: float) -> tuple[list[Shape], float]:
        """Draw slots as cells of equal width in lines, then the adapters without a slot."""
        panel = self.panel
        shown: list[Block | str] = [*panel.pinned]
        shown += [*panel.others, *("",) * panel.empty]
        waiting = [block for block in panel.blocks if block.cached]
        marks: list[Shape] = []
        for group in (shown, waiting):
            across = max(min(int(width // CELL), len(group)), 1)
            across = ceil(len(group) / max(ceil(len(group) / across), 1)) or 1
            cell = width / across
            for index, slot in enumerate(group):
                line, place = divmod(index, across)
                corner = (x + place * cell, y + line * CELL_HEIGHT)
                marks += self._cell(slot, *corner, cell)
            y += ceil(len(group) / across) * CELL_HEIGHT
        return marks, y

    def _cell(self, slot: "Block | str", x: float, y: float, width: float) -> Iterator[Shape]:
        size = (round(width - 3, 2), CELL_HEIGHT - 3)
        if isinstance(slot, str):
            look = "taken" if slot else "empty"
            yield Rect(round(x, 2), y, *size, look, f"slot: {slot or look}")
            if slot:
                yield TextLabel(round(x + 4, 2), y + 13.5, slot, "small")
            return
        title = f"{slot.adapter}, rank {slot.rank}" + (", without a slot" if slot.cached else "")
        look = "block cached" if slot.cached else "block"
        data = (("adapter", slot.adapter), ("at", self.server))
        yield Rect(round(x, 2), y, *size, look, title, data, self.palette[slot.client])
        texts = (block_label(slot), slot.alias, slot.alias.partition("-")[2])
        name = first_fitting(texts, width - 10)
        if name:
            yield TextLabel(round(x + 4, 2), y + 13.5, name, "in")

    def _day(self, x: float, y: float, width: float) -> tuple[list[Shape], float]:
        """Draw 24 bars up to the throughput, and the limit as a line."""
        panel, wide = self.panel, min(width, CHART_WIDTH)
        marks: list[Shape] = []
        if panel.hours:
            step, floor = wide / HOURS, y + CHART
            tall = max(1.0, *panel.hours)
            for hour, part in enumerate(panel.hours):
                height = round(CHART * part / tall, 2)
                look = "worst" if hour == panel.worst_hour and part else "hour"
                title = f"{hour:02}:00 UTC: {percent(part)}"
                left = round(x + hour * step, 2)
                data = (("hour", str(hour)), ("in", self.server))
                marks.append(
                    Rect(left, round(floor - height, 2), round(step - 2, 2), height, look,
                         title, data)
                )  # fmt: skip
                if hour % 6 == 0:
                    marks.append(TextLabel(left, floor + 12, f"{hour:02}", "tiny"))
            marks.append(Stroke(x, floor, x + wide, floor, "floor"))
            at = round(floor - CHART * panel.limit / tall, 2)
            marks.append(Stroke(x, at, x + wide, at, "limit"))
            marks.append(TextLabel(x, at - 3, f"limit {percent(panel.limit)}", "tiny"))
            y = floor + 12
        for line in lines(load_label(panel), width):
            y += 15
            marks.append(TextLabel(x, y, line, "small"))
        return marks, y


def region(panel: ServerPanel, group: DeviceGroup, palette: Palette) -> Region:
    """Return the region of a server of a group."""
    across = sum(any(p.server == panel.server for p in box.parts) for box in group.boxes)
    return Region(panel, across, palette)
