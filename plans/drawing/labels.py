"""Word a drawing, for text and pictures alike, and draw the text in characters.

The text is 100 columns wide at most and readable without colour.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import ceil
from textwrap import wrap

from fleet.capacity import HOURS
from plans.drawing.content import AdapterBlock, DeviceBox, Drawing, HostRow, PartName, ServerPanel
from plans.tables import counted, listed, percent, size

PART_NAMES: Mapping[PartName, str] = {
    "base": "base",
    "slots": "LoRA slots",
    "kv": "KV cache",
    "reserve": "reserve",
    "unknown": "not known",
}


def headline(drawing: Drawing) -> str:
    """Return adapters, servers, devices, price and requests of a drawing in a line."""
    boxes, panels = drawing.boxes, drawing.panels
    idle = sum(len(row.idle) for row in drawing.rows)
    versions = {block.adapter for panel in panels for block in panel.blocks}
    copies = sum(len(panel.blocks) for panel in panels)
    words = [
        f"{counted(len(versions), 'adapter')} on {counted(len(panels), 'server')}"
        + (f" ({copies} with replicas)" if copies > len(versions) else ""),
        f"{len(boxes)} of {counted(len(boxes) + idle, 'device')} in use"
        + (f" for {price:.2f} an hour" if (price := sum(e.price_per_hour for e in boxes)) else ""),
    ]
    known = [panel.requests for panel in panels if panel.requests is not None]
    if known:
        words.append(f"{sum(known):,} requests at a time")
    return "; ".join(words)


def device_label(box: DeviceBox) -> str:
    """Return kind, memory and price of a device: `rtx4090_24g, 24.0 GiB, 0.40 an hour`."""
    price = f", {box.price_per_hour:.2f} an hour" if box.price_per_hour else ""
    return f"{box.kind}, {size(box.memory_bytes)}{price}"


def block_label(block: AdapterBlock) -> str:
    """Return alias and version of a block."""
    return f"{block.alias} {block.version}"


def flags_label(panel: ServerPanel) -> str:
    """Return the flags that follow from the adapters of a server."""
    return f"max_loras {panel.slots}, max_lora_rank {panel.rank}"


def slots_label(panel: ServerPanel) -> str:
    """Return the use of a server's slots."""
    parts = [f"{len(panel.pinned)} of {counted(panel.slots, 'slot')} taken"]
    parts += [f"{count} {whose}" for whose, count in Counter(panel.others).items()]
    parts.append(f"{panel.empty} empty")
    return ", ".join(parts)


def waiting_label(panel: ServerPanel) -> str:
    """Return the adapters that share slots; empty where no adapter does."""
    cached = [block_label(block) for block in panel.blocks if block.cached]
    return f"wait in host memory: {listed(cached, 6)}" if cached else ""


def requests_label(panel: ServerPanel) -> str:
    """Return the requests at a time, and the reason of the number."""
    if panel.requests is None:
        return "requests at a time: not known"
    assert panel.kv_tokens is not None
    reason = f"{panel.kv_tokens:,} KV tokens / {panel.context:,} of mean context"
    by_memory = panel.kv_tokens // panel.context
    if by_memory > panel.requests:
        reason += f" are {by_memory:,}, planned with {panel.requests} at most"
    return f"{counted(panel.requests, 'request')} at a time: {reason}"


def load_label(panel: ServerPanel) -> str:
    """Return the worst hour and the limit."""
    if not panel.hours:
        return "load: not known"
    top = panel.hours[panel.worst_hour]
    if not top:
        return f"no load declared; limit {percent(panel.limit)}"
    over = ", over the limit of" if top > panel.limit * (1 + 1e-9) else " of throughput, limit"
    return (
        f"busiest {panel.worst_hour:02}:00 UTC: {percent(top)}{over} "
        f"{percent(panel.limit)} ({panel.basis})"
    )


def host_notes(row: HostRow) -> Iterator[str]:
    """Yield the idle devices and the silent servers of a host."""
    if row.idle:
        yield f"idle: {listed(row.idle, 8)}"
    if row.silent:
        single = len(row.silent) == 1
        verbs = "does not answer and keeps its place" if single else "do not answer and keep theirs"
        yield f"{listed(row.silent, 4)} {verbs}"


WIDTH = 100
BAR = 88
"""Upper bound of a device's bar; bars are as wide as their memory is large. Unit: columns."""
FEW_SLOTS = 16
"""Upper bound of slots that are drawn with the empty slots."""
_INK: dict[PartName, str] = {"base": "█", "slots": "▓", "kv": "▒", "reserve": "░", "unknown": "?"}
_FREE = "·"
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_BARS = 2
"""Lines of the chart below the limit; a single line is above."""


