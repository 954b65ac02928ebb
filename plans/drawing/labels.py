"""The packing in characters, 100 columns wide at most, readable without colour.

The words of a drawing, the same in text and in pictures.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import ceil
from textwrap import wrap
from types import MappingProxyType

from fleet.capacity import HOURS
from plans.drawing.content import Block, DeviceBox, Drawing, HostRow, PartName, ServerPanel
from plans.wording import counted, listed, size

PART_NAMES: Mapping[PartName, str] = MappingProxyType(
    {
        "base": "base",
        "slots": "LoRA slots",
        "kv": "KV cache",
        "reserve": "reserve",
        "unknown": "not known",
    }
)


def headline(drawing: Drawing) -> str:
    """Return what is used and what it holds, in one line."""
    boxes, tenants = drawing.boxes, drawing.tenants
    idle = sum(len(row.idle) for row in drawing.rows)
    versions = {block.adapter for each in tenants for block in each.blocks}
    copies = sum(len(each.blocks) for each in tenants)
    words = [
        f"{counted(len(versions), 'adapter')} on {counted(len(tenants), 'server')}"
        + (f" ({copies} with replicas)" if copies > len(versions) else ""),
        f"{len(boxes)} of {counted(len(boxes) + idle, 'device')} in use"
        + (f" for {price:.2f} an hour" if (price := sum(e.price_per_hour for e in boxes)) else ""),
    ]
    known = [each.requests for each in tenants if each.requests is not None]
    if known:
        words.append(f"{sum(known):,} requests at a time")
    return "; ".join(words)


def device(box: DeviceBox) -> str:
    """Return what a device is: `rtx4090_24g, 24.0 GiB, 0.40 an hour`."""
    price = f", {box.price_per_hour:.2f} an hour" if box.price_per_hour else ""
    return f"{box.kind}, {size(box.memory_bytes)}{price}"


def label(block: Block) -> str:
    """Return the name for a block: the alias and the version."""
    return f"{block.alias} {block.version}"


def flags(tenant: ServerPanel) -> str:
    """Return the flags that its adapters decide."""
    return f"max_loras {tenant.slots}, max_lora_rank {tenant.rank}"


def slots(tenant: ServerPanel) -> str:
    """Return how its slots are used."""
    parts = [f"{len(tenant.pinned)} of {counted(tenant.slots, 'slot')} taken"]
    parts += [f"{count} {whose}" for whose, count in Counter(tenant.others).items()]
    parts.append(f"{tenant.empty} empty")
    return ", ".join(parts)


def waiting(tenant: ServerPanel) -> str:
    """Name the adapters that share slots; empty where there are none."""
    cached = [label(each) for each in tenant.blocks if each.cached]
    return f"wait in host memory: {listed(cached, 6)}" if cached else ""


def concurrency(tenant: ServerPanel) -> str:
    """Return how many requests run at a time, and why that many."""
    if tenant.requests is None:
        return "requests at a time: not known"
    assert tenant.kv_tokens is not None
    reason = f"{tenant.kv_tokens:,} KV tokens / {tenant.context:,} of mean context"
    by_memory = tenant.kv_tokens // tenant.context
    if by_memory > tenant.requests:
        reason += f" are {by_memory:,}, planned with {tenant.requests} at most"
    return f"{counted(tenant.requests, 'request')} at a time: {reason}"


def busiest(tenant: ServerPanel) -> str:
    """Name the worst hour and the limit."""
    if not tenant.hours:
        return "load: not known"
    top = tenant.hours[tenant.worst_hour]
    if not top:
        return f"no load declared; limit {100 * tenant.limit:.0f} %"
    over = ", over the limit of" if top > tenant.limit * (1 + 1e-9) else " of throughput, limit"
    return (
        f"busiest {tenant.worst_hour:02}:00 UTC: {100 * top:.0f} %{over} "
        f"{100 * tenant.limit:.0f} % ({tenant.basis})"
    )


def beside(row: HostRow) -> Iterator[str]:
    """Say what else is on a host: idle devices, silent servers."""
    if row.idle:
        yield f"idle: {listed(row.idle, 8)}"
    if row.silent:
        one = len(row.silent) == 1
        verbs = "does not answer and keeps its place" if one else "do not answer and keep theirs"
        yield f"{listed(row.silent, 4)} {verbs}"


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
    inks = "   ".join(f"{_INK[name]} {word}" for name, word in PART_NAMES.items())
    lines = _wrapped(f"Fleet {drawing.fleet}: {headline(drawing)}", "")
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
        lines += [line for text in beside(row) for line in _wrapped(text, "  ")]
    return "\n".join(each.rstrip() for each in lines) + "\n"


def _wrapped(text: str, indent: str) -> list[str]:
    return wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )  # fmt: skip


def _box(box: DeviceBox, largest: int) -> Iterator[str]:
    yield f"  {box.device}  {device(box)}, {size(box.free_bytes)} free"
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


def _tenant(tenant: ServerPanel, boxes: tuple[DeviceBox, ...]) -> Iterator[str]:
    across = f" over {len(boxes)} devices" if len(boxes) > 1 else ""
    yield f"  {tenant.server}{across}: {flags(tenant)}"
    sizes: dict[PartName, int] = {}
    for box in boxes:
        for part in box.parts:
            if part.server == tenant.server:
                sizes[part.name] = sizes.get(part.name, 0) + part.bytes
    if sizes:
        yield "    " + ", ".join(f"{PART_NAMES[n]} {size(b)}" for n, b in sizes.items())
    yield from _wrapped(concurrency(tenant), "    ")
    yield f"    {slots(tenant)}:" if tenant.blocks else f"    {slots(tenant)}"
    yield from _slots(tenant)
    if waiting(tenant):
        yield from _wrapped(waiting(tenant), "    ")
    yield from _hours(tenant)


def _slots(tenant: ServerPanel) -> Iterator[str]:
    """Draw slots as cells of one width, an adapter's name in each that is taken."""
    if not tenant.blocks:
        return
    cells = [label(each) for each in tenant.pinned]
    if tenant.slots <= FEW_SLOTS:
        cells += [f"({each})" for each in tenant.others] + [""] * tenant.empty
    widest = min(max((len(each) for each in cells), default=0) or 8, WIDTH - 6)
    across = max((WIDTH - 4) // (widest + 2), 1)
    across = ceil(len(cells) / max(ceil(len(cells) / across), 1))
    for first in range(0, len(cells), max(across, 1)):
        line = "".join(f"[{each:{widest}}]" for each in cells[first : first + across])
        yield f"    {line}"


def _hours(tenant: ServerPanel) -> Iterator[str]:
    """Draw the day as bars, three columns an hour, and the limit as a line above them."""
    if not tenant.hours:
        yield f"    {busiest(tenant)}"
        return
    scale = [each / tenant.limit * _BARS if tenant.limit else 0.0 for each in tenant.hours]
    limit = f"{100 * tenant.limit:4.0f} %"
    for row in range(_BARS, -1, -1):
        marks = [_mark(each - row, "┄" if row == _BARS else " ") for each in scale]
        name = limit if row == _BARS else "   0 %" if row == 0 else " " * len(limit)
        yield f"    {name} {''.join(mark * 2 + ('┄' if row == _BARS else ' ') for mark in marks)}"
    hours = "".join(f"{hour:02} " if hour % 3 == 0 else "   " for hour in range(HOURS))
    yield f"    {'':6} {hours}UTC"
    yield f"    {busiest(tenant)}"


def _mark(rest: float, nothing: str) -> str:
    """Return the character for what of a bar is in one line."""
    eighth = max(min(ceil(rest * 8 - 1e-9), 8), 0)
    return _EIGHTHS[eighth] if eighth else nothing
