"""The words of a drawing, the same in text and in pictures."""

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from plans.drawing.sketch import Block, Box, Drawing, PartName, Row, Tenant
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


def device(box: Box) -> str:
    """Return what a device is: `rtx4090_24g, 24.0 GiB, 0.40 an hour`."""
    price = f", {box.price_per_hour:.2f} an hour" if box.price_per_hour else ""
    return f"{box.kind}, {size(box.memory_bytes)}{price}"


def label(block: Block) -> str:
    """Return the name for a block: the alias and the version."""
    return f"{block.alias} {block.version}"


def flags(tenant: Tenant) -> str:
    """Return the flags that its adapters decide."""
    return f"max_loras {tenant.slots}, max_lora_rank {tenant.rank}"


def slots(tenant: Tenant) -> str:
    """Return how its slots are used."""
    parts = [f"{len(tenant.pinned)} of {counted(tenant.slots, 'slot')} taken"]
    parts += [f"{count} {whose}" for whose, count in Counter(tenant.others).items()]
    parts.append(f"{tenant.empty} empty")
    return ", ".join(parts)


def waiting(tenant: Tenant) -> str:
    """Name the adapters that share slots; empty where there are none."""
    cached = [label(each) for each in tenant.blocks if each.cached]
    return f"wait in host memory: {listed(cached, 6)}" if cached else ""


def concurrency(tenant: Tenant) -> str:
    """Return how many requests run at a time, and why that many."""
    if tenant.requests is None:
        return "requests at a time: not known"
    assert tenant.kv_tokens is not None
    reason = f"{tenant.kv_tokens:,} KV tokens / {tenant.context:,} of mean context"
    by_memory = tenant.kv_tokens // tenant.context
    if by_memory > tenant.requests:
        reason += f" are {by_memory:,}, planned with {tenant.requests} at most"
    return f"{counted(tenant.requests, 'request')} at a time: {reason}"


def busiest(tenant: Tenant) -> str:
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


def beside(row: Row) -> Iterator[str]:
    """Say what else is on a host: idle devices, silent servers."""
    if row.idle:
        yield f"idle: {listed(row.idle, 8)}"
    if row.silent:
        one = len(row.silent) == 1
        verbs = "does not answer and keeps its place" if one else "do not answer and keep theirs"
        yield f"{listed(row.silent, 4)} {verbs}"
