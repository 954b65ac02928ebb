"""Proposes changes against causes: without a rule that leaves no place, or with more room.

Candidates are ordered from small to large.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from fleet.advice.candidates import (
    Candidate,
    Candidates,
    aliases_of,
    base_flag,
    for_adapters,
    listed,
    new_kinds,
    path_of,
    with_adapters,
    with_another,
    with_changed,
    with_fields,
    with_member,
)
from fleet.hardware import sheet_of
from fleet.placement import Limit, PlacementCause
from fleet.spec import FleetSpec
from fleet.vllm import GIB, SLOTS, rank_bucket

Maker = Callable[[FleetSpec, PlacementCause], Iterator[Candidates]]

MORE = (1, 2, 4)
"""Further devices of a kind."""
POINTS = (5, 10, 15, 20)
"""Added to `placement.utilization`, in percent points."""
MOST_UTILIZATION = 95
"""Upper bound of a proposed `placement.utilization`, in percent; the rest is for the unforeseen."""


def candidates_of(fleet: FleetSpec, causes: Sequence[PlacementCause]) -> Iterator[Candidates]:
    """Yield the candidates that may help against these causes."""
    for kind in sorted({device.kind for host in fleet.hosts.values() for device in host.devices}):
        yield tuple(
            Candidate(
                f"{count} more {kind}",
                f"declare {count} more device{'s' if count > 1 else ''} of kind `{kind}`",
                ("hosts",),
                what_if=(f"gpu {kind} +{count}",),
                devices=count,
            )
            for count in MORE
        )
    seen: set[tuple[str, ...]] = set()
    for cause in causes:
        for candidates in _MAKERS[cause.limit](fleet, cause):
            by_text = {candidate.text: candidate for candidate in candidates}
            if by_text and tuple(by_text) not in seen:
                seen.add(tuple(by_text))
                yield tuple(by_text.values())


def _pin(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    pinned = [adapter for adapter in aliases_of(fleet, cause) if adapter.pin]
    yield for_adapters(pinned, "no pin", "remove `pin`", "pin", None)


def _avoid(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    avoiding = [adapter for adapter in aliases_of(fleet, cause) if adapter.avoid]
    yield for_adapters(avoiding, "no avoid", "remove `avoid`", "avoid", ())


def _apart(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield the removal of `apart`, from either side."""
    unplaced = aliases_of(fleet, cause)
    names = {name for adapter in unplaced for name in (adapter.alias, adapter.name.client)}
    apart = [
        adapter
        for adapter in fleet.adapters.values()
        if adapter.apart and (adapter in unplaced or names.intersection(adapter.apart))
    ]
    yield for_adapters(apart, "no apart", "remove `apart`", "apart", ())


