"""Proposes changes where slots, ranks, memory, throughput or host memory are short."""

from collections.abc import Iterator
from dataclasses import replace

from fleet.hardware import SHEETS, AttachedServerSpec, HostSpec
from fleet.placement import PlacementCause
from fleet.spec import FleetSpec
from fleet.vllm import GIB, SLOTS, rank_bucket
from fleet.what_if.candidates import (
    Candidate,
    Candidates,
    SpecChange,
    aliases_of,
    listed,
    path_of,
    with_adapters,
    with_base,
    with_host,
)

POINTS = (5, 10, 15, 20)
"""Added to `placement.utilization`, up to 95 %."""


def slots(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
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


def _attached(host: HostSpec, theirs: AttachedServerSpec) -> Candidates:
    def more(slots: int) -> SpecChange:
        changed = tuple(
            replace(server, max_loras=slots) if server is theirs else server
            for server in host.attached
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


def _cached(fleet: FleetSpec, cause: PlacementCause) -> Candidates:
    """Let the adapters of a base wait in host memory: those left out, then all."""
    lacking = [
        loaded_adapter
        for loaded_adapter in aliases_of(fleet, cause)
        if loaded_adapter.residency == "pinned"
    ]
    every = [
        adapter
        for adapter in fleet.adapters.values()
        if adapter.name.base == cause.base and adapter.residency == "pinned"
    ]
    few = f"residency cached for {listed(lacking)}"
    return tuple(
        Candidate(text, "`residency: cached`: it may wait a moment for a slot", path_of(some[0]),
                  with_adapters(some, residency="cached"))
        for text, some in ((few, lacking), (f"residency cached for all on {cause.base}", every))
        if some
    )  # fmt: skip


def replicas(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield fewer replicas of unplaced versions."""
    several = [adapter for adapter in aliases_of(fleet, cause) if adapter.replicas > 1]
    most = max((adapter.replicas for adapter in several), default=1)
    yield tuple(
        Candidate(
            f"{count} replica{'s' if count > 1 else ''} of {listed(several)}",
            f"`replicas: {count}` (now {most})",
            (*path_of(several[0]), "replicas"),
            what_if=tuple(
                f"adapter {adapter.alias} replicas {count}"
                for adapter in several
                if adapter.replicas > count
            ),
        )
        for count in range(most - 1, 0, -1)
    )  # fmt: skip


def _shared(fleet: FleetSpec) -> Iterator[Candidates]:
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


def rank(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield a larger rank of the servers, and a smaller one of the adapters."""
    base, limit = fleet.bases[cause.base], int(cause.have)
    wider = rank_bucket(int(cause.need))
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
        names = [
            adapter for adapter in aliases_of(fleet, cause) if str(adapter.name) in fleet.versions
        ]
        high = [name for name in names if fleet.versions[str(name.name)].rank > limit]
        if high:
            yield (
                Candidate(
                    f"rank {limit} for {listed(high)}",
                    f"train it again with rank {limit} at most",
                    path_of(high[0]),
                    what_if=tuple(f"adapter {adapter.alias} rank {limit}" for adapter in high),
                ),
            )


def throughput(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
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


def _batches(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield other hours for the batch windows of a base."""
    for adapter in fleet.adapters.values():
        demand = adapter.demand
        if adapter.name.base != cause.base or demand is None or demand.batch is None:
            continue
        first, last = demand.batch
        length = (last - first) % 24 or 24
        yield tuple(
            Candidate(
                f"batch window of {adapter.alias} at {start:02}-{(start + length) % 24:02}",
                f'`batch: "{start:02}-{(start + length) % 24:02}"` (now {first:02}-{last:02}, '
                f"{demand.timezone})",
                (*path_of(adapter), "demand", "batch"),
                with_adapters(
                    [adapter], demand=replace(demand, batch=(start, (start + length) % 24))
                ),
            )
            for start in sorted(set(range(0, 24, max(length, 2))) - {first})
        )


def memory(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
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


def _larger(fleet: FleetSpec) -> Candidates:
    """Propose a larger GPU of the known data sheets, the smallest first; prices are unknown."""
    declared = [device for host in fleet.hosts.values() for device in host.devices]
    kinds = {adapter.kind for adapter in declared}
    most = max((adapter.memory_bytes for adapter in declared), default=0)
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


def cards(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
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


def memory_of_hosts(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield fewer slots of servers, more memory of hosts, fewer replicas."""
    base = fleet.bases[cause.base]
    fewer = [each for each in reversed(SLOTS) if base.slots is None or each < base.slots]
    yield tuple(
        Candidate(
            f"max_loras {slots} on base {base.name}",
            f"`max_loras: {slots}` ({'now ' + str(base.slots) if base.slots else 'now chosen'}): "
            f"a server then lists {2 * slots} adapters",
            ("bases", base.name, "max_loras"),
            with_base(replace(base, slots=slots)),
            (f"base {base.name} max_loras {slots}",),
        )
        for slots in fewer
    )
    for host in fleet.hosts.values():
        if host.memory_bytes is not None:
            now = host.memory_bytes
            lack = max(int(cause.need) - int(cause.have), 1)
            yield tuple(
                Candidate(
                    f"memory {_gib(more)} on host {host.name}",
                    f"`memory: {_gib(more)}` (now {_gib(now)}), if the host has it",
                    ("hosts", host.name, "memory"),
                    with_host(replace(host, memory_bytes=more)),
                )
                for more in (_whole(now + lack), _whole(now + 2 * lack), _whole(now + 8 * lack))
            )
    yield from replicas(fleet, cause)


def _whole(amount: int) -> int:
    """Round up to a whole GiB; below 1 GiB to a whole MiB."""
    unit = GIB if amount >= GIB else GIB >> 10
    return -(-amount // unit) * unit


def _gib(amount: int) -> str:
    if amount % GIB == 0:
        return f"{amount // GIB}GiB"
    return f"{-(-amount // (GIB >> 10))}MiB"
