"""What may help where slots, ranks, memory or throughput are short."""

from collections.abc import Iterator
from dataclasses import replace

from fleet.budget import rank_rung
from fleet.declared import AttachedServer, Fleet, Host
from fleet.placement.causes import Cause
from fleet.profiles import SHEETS
from fleet.remedies.candidate import (
    Candidate,
    Change,
    Rungs,
    aliases_of,
    listed,
    path_of,
    with_adapters,
    with_base,
    with_host,
)

POINTS = (5, 10, 15, 20)
"""Added to `placement.utilization`, up to 95 %."""


def slots(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield more slots, cached residency, fewer replicas, shared devices."""
    base = fleet.bases[cause.base]
    if base.slots is not None:
        yield tuple(
            Candidate(
                f"max_loras {slots} on base {base.name}",
                f"`max_loras: {slots}` (now {base.slots})",
                ("bases", base.name, "max_loras"),
                what_if=(f"base {base.name} max_loras {slots}",),
            )
            for slots in (base.slots + 1, 2 * base.slots, 4 * base.slots, 8 * base.slots)
        )
    for host in fleet.hosts.values():
        for theirs in host.attached:
            if theirs.base == base.name:
                yield _attached(host, theirs)
    yield _cached(fleet, cause)
    yield from replicas(fleet, cause)
    yield from _shared(fleet)


def _attached(host: Host, theirs: AttachedServer) -> Rungs:
    def more(slots: int) -> Change:
        changed = tuple(
            replace(each, max_loras=slots) if each is theirs else each for each in host.attached
        )
        return with_host(replace(host, attached=changed))

    return tuple(
        Candidate(
            f"max_loras {slots} on server {theirs.name}",
            f"its owner restarts `{theirs.name}` with `--max-loras {slots}`, and you declare it",
            ("hosts", host.name, "servers", theirs.name, "max_loras"),
            more(slots),
        )
        for slots in (theirs.max_loras + 1, 2 * theirs.max_loras, 4 * theirs.max_loras)
    )


def _cached(fleet: Fleet, cause: Cause) -> Rungs:
    """Let the adapters of a base wait in host memory: those left out, then all."""
    lacking = [each for each in aliases_of(fleet, cause) if each.residency == "pinned"]
    every = [
        each
        for each in fleet.adapters.values()
        if each.name.base == cause.base and each.residency == "pinned"
    ]
    few = f"residency cached for {listed(lacking)}"
    return tuple(
        Candidate(text, "`residency: cached`: it may wait a moment for a slot", path_of(some[0]),
                  with_adapters(some, residency="cached"))
        for text, some in ((few, lacking), (f"residency cached for all on {cause.base}", every))
        if some
    )  # fmt: skip


def replicas(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield fewer replicas of what found no place."""
    several = [each for each in aliases_of(fleet, cause) if each.replicas > 1]
    most = max((each.replicas for each in several), default=1)
    yield tuple(
        Candidate(
            f"{count} replica{'s' if count > 1 else ''} of {listed(several)}",
            f"`replicas: {count}` (now {most})",
            (*path_of(several[0]), "replicas"),
            what_if=tuple(
                f"adapter {each.alias} replicas {count}"
                for each in several
                if each.replicas > count
            ),
        )
        for count in range(most - 1, 0, -1)
    )  # fmt: skip


def _shared(fleet: Fleet) -> Iterator[Rungs]:
    policy = replace(fleet.policy, share_devices=True)
    if not fleet.policy.share_devices:
        yield (
            Candidate(
                "bases share devices",
                "`share_devices: true` under `placement`",
                ("placement", "share_devices"),
                lambda given: replace(given, policy=policy),
            ),
        )


def rank(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield a larger rank of the servers, and a smaller one of the adapters."""
    base, limit = fleet.bases[cause.base], int(cause.have)
    wider = rank_rung(int(cause.need))
    if base.max_lora_rank is not None and wider is not None and wider > base.max_lora_rank:
        yield (
            Candidate(
                f"max_lora_rank {wider} on base {base.name}",
                f"`max_lora_rank: {wider}` (now {base.max_lora_rank})",
                ("bases", base.name, "max_lora_rank"),
                what_if=(f"base {base.name} max_lora_rank {wider}",),
            ),
        )
    if limit > 0:
        names = [each for each in aliases_of(fleet, cause) if str(each.name) in fleet.versions]
        high = [each for each in names if fleet.versions[str(each.name)].rank > limit]
        if high:
            yield (
                Candidate(
                    f"rank {limit} for {listed(high)}",
                    f"train it again with rank {limit} at most",
                    path_of(high[0]),
                    what_if=tuple(f"adapter {each.alias} rank {limit}" for each in high),
                ),
            )


def throughput(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield less headroom, other batch windows, shared devices."""
    now = round(fleet.policy.utilization * 100)
    yield tuple(
        Candidate(
            f"utilization {now + points} %",
            f"`utilization: {now + points}%` under `placement` (now {now}%): less headroom",
            ("placement", "utilization"),
            what_if=(f"utilization {now + points}%",),
        )
        for points in POINTS
        if now + points <= 95  # noqa: PLR2004 (what is left for the unforeseen)
    )
    yield from _batches(fleet, cause)
    yield from _shared(fleet)


def _batches(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Move the batch windows of a base, each to other hours."""
    for each in fleet.adapters.values():
        demand = each.demand
        if each.name.base != cause.base or demand is None or demand.batch is None:
            continue
        first, last = demand.batch
        length = (last - first) % 24 or 24
        yield tuple(
            Candidate(
                f"batch window of {each.alias} at {start:02}-{(start + length) % 24:02}",
                f'`batch: "{start:02}-{(start + length) % 24:02}"` (now {first:02}-{last:02}, '
                f"{demand.timezone})",
                (*path_of(each), "demand", "batch"),
                with_adapters([each], demand=replace(demand, batch=(start, (start + length) % 24))),
            )
            for start in sorted(set(range(0, 24, max(length, 2))) - {first})
        )


def memory(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Yield shorter contexts, other numbers of devices, shared devices."""
    base = fleet.bases[cause.base]
    length = base.max_model_len or (base.shape.max_position_embeddings if base.shape else 0)
    if length and base.kv_cache_bytes is None:
        yield tuple(
            Candidate(
                f"max_model_len {shorter} on base {base.name}",
                f"`max_model_len: {shorter}` (now {length})",
                ("bases", base.name, "max_model_len"),
                with_base(replace(base, max_model_len=shorter, min_kv_tokens=least)),
            )
            for shorter in (length // 2, length // 4, length // 8, length // 16)
            for least in [min(base.min_kv_tokens, shorter)]
            if shorter > 0
        )
    yield from cards(fleet, cause)
    yield from _shared(fleet)
    yield _larger(fleet)


def _larger(fleet: Fleet) -> Rungs:
    """Buy one of the GPUs known by their data sheets, the smallest first; their price is not."""
    declared = [device for host in fleet.hosts.values() for device in host.devices]
    kinds = {each.kind for each in declared}
    most = max((each.memory_bytes for each in declared), default=0)
    known = sorted((sheet.memory_bytes, kind) for kind, sheet in SHEETS.items())
    return tuple(
        Candidate(
            f"a larger device, such as 1 {kind}",
            f"declare a device of kind `{kind}` with its price",
            ("hosts",),
            what_if=(f"gpu {kind} +1 at 0",),
            devices=1,
            priced=False,
        )
        for memory, kind in known
        if memory > most and kind not in kinds
    )


def cards(fleet: Fleet, cause: Cause) -> Iterator[Rungs]:
    """Let servers of a base stand on another number of devices than declared."""
    base = fleet.bases[cause.base]
    if base.tensor_parallel is not None:
        yield tuple(
            Candidate(
                f"tensor_parallel {cards} on base {base.name}",
                f"`tensor_parallel: {cards}` (now {base.tensor_parallel})",
                ("bases", base.name, "tensor_parallel"),
                with_base(replace(base, tensor_parallel=cards)),
                (f"base {base.name} tensor_parallel {cards}",),
            )
            for cards in (1, 2, 4, 8)
            if cards != base.tensor_parallel
        )