def _spread(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield replicas that may share a host, and fewer replicas."""
    spread = [adapter for adapter in aliases_of(fleet, cause) if adapter.spread == "host"]
    edit = "`spread: device`: two replicas may then share a host"
    yield for_adapters(spread, "spread device", edit, "spread", "device")
    yield from _replicas(fleet, cause)


def _isolation(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield adapters that let others onto their servers: the unplaced adapters, then all."""
    edit = "`isolation: shared`: others may then be on the same server"
    yield tuple(
        candidate
        for adapters in with_another(fleet, cause, "isolation", "shared")
        for candidate in for_adapters(adapters, "isolation shared", edit, "isolation", "shared")
    )


def _reserved(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    tiers = sorted({adapter.tier for adapter in aliases_of(fleet, cause)})
    for host in fleet.hosts.values():
        if host.reserved_for:
            yield (
                Candidate(
                    f"host {host.name} open to {', '.join(tiers)}",
                    f"add {', '.join(tiers)} to `reserved_for` ({', '.join(host.reserved_for)})",
                    ("hosts", host.name, "reserved_for"),
                    with_fields("hosts", host, reserved_for=(*host.reserved_for, *tiers)),
                ),
            )


def _closed(fleet: FleetSpec, _: PlacementCause) -> Iterator[Candidates]:
    for host in fleet.hosts.values():
        for kind, key, prefix in (
            ("devices", "devices", f"{host.name}/"),
            ("attached", "servers", "server "),
        ):
            for member in getattr(host, kind):
                if member.state != "active":
                    yield (
                        Candidate(
                            f"{prefix}{member.name} active again",
                            f"`state: active` (now {member.state})",
                            ("hosts", host.name, key, member.name, "state"),
                            with_member(host, kind, member, state="active"),
                        ),
                    )


def _slots(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield more slots, cached residency, fewer replicas, shared devices."""
    base = fleet.bases[cause.base]
    if (now := base.slots) is not None:
        more = (now + 1, 2 * now, 4 * now, 8 * now)
        yield tuple(base_flag(base, "max_loras", slots, now) for slots in more)
    for host in fleet.hosts.values():
        for server in host.attached:
            if server.base == base.name:
                yield tuple(
                    Candidate(
                        f"max_loras {slots} on server {server.name}",
                        f"its owner restarts `{server.name}` with `--max-loras {slots}`, and you "
                        "declare it",
                        ("hosts", host.name, "servers", server.name, "max_loras"),
                        with_member(host, "attached", server, max_loras=slots),
                    )
                    for slots in (server.max_loras + 1, 2 * server.max_loras, 4 * server.max_loras)
                )
    yield _cached(fleet, cause)
    yield from _replicas(fleet, cause)
    yield from _shared(fleet)


def _cached(fleet: FleetSpec, cause: PlacementCause) -> Candidates:
    """Let the adapters of a base wait in host memory: the unplaced adapters, then all."""
    unplaced, every = with_another(fleet, cause, "residency", "cached")
    return tuple(
        Candidate(
            f"residency cached for {which}",
            "`residency: cached`: it may wait a moment for a slot",
            path_of(adapters[0]),
            with_adapters(adapters, residency="cached"),
        )
        for which, adapters in ((listed(unplaced), unplaced), (f"all on {cause.base}", every))
        if adapters
    )


def _replicas(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
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
    )


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


def _rank(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield a larger rank of the servers, and a smaller rank of the adapters."""
    base, limit = fleet.bases[cause.base], int(cause.have)
    wider = rank_bucket(int(cause.need))
    if base.max_lora_rank is not None and wider is not None and wider > base.max_lora_rank:
        yield (base_flag(base, "max_lora_rank", wider, base.max_lora_rank),)
    high = [
        adapter
        for adapter in aliases_of(fleet, cause)
        if (facts := fleet.versions.get(str(adapter.name))) and facts.rank > limit
    ]
    if limit > 0 and high:
        yield (
            Candidate(
                f"rank {limit} for {listed(high)}",
                f"train it again with rank {limit} at most",
                path_of(high[0]),
                what_if=tuple(f"adapter {adapter.alias} rank {limit}" for adapter in high),
            ),
        )


def _throughput(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
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
        if now + points <= MOST_UTILIZATION
    )
    yield from _batches(fleet, cause)
    yield from _shared(fleet)


def _batches(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    for adapter in fleet.adapters.values():
        demand = adapter.demand
        if adapter.name.base != cause.base or demand is None or demand.batch is None:
            continue
        first, last = demand.batch
        length = (last - first) % 24 or 24
        starts = sorted(set(range(0, 24, max(length, 2))) - {first})
        yield tuple(
            Candidate(
                f"batch window of {adapter.alias} at {start:02}-{end:02}",
                f'`batch: "{start:02}-{end:02}"` (now {first:02}-{last:02}, {demand.timezone})',
                (*path_of(adapter), "demand", "batch"),
                with_adapters([adapter], demand=replace(demand, batch=(start, end))),
            )
            for start, end in ((start, (start + length) % 24) for start in starts)
        )


def _memory(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield shorter contexts, other numbers of devices, shared and larger devices."""
    base = fleet.bases[cause.base]
    length = base.max_model_len or (base.shape.max_position_embeddings if base.shape else 0)
    if length and base.kv_cache_bytes is None:
        yield tuple(
            Candidate(
                f"max_model_len {shorter} on base {base.name}",
                f"`max_model_len: {shorter}` (now {length})",
                ("bases", base.name, "max_model_len"),
                with_fields("bases", base, max_model_len=shorter, min_kv_tokens=least),
            )
            for shorter in (length // 2, length // 4, length // 8, length // 16)
            for least in [min(base.min_kv_tokens, shorter)]
            if shorter > 0
        )
    yield from _cards(fleet, cause)
    yield from _shared(fleet)
    declared = (device for host in fleet.hosts.values() for device in host.devices)
    most = max((device.memory_bytes for device in declared), default=0)
    yield new_kinds(fleet, "memory_bytes", most, "larger")


def _cards(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield other numbers of devices for the servers of a base than declared."""
    base = fleet.bases[cause.base]
    if (now := base.tensor_parallel) is not None:
        numbers = (cards for cards in (1, 2, 4, 8) if cards != now)
        yield tuple(base_flag(base, "tensor_parallel", cards, now) for cards in numbers)


def _memory_of_hosts(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield fewer slots of servers, more memory of hosts, fewer replicas."""
    base = fleet.bases[cause.base]
    yield tuple(
        base_flag(base, "max_loras", slots, base.slots or "chosen",
                  f": a server then lists {2 * slots} adapters")
        for slots in reversed(SLOTS)
        if base.slots is None or slots < base.slots
    )  # fmt: skip
    for host in fleet.hosts.values():
        if (now := host.memory_bytes) is not None:
            lack = max(int(cause.need) - int(cause.have), 1)
            yield tuple(
                Candidate(
                    f"memory {_gib(more)} on host {host.name}",
                    f"`memory: {_gib(more)}` (now {_gib(now)}), if the host has it",
                    ("hosts", host.name, "memory"),
                    with_fields("hosts", host, memory_bytes=more),
                )
                for more in (_whole(now + lack), _whole(now + 2 * lack), _whole(now + 8 * lack))
            )
    yield from _replicas(fleet, cause)


def _whole(amount: int) -> int:
    """Round up to a whole GiB; below 1 GiB to a whole MiB."""
    unit = GIB if amount >= GIB else GIB >> 10
    return -(-amount // unit) * unit


def _gib(amount: int) -> str:
    return f"{amount // GIB}GiB" if amount % GIB == 0 else f"{-(-amount // (GIB >> 10))}MiB"


def _latency(fleet: FleetSpec, cause: PlacementCause) -> Iterator[Candidates]:
    """Yield a longer time, shorter answers, and a kind of device that is faster by data sheet."""
    late = aliases_of(fleet, cause)
    if late:
        tiers = sorted({adapter.tier for adapter in late})
        longer = (float(f"{cause.need * times:.2g}") for times in (1.05, 1.5, 3))  # two digits
        yield tuple(
            Candidate(
                f"slo {seconds:g} s for {listed(late)}",
                f"`slo: {{{late[0].latency}: {seconds:g}s}}` of tier {', '.join(tiers)} (now "
                f"{cause.have:g} s)",
                ("tiers", tiers[0], "slo"),
                with_adapters(late, slo_s=seconds),
            )
            for seconds in longer
        )
        demands = [(adapter, adapter.demand) for adapter in late if adapter.demand]
        most = max((demand.output_tokens for _, demand in demands), default=0)
        lengths = (int(part * most * cause.have / cause.need) for part in (0.9, 0.5, 0.25))
        yield tuple(
            Candidate(
                f"at most {tokens} tokens an answer of {listed(late)}",
                f"`output_tokens: {tokens}` of its demand, if answers are that short",
                (*path_of(late[0]), "demand"),
                with_changed(
                    replace(adapter, demand=replace(demand, output_tokens=tokens))
                    for adapter, demand in demands
                    if demand.output_tokens > tokens
                ),
            )
            for tokens in lengths
            if tokens
        )
    kinds = {device.kind for host in fleet.hosts.values() for device in host.devices}
    sheets = [sheet for sheet in map(sheet_of, sorted(kinds)) if sheet is not None]
    best = max((sheet.bandwidth for sheet in sheets), default=0.0)
    measured = "; whether it keeps the promise is known once it is measured"
    yield new_kinds(fleet, "bandwidth", best, "faster", measured)


_MAKERS: Mapping[Limit, Maker] = {
    Limit.PIN: _pin,
    Limit.RESERVED: _reserved,
    Limit.CORDONED: _closed,
    Limit.DRAINING: _closed,
    Limit.ISOLATION: _isolation,
    Limit.APART: _apart,
    Limit.AVOID: _avoid,
    Limit.TENSOR_PARALLEL: _cards,
    Limit.RANK: _rank,
    Limit.LATENCY: _latency,
    Limit.THROUGHPUT: _throughput,
    Limit.SLOTS: _slots,
    Limit.HOST_MEMORY: _memory_of_hosts,
    Limit.DEVICES: _memory,
    Limit.HOSTS: _spread,
    Limit.REPLICAS: _replicas,
    Limit.KV_CACHE: _memory,
    Limit.MEMORY: _memory,
}
