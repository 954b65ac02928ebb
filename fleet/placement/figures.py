"""Figures of a placement for its reader: bytes and slots of every server."""

from collections.abc import Iterable, Iterator

from fleet.budget import USABLE, reserve_bytes, slot_bytes
from fleet.placement.bins import Bin
from fleet.plan import DeviceUse

FULL_AT = 0.8
"""Part of a server's slots above which the reader is warned."""


def device_use(bin_: Bin, loaded: frozenset[str], foreign: frozenset[str]) -> DeviceUse:
    """Return a server's slots and memory before, during and after the apply.

    Args:
        bin_: The packed server.
        loaded: Versions that it lists now.
        foreign: Those of them that are not ours and stay.
    """
    shape, device = bin_.base.shape, bin_.device
    restarts = bin_.live is None or not bin_.fixed
    after = bin_.residents if restarts else bin_.residents | foreign
    during = after
    if not restarts:
        during = after | (bin_.names if is_tight(bin_, loaded) else loaded)
    slots = bin_.slots
    per_slot = slot_bytes(shape, bin_.rank, bin_.base.dtype) if shape else None
    total = device.memory_bytes if device else None
    reserve = reserve_bytes(device) if device else None
    pool = None if per_slot is None else per_slot * slots
    kv = bin_.base.kv_cache_bytes
    if kv is None and shape and total is not None and pool is not None and reserve is not None:
        kv = int(total * USABLE) - shape.weight_bytes - pool - reserve
    known = shape is not None and pool is not None and total is not None
    return DeviceUse(
        server=bin_.name,
        host=bin_.host,
        devices=(device.name,) if device else (),
        total_bytes=total,
        weights_bytes=shape.weight_bytes if shape else None,
        slot_bytes=pool,
        kv_bytes=kv,
        reserve_bytes=reserve,
        slots=slots,
        slots_before=len(loaded),
        slots_during=len(during),
        slots_after=len(after),
        basis="uncalibrated" if known else "unknown",
    )


def is_tight(bin_: Bin, loaded: frozenset[str]) -> bool:
    """Say whether what goes must be unloaded before what comes is loaded."""
    return bin_.fixed and len(loaded | bin_.names) + bin_.blocked > bin_.slots


def slot_warnings(uses: Iterable[DeviceUse]) -> Iterator[str]:
    """Yield a line on servers that are short of slots, and one on those without a budget."""
    listed = tuple(uses)
    short = [
        f"`{each.server}` {each.slots_during}/{each.slots}"
        for each in listed
        if each.slots and each.slots_during > FULL_AT * each.slots
    ]
    if short:
        yield f"over 80 % of LoRA slots are taken during the apply on {_some(short)}"
    unknown = [f"`{each.server}`" for each in listed if each.devices and each.slot_bytes is None]
    if unknown:
        yield (
            f"memory of {_some(unknown)} is not budgeted: the base's shape or architecture "
            "is unknown"
        )


def _some(names: list[str], shown: int = 5) -> str:
    text = ", ".join(names[:shown])
    return f"{text} and {len(names) - shown} more" if len(names) > shown else text
