"""Why something does not fit: the constraint that binds, in numbers, and a way out."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from fleet.budget import GIB, RANKS, rank_rung
from fleet.declared import Fleet
from fleet.errors import Diagnostic, Place
from fleet.pace import alias_of
from fleet.placement.bins import Bin, Item, Memory
from fleet.resources import State

MIB = 1 << 20


def silent_servers(fleet: Fleet, live: State, item: Item) -> tuple[str, ...]:
    """Return the servers that could hold a version and do not answer, quoted and sorted."""
    attached = {each.name: each.base for host in fleet.hosts.values() for each in host.attached}
    return tuple(
        f"`{name}`"
        for name in sorted(live.unknown_servers)
        if name == item.pin or attached.get(name, name.partition("-")[0]) == item.base
    )


def diagnose(
    failed: Sequence[Item], fleet: Fleet, bins: Mapping[str, Bin], memory: Memory
) -> Iterator[Diagnostic]:
    """Yield one diagnostic for each special case, and one for each base that lacks room."""
    short: dict[str, list[Item]] = defaultdict(list)
    for item in failed:
        special = _special(item, fleet, bins)
        if special is None:
            short[item.base].append(item)
        else:
            yield special
    for base, items in sorted(short.items()):
        yield _no_room(base, items, fleet, bins, memory)


def _special(item: Item, fleet: Fleet, bins: Mapping[str, Bin]) -> Diagnostic | None:
    base = fleet.bases[item.base]
    limit = base.max_lora_rank or RANKS[-1]
    if rank_rung(item.rank) is None or item.rank > limit:
        return Diagnostic(
            "FC2005",
            "Adapter rank above the limit",
            f"`{item.adapter}` has rank {item.rank}, and servers of `{item.base}` reserve slots of "
            f"at most rank {limit}. vLLM refuses an adapter above that.",
            place=_place(fleet, item),
            hint=f"raise `max_lora_rank` of base `{item.base}`, which restarts its servers, "
            "or train a smaller adapter",
        )
    if item.pin is not None:
        full = [each for each in bins.values() if item.pin in (each.name, each.host)]
        state = "; ".join(_slots_of(each) for each in full) or "no such server can be opened"
        return Diagnostic(
            "FC2004",
            "Adapter does not fit where it is pinned",
            f"`{item.adapter}` is pinned to `{item.pin}`: {state}.",
            place=_place(fleet, item),
            hint="pin it elsewhere, remove the pin, or give that place more slots",
        )
    devices = sum(len(host.devices) + len(host.attached) for host in fleet.hosts.values())
    if item.replicas > devices:
        return Diagnostic(
            "FC2003",
            "Not enough devices for the replicas",
            f"`{item.adapter}` wants {item.replicas} replicas on distinct devices, and the fleet "
            f"has {devices}.",
            place=_place(fleet, item),
            hint=f"declare {item.replicas - devices} more, or lower its replicas",
        )
    return None


def _no_room(
    base: str, items: Sequence[Item], fleet: Fleet, bins: Mapping[str, Bin], memory: Memory
) -> Diagnostic:
    ours = [each for _, each in sorted(bins.items()) if each.base.name == base]
    item = items[0]
    if not ours:
        return _too_large(item, fleet, memory)
    rung = rank_rung(max(each.rank for each in items)) or 0
    shown = "; ".join(_slots_of(each, memory, rung) for each in ours[:3])
    more = f"; and {len(ours) - 3} more servers, full too" if len(ours) > 3 else ""  # noqa: PLR2004
    names = ", ".join(f"`{each.adapter}`" for each in items[:3])
    rest = f" and {len(items) - 3} more" if len(items) > 3 else ""  # noqa: PLR2004
    slots = fleet.bases[base].slots
    declared = f"raise `slots` of base `{base}` (now {slots}), " if slots else ""
    return Diagnostic(
        "FC2001",
        "Fleet does not fit: no free LoRA slot",
        f"Base `{base}` is {len(items)} slots short: {names}{rest} find no server. {shown}{more}.",
        place=_place(fleet, item),
        hint=f"{declared}declare another device for `{base}`, lower replicas, or retire versions",
        command="fleetctl status",
    )


def _too_large(item: Item, fleet: Fleet, memory: Memory) -> Diagnostic:
    """Explain a base for which no server could be opened at all."""
    base = fleet.bases[item.base]
    offers = []
    for name, host in sorted(fleet.hosts.items()):
        for device in host.devices:
            trial = Bin("", base, name, device, 0)
            slots, rank = base.slots or 4, base.max_lora_rank or rank_rung(item.rank) or 0
            need, free = trial.footprint(slots, rank), memory.free(trial)
            offers.append((need - free, f"`{name}/{device.name}`", need, free))
    if not offers:
        detail = "No device and no attached server is declared for it."
    else:
        lack, spot, need, free = min(offers)
        detail = (
            f"It needs at least {_size(need)} (weights, slots, KV cache, reserve), and the best "
            f"place, {spot}, has {_size(free)} free: {_size(lack)} short."
        )
    return Diagnostic(
        "FC2002",
        "Base fits on no device",
        f"No server of base `{item.base}` can be opened for `{item.adapter}`. {detail}",
        place=_place(fleet, item),
        hint="declare a larger or a further device, or a smaller `kv_cache` or `max_model_len`; "
        "bases share a device only where each declares its `kv_cache`",
    )


def _slots_of(bin_: Bin, memory: Memory | None = None, rung: int = 0) -> str:
    kept = ", 1 of them kept empty on a CPU" if bin_.blocked else ""
    text = f"`{bin_.name}` has {len(bin_.names)} versions in {bin_.slots} slots{kept}"
    if memory is None or bin_.device is None:
        return text
    wider = max(bin_.rank, rung)
    need = bin_.footprint(2 * bin_.slots, wider) - memory.free(bin_)
    return f"{text}, and {2 * bin_.slots} would need {_size(need)} more" if need > 0 else text


def _size(amount: int) -> str:
    if abs(amount) < GIB:
        return f"{amount / MIB:.0f} MiB"
    return f"{amount / GIB:.1f} GiB"


def _place(fleet: Fleet, item: Item) -> Place | None:
    client, _, task = alias_of(item.adapter).partition("-")
    file, _, numbers = fleet.origin("clients", client, "adapters", task).partition(":")
    line, _, column = numbers.partition(":")
    return Place(file, int(line), int(column)) if column.isdigit() else None
