"""Figures of a placement for its reader: bytes, slots and load of every server."""

from collections.abc import Iterable, Iterator

from fleet.budget import lora_dtype
from fleet.capacity import Memory, memory_of
from fleet.placement.bins import FULL, Bin, Hardware, percent
from fleet.placement.items import slots_for_cached
from fleet.placement.search import Board
from fleet.plan import DeviceUse
from fleet.slots import slot_bytes


def device_use(
    bin_: Bin, loaded: frozenset[str], foreign: frozenset[str], hardware: Hardware
) -> DeviceUse:
    """Return a server's slots, memory and load before, during and after the apply.

    Args:
        bin_: The packed server.
        loaded: Versions that it lists now.
        foreign: Those of them that are not ours and stay.
        hardware: What it stands on.
    """
    restarts = bin_.live is None or not bin_.fixed
    placed = frozenset(bin_.residents)
    after = placed if restarts else placed | foreign
    during = after
    if not restarts:
        during = after | (bin_.names if is_tight(bin_, loaded) else loaded)
    memory = _memory(bin_, hardware)
    found = hardware.throughput(bin_, bin_.slots, bin_.rank)
    used = hardware.used(bin_)
    total = sum(each.memory_bytes for each in bin_.devices) if bin_.devices else None
    shared = slots_for_cached([each for each in bin_.residents.values() if each.cached])
    known = total is not None and memory.weights is not None and memory.slots is not None
    cards = len(bin_.devices) or 1
    utilization = hardware.fleet.policy.utilization
    return DeviceUse(
        server=bin_.name,
        host=bin_.host,
        devices=tuple(each.name for each in bin_.devices),
        total_bytes=total,
        weights_bytes=_times(memory.weights, cards),
        slot_bytes=_times(memory.slots, cards),
        kv_bytes=_times(memory.kv, cards),
        reserve_bytes=_times(memory.reserve, cards) if bin_.devices else None,
        slots=bin_.slots,
        slots_before=len(loaded - bin_.cached) + shared,
        slots_during=len(during - bin_.cached) + shared,
        slots_after=len(after - bin_.cached) + shared,
        basis=("uncalibrated" if found.basis == "unknown" else found.basis) if known else "unknown",
        load=tuple(round(int(each) * utilization / FULL, 3) for each in used)
        if found.basis != "unknown"
        else (),
        memory_basis=memory.basis,
    )


def _memory(bin_: Bin, hardware: Hardware) -> Memory:
    """Return a server's memory by part; of one that others run, only what its flags say."""
    if bin_.devices:
        return memory_of(hardware.shape(bin_, bin_.slots, bin_.rank))
    shape = bin_.base.shape
    attached = hardware.fleet.hosts[bin_.host].attached
    vllm = next((each.vllm for each in attached if each.name == bin_.name), "")
    slot = slot_bytes(shape, bin_.rank, lora_dtype(bin_.base), vllm=vllm) if shape else None
    pool = None if slot is None else slot * bin_.slots
    basis = "unknown" if pool is None else "uncalibrated"
    return Memory(shape.weight_bytes if shape else None, pool, 0, None, None, basis)


def _times(amount: int | None, cards: int) -> int | None:
    return None if amount is None else amount * cards


def is_tight(bin_: Bin, loaded: frozenset[str]) -> bool:
    """Say whether what goes must be unloaded before what comes is loaded."""
    listed = (loaded | bin_.names) - bin_.cached
    return bin_.fixed and len(listed) + bin_.blocked > bin_.slots


def slot_warnings(uses: Iterable[DeviceUse]) -> Iterator[str]:
    """Yield a line on servers without a free slot, and one on those without a budget."""
    listed = tuple(uses)
    short = [
        f"`{each.server}` {each.slots_during}/{each.slots}"
        for each in listed
        if each.slots and each.slots_during >= each.slots
    ]
    if short:
        yield f"no LoRA slot is left for a canary during the apply on {_some(short)}"
    unknown = [f"`{each.server}`" for each in listed if each.devices and each.slot_bytes is None]
    if unknown:
        yield (
            f"memory of {_some(unknown)} is not budgeted: the base's shape or architecture "
            "is unknown"
        )


def _some(names: list[str], shown: int = 5) -> str:
    text = ", ".join(names[:shown])
    return f"{text} and {len(names) - shown} more" if len(names) > shown else text


def load_warnings(board: Board) -> Iterator[str]:
    """Yield a line on servers that carry more than they may."""
    over = []
    for name, bin_ in sorted(board.bins.items()):
        used = board.hardware.used(bin_)
        if bin_.residents and int(used.max()) > FULL:
            part = int(used.max()) * board.fleet.policy.utilization / FULL
            over.append(f"`{name}` {percent(part)} at {int(used.argmax()):02}:00 UTC")
    if over:
        yield (
            f"more load than the declared {percent(board.fleet.policy.utilization)} of throughput "
            f"on {_some(over)}"
        )
