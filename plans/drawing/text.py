"""The packing in characters, 100 columns wide at most, readable without colour."""

from collections.abc import Iterator
from math import ceil
from textwrap import wrap

from fleet.demand import HOURS
from plans.drawing import words
from plans.drawing.sketch import Box, Drawing, PartName, Tenant
from plans.wording import size

WIDTH = 100
BAR = 88
"""Columns of the largest device; others are narrower in proportion to their memory."""
FEW_SLOTS = 16
"""Up to so many, empty slots are drawn as well."""
_INK: dict[PartName, str] = {"base": "█", "slots": "▓", "kv": "▒", "reserve": "░", "unknown": "?"}
_FREE = "·"
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_BARS = 2
"""Lines of the chart below the limit; one more is above it."""


def render(drawing: Drawing) -> str:
    """Return the drawing."""
    largest = max((each.memory_bytes for each in drawing.boxes), default=1)
    inks = "   ".join(f"{_INK[name]} {word}" for name, word in words.PART_NAMES.items())
    lines = _wrapped(f"Fleet {drawing.fleet}: {words.headline(drawing)}", "")
    if any(part.name == "unknown" for box in drawing.boxes for part in box.parts):
        lines += ["", f"{inks}   {_FREE} free"]
    elif drawing.boxes:
        lines += ["", f"{inks.rpartition('   ')[0]}   {_FREE} free"]
    for row in drawing.rows:
        lines += ["", f"Host {row.host}"]
        for panel in row.panels:
            for box in panel.boxes:
                lines += ["", *_box(box, largest)]
            for tenant in panel.tenants:
                lines += ["", *_tenant(tenant, panel.boxes)]
        lines += [line for text in words.beside(row) for line in _wrapped(text, "  ")]
    return "\n".join(each.rstrip() for each in lines) + "\n"


def _wrapped(text: str, indent: str) -> list[str]:
    return wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )  # fmt: skip


def _box(box: Box, largest: int) -> Iterator[str]:
    yield f"  {box.device}  {words.device(box)}, {size(box.free_bytes)} free"
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
    """Share out columns in proportion to sizes: whole ones, `width` in all, 1 for anything.

    Invariant: the sum is `width`, where that is at least the number of sizes above 0.
    """
    total = sum(sizes) or 1
    found = [max(int(width * each / total), 1) if each > 0 else 0 for each in sizes]
    rest = [width * each / total - int(width * each / total) for each in sizes]
    for index in sorted(range(len(sizes)), key=lambda index: -rest[index]):
        if sum(found) < width and sizes[index] > 0:
            found[index] += 1
    while sum(found) > width and max(found) > 1:
        found[found.index(max(found))] -= 1
    return found


def _tenant(tenant: Tenant, boxes: tuple[Box, ...]) -> Iterator[str]:
    across = f" over {len(boxes)} devices" if len(boxes) > 1 else ""
    yield f"  {tenant.server}{across}: {words.flags(tenant)}"
    sizes: dict[PartName, int] = {}
    for box in boxes:
        for part in box.parts:
            if part.server == tenant.server:
                sizes[part.name] = sizes.get(part.name, 0) + part.bytes
    if sizes:
        yield "    " + ", ".join(f"{words.PART_NAMES[n]} {size(b)}" for n, b in sizes.items())
    yield from _wrapped(words.concurrency(tenant), "    ")
    yield f"    {words.slots(tenant)}:" if tenant.blocks else f"    {words.slots(tenant)}"
    yield from _slots(tenant)
    if words.waiting(tenant):
        yield from _wrapped(words.waiting(tenant), "    ")
    yield from _hours(tenant)


def _slots(tenant: Tenant) -> Iterator[str]:
    """Draw slots as cells of one width, an adapter's name in each that is taken."""
    if not tenant.blocks:
        return
    cells = [words.label(each) for each in tenant.pinned]
    if tenant.slots <= FEW_SLOTS:
        cells += [f"({each})" for each in tenant.others] + [""] * tenant.empty
    widest = min(max((len(each) for each in cells), default=0) or 8, WIDTH - 6)
    across = max((WIDTH - 4) // (widest + 2), 1)
    across = ceil(len(cells) / max(ceil(len(cells) / across), 1))
    for first in range(0, len(cells), max(across, 1)):
        line = "".join(f"[{each:{widest}}]" for each in cells[first : first + across])
        yield f"    {line}"


def _hours(tenant: Tenant) -> Iterator[str]:
    """Draw the day as bars, three columns an hour, and the limit as a line above them."""
    if not tenant.hours:
        yield f"    {words.busiest(tenant)}"
        return
    scale = [each / tenant.limit * _BARS if tenant.limit else 0.0 for each in tenant.hours]
    limit = f"{100 * tenant.limit:4.0f} %"
    for row in range(_BARS, -1, -1):
        marks = [_mark(each - row, "┄" if row == _BARS else " ") for each in scale]
        name = limit if row == _BARS else "   0 %" if row == 0 else " " * len(limit)
        yield f"    {name} {''.join(mark * 2 + ('┄' if row == _BARS else ' ') for mark in marks)}"
    hours = "".join(f"{hour:02} " if hour % 3 == 0 else "   " for hour in range(HOURS))
    yield f"    {'':6} {hours}UTC"
    yield f"    {words.busiest(tenant)}"


def _mark(rest: float, nothing: str) -> str:
    """Return the character for what of a bar is in one line."""
    eighth = max(min(ceil(rest * 8 - 1e-9), 8), 0)
    return _EIGHTHS[eighth] if eighth else nothing