def render(drawing: Drawing) -> str:
    """Return the drawing."""
    largest = max((box.memory_bytes for box in drawing.boxes), default=1)
    names = {part.name for box in drawing.boxes for part in box.parts}
    inks = [f"{_INK[n]} {w}" for n, w in PART_NAMES.items() if n in names or n != "unknown"]
    lines = _wrapped(f"Fleet {drawing.fleet}: {headline(drawing)}", "")
    if drawing.boxes:
        lines += ["", "   ".join([*inks, f"{_FREE} free"])]
    for row in drawing.rows:
        lines += ["", f"Host {row.host}"]
        for group in row.groups:
            for box in group.boxes:
                lines += ["", *_box(box, largest)]
            for panel in group.panels:
                lines += ["", *_panel(panel, group.boxes)]
        lines += [line for text in host_notes(row) for line in _wrapped(text, "  ")]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _wrapped(text: str, indent: str) -> list[str]:
    return wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False
    )


def _box(box: DeviceBox, largest: int) -> Iterator[str]:
    yield f"  {box.device}  {device_label(box)}, {size(box.free_bytes)} free"
    bar, last = "", box.parts[0].server if box.parts else ""
    widths = columns(
        [*(part.bytes for part in box.parts), box.free_bytes],
        max(round(BAR * box.memory_bytes / largest), len(box.parts) + 1),
    )
    for part, width in zip(box.parts, widths, strict=False):
        bar += "│" if part.server != last else ""
        bar += _INK[part.name] * width
        last = part.server
    yield f"  [{bar}{_FREE * widths[-1]}]"


def columns(sizes: list[int], width: int) -> list[int]:
    """Return whole columns in proportion to sizes: `width` in all, at least 1 for a size above 0.

    Invariant: the sum is `width`, where that is at least the number of sizes above 0.
    """
    total = sum(sizes) or 1
    widths = [max(int(width * amount / total), 1) if amount > 0 else 0 for amount in sizes]
    rest = [width * amount / total - int(width * amount / total) for amount in sizes]
    for index in sorted(range(len(sizes)), key=lambda index: -rest[index]):
        if sum(widths) < width and sizes[index] > 0:
            widths[index] += 1
    while sum(widths) > width and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _panel(panel: ServerPanel, boxes: tuple[DeviceBox, ...]) -> Iterator[str]:
    across = f" over {len(boxes)} devices" if len(boxes) > 1 else ""
    yield f"  {panel.server}{across}: {flags_label(panel)}"
    sizes: dict[PartName, int] = {}
    for box in boxes:
        for part in box.parts:
            if part.server == panel.server:
                sizes[part.name] = sizes.get(part.name, 0) + part.bytes
    if sizes:
        yield "    " + ", ".join(f"{PART_NAMES[n]} {size(b)}" for n, b in sizes.items())
    yield from _wrapped(requests_label(panel), "    ")
    yield f"    {slots_label(panel)}:" if panel.blocks else f"    {slots_label(panel)}"
    yield from _slots(panel)
    yield from _wrapped(waiting_label(panel), "    ")
    yield from _hours(panel)


def _slots(panel: ServerPanel) -> Iterator[str]:
    if not panel.blocks:
        return
    cells = [block_label(block) for block in panel.pinned]
    if panel.slots <= FEW_SLOTS:
        cells += [f"({other})" for other in panel.others] + [""] * panel.empty
    widest = min(max((len(cell) for cell in cells), default=0) or 8, WIDTH - 6)
    across = max((WIDTH - 4) // (widest + 2), 1)
    across = ceil(len(cells) / max(ceil(len(cells) / across), 1))
    for first in range(0, len(cells), max(across, 1)):
        line = "".join(f"[{cell:{widest}}]" for cell in cells[first : first + across])
        yield f"    {line}"


def _hours(panel: ServerPanel) -> Iterator[str]:
    """Draw the day as bars, three columns an hour, and the limit as a line above them."""
    if not panel.hours:
        yield f"    {load_label(panel)}"
        return
    scale = [part / panel.limit * _BARS if panel.limit else 0.0 for part in panel.hours]
    limit = f"{percent(panel.limit):>6}"
    for row in range(_BARS, -1, -1):
        marks = [_mark(height - row, "┄" if row == _BARS else " ") for height in scale]
        name = limit if row == _BARS else "   0 %" if row == 0 else " " * len(limit)
        yield f"    {name} {''.join(mark * 2 + ('┄' if row == _BARS else ' ') for mark in marks)}"
    hours = "".join(f"{hour:02} " if hour % 3 == 0 else "   " for hour in range(HOURS))
    yield f"    {'':6} {hours}UTC"
    yield f"    {load_label(panel)}"


def _mark(rest: float, nothing: str) -> str:
    eighth = max(min(ceil(rest * 8 - 1e-9), 8), 0)
    return _EIGHTHS[eighth] if eighth else nothing
