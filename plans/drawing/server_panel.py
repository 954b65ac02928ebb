"""Draw a server: name, slots with adapters, and load by the hour."""

from collections.abc import Iterator, Mapping
from math import ceil

from fleet.capacity import HOURS
from fleet.names import alias_parts
from plans.amounts import percent
from plans.drawing import labels
from plans.drawing.content import AdapterBlock, DeviceGroup, ServerPanel
from plans.drawing.shapes import Rect, Shape, Stroke, TextLabel, first_fitting, paragraph

Palette = Mapping[str, float]
"""Hue by client."""

CELL = 124
"""Lower bound of a slot's width, for names to fit. Unit: pixels."""
CELL_HEIGHT = 22
CHART = 46
"""Height of the chart at full throughput. Unit: pixels."""
CHART_WIDTH = 480


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
    y = _slots(panel, palette, marks, x + 6, y + 8, inside)
    y = paragraph(marks, labels.waiting_label(panel), x + 6, y, inside)
    y = _day(panel, marks, x + 6, y + 10, inside) + 8
    marks.insert(frame, Rect(x, top, width, y - top, "server", data=(("server", panel.server),)))
    return y


def _slots(
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
