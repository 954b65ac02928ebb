"""Unplaced: sums the obstacles at all places up to causes, and words the causes as errors."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fleet.capacity import HOURS
from fleet.errors import Diagnostic, Position
from fleet.names import alias_of, alias_parts, client_of, server_name
from fleet.placement.model.causes import Attempt, Limit, Obstacle, PlacementCause, TotalNeed
from fleet.placement.model.items import RATE_UNIT, Item
from fleet.placement.model.rules import CLOSED, alone_on, places_of, server_rules
from fleet.placement.model.server_types import every_server_type
from fleet.placement.model.state import PlacementState
from fleet.spec import FleetSpec


@dataclass(frozen=True, slots=True)
class ErrorText:
    """Text of an error; `unplaced` has the words in braces."""

    limits: tuple[Limit, ...]
    code: str
    summary: str
    detail: str
    hint: str


ERRORS = (
    ErrorText(
        (Limit.SLOTS,),
        "FC2001",
        "Fleet does not fit: no free LoRA slot",
        "{names} of base `{base}` {find} no server with a free slot. {sentence}",
        "{raise_slots}declare another device for `{base}`, lower replicas, or retire versions.",
    ),
    ErrorText(
        (Limit.TENSOR_PARALLEL, Limit.KV_CACHE, Limit.MEMORY),
        "FC2002",
        "Base fits on no device",
        "No server of base `{base}` can be opened for {names}. {sentence}",
        "declare a larger device or a smaller `kv_cache` or `max_model_len`; bases share a device "
        "only where each declares its `kv_cache`, or `placement.share_devices` is on.",
    ),
    ErrorText(
        (Limit.HOSTS, Limit.REPLICAS),
        "FC2003",
        "Not enough devices for the replicas",
        "{names}: {text}.",
        "declare {lack} more, or lower its replicas.",
    ),
    ErrorText(
        (Limit.PIN,),
        "FC2004",
        "Adapter does not fit where it is pinned",
        "{names} would fit elsewhere: {text}, where it does not.",
        "pin it elsewhere, remove the pin, or give that place more room.",
    ),
    ErrorText(
        (Limit.RANK,),
        "FC2005",
        "Adapter rank above the limit",
        "{names} has rank {need}: {text}. vLLM refuses an adapter above that.",
        "raise `max_lora_rank` of base `{base}`, which restarts its servers, or train a smaller "
        "adapter.",
    ),
    ErrorText(
        (Limit.THROUGHPUT,),
        "FC2006",
        "Fleet does not fit: no throughput left",
        "{names} of base `{base}` finds no server that carries its load. {sentence} At most "
        "{utilization} of a server's throughput may be asked in any hour.",
        "declare another device for `{base}`, move batch windows out of that hour, or raise "
        "`placement.utilization`.",
    ),
    ErrorText(
        (Limit.DEVICES,),
        "FC2007",
        "Fleet does not fit: no free device",
        "{names} of base `{base}`: every device that would do is in use. {sentence}",
        "declare another device.",
    ),
    ErrorText(
        (Limit.RESERVED, Limit.CORDONED, Limit.DRAINING, Limit.ISOLATION, Limit.APART, Limit.AVOID),
        "FC2008",
        "A rule leaves an adapter no place",
        "{names} would fit but for a rule ({rule}): {text}.",
        "loosen the rule, or declare a device that it does not concern.",
    ),
    ErrorText(
        (Limit.HOST_MEMORY,),
        "FC2009",
        "Fleet does not fit: no main memory left on a host",
        "{names} of base `{base}` cannot be listed. {sentence} A server keeps up to "
        "`max_cpu_loras` adapters in its host's memory, once for each device, and what an apply "
        "replaces is there until it has stopped.",
        "declare more `memory` on the host if it has it, another host, or a smaller `max_loras` on "
        "base `{base}`; or let what goes go first, with a plan of its own.",
    ),
    ErrorText(
        (Limit.LATENCY,),
        "FC2010",
        "No device keeps a promised latency",
        "{names} of base `{base}` would be late everywhere. {sentence}",
        "promise more time (`slo` of the tier), ask for fewer tokens, or declare a faster device.",
    ),
)
FEW_SLOTS = ErrorText(
    (),
    "FC2007",
    "Fleet does not fit: no free device",
    "{names} of base `{base}`: every device that would do is in use. {sentence} Base `{other}` "
    "takes {servers} devices, because with `max_loras: {slots}` a server holds only {slots} of its "
    "{versions} versions.",
    "raise `max_loras` of base `{other}`, which restarts its servers, or declare another device.",
)


_ORDER = {limit: index for index, limit in enumerate(Limit)}


def obstacles_of(state: PlacementState, item: Item) -> tuple[Obstacle, ...]:
    """Return the obstacles of a version, the obstacle to look at first in front.

    At a place with a single kind of obstacle, that limit alone is to blame: without it the version
    would have a place. Where every place has several kinds, those of the places with the fewest
    kinds are named together. Of a kind, the obstacle that lacks the least counts.
    """
    by_kinds: dict[int, list[Obstacle]] = defaultdict(list)
    for obstacles in places_of(state, item):
        by_kinds[len({obstacle.limit for obstacle in obstacles})] += obstacles
    by_kinds.pop(0, None)
    if not by_kinds:
        text = f"nothing declared can hold base `{item.base}`"
        return (Obstacle(Limit.REPLICAS, "", text, item.replicas, 0),)
    first: dict[Limit, Obstacle] = {}
    for obstacle in sorted(
        by_kinds[min(by_kinds)], key=lambda candidate: candidate.need - candidate.have
    ):
        first.setdefault(obstacle.limit, obstacle)
    return tuple(first[limit] for limit in sorted(first, key=_ORDER.__getitem__))


def causes_of(state: PlacementState, failed: Sequence[Item]) -> tuple[PlacementCause, ...]:
    """Return the causes, the cause to look at first in front; a limit once a base."""
    kept_out: dict[tuple[str, Limit], list[tuple[Item, Obstacle]]] = defaultdict(list)
    primary: set[tuple[str, Limit]] = set()
    for item in sorted(failed, key=lambda item: item.adapter):
        obstacles = obstacles_of(state, item)
        for obstacle in obstacles:
            kept_out[item.base, obstacle.limit].append((item, obstacle))
        primary.add((item.base, obstacles[0].limit))
    causes = []
    for (base, limit), pairs in kept_out.items():
        item, worst = max(pairs, key=lambda pair: pair[1].need - pair[1].have)
        need, have, text = worst.need, worst.have, worst.text
        if limit in (Limit.REPLICAS, Limit.HOSTS):
            need, have = item.replicas, _spots(state, item)
            kind = "hosts" if limit is Limit.HOSTS else "devices"
            replicas = "replica" if need == 1 else "replicas"
            text = f"it wants {need} {replicas} on distinct {kind}, and {have} may hold one"
        names = tuple(sorted({item.adapter for item, _ in pairs}))
        first = (base, limit) in primary
        causes.append(PlacementCause(limit, base, names, first, text, need, have, worst.hour))
    return tuple(
        sorted(causes, key=lambda cause: (not cause.primary, cause.base, _ORDER[cause.limit]))
    )


def _spots(state: PlacementState, item: Item) -> int:
    """Return the number of devices, or hosts if replicas share none, that may hold a version."""
    places = {
        (host.name, device.name)
        for host in state.fleet.hosts.values()
        for device in host.devices
        if device.state not in CLOSED
        and not any(server_rules(item, host, server_name(item.base, host.name, device.name)))
        and alone_on(state, item, host, device) is None
    }
    places |= {
        (draft.host, draft.name)
        for draft in state.drafts.values()
        if not draft.devices and draft.base.name == item.base
    }
    return len({host for host, _ in places} if item.spread == "host" else places)


def trials_of(state: PlacementState, items: Sequence[Item]) -> tuple[Attempt, ...]:
    """Try versions alone on an empty server of every kind of device, on the best host."""
    attempts: list[Attempt] = []
    for item in items:
        best: dict[str, Obstacle | None] = {}
        for _, host in sorted(state.fleet.hosts.items()):
            for device in host.devices:
                if best.get(device.kind, "untried") is not None:
                    obstacle = alone_on(state, item, host, device)
                    least = best.get(device.kind)
                    if least is None or obstacle is None or _lack(obstacle) < _lack(least):
                        best[device.kind] = obstacle
        attempts += (Attempt(item.adapter, kind, least) for kind, least in sorted(best.items()))
    return tuple(attempts)


def _lack(obstacle: Obstacle) -> tuple[int, float]:
    return (-_ORDER[obstacle.limit], obstacle.need - obstacle.have)


def totals_of(state: PlacementState, bases: Sequence[str]) -> tuple[TotalNeed, ...]:
    """Return, by base, the load of all versions together, beside that which its servers carry."""
    return tuple(_total(state, base) for base in bases)


def _total(state: PlacementState, base: str) -> TotalNeed:
    items = [item for item in state.items.values() if item.base == base]
    ours = [draft for draft in state.drafts.values() if draft.base.name == base and draft.residents]
    aliases = {item.alias: item for item in items}.values()
    tokens_by_hour = [
        sum(int(alias.load.tokens[hour]) * alias.replicas for alias in aliases) / RATE_UNIT
        for hour in range(HOURS)
    ]
    hour = max(range(HOURS), key=lambda hour: (tokens_by_hour[hour], -hour))
    carried = sum(state.hardware.throughput(draft, draft.slots, draft.rank).limit for draft in ours)
    labels = {kind.device.kind for kind in every_server_type(state.fleet, state.fleet.bases[base])}
    return TotalNeed(
        base=base,
        replicas=sum(item.replicas for item in items),
        placed=sum(len(state.bound[item.adapter]) for item in items),
        slots=sum(draft.slots for draft in ours),
        tokens=tokens_by_hour[hour],
        carried=carried if ours else 0.0,
        hour=hour,
        devices=len({place for draft in ours if draft.devices for place in draft.device_ids}),
        usable=sum(
            device.kind in labels and device.state == "active"
            for host in state.fleet.hosts.values()
            for device in host.devices
        ),
    )


SHOWN = 3
"""Upper bound of the versions that an error names."""


def diagnose(failed: Sequence[Item], state: PlacementState) -> Iterator[Diagnostic]:
    """Yield a diagnostic for every cause that is to be looked at first, by base."""
    for cause in causes_of(state, failed):
        if cause.primary:
            facts = _facts(cause, state.fleet)
            error = next(error for error in ERRORS if cause.limit in error.limits)
            place = first = _declared_at(state.fleet, cause)
            if cause.limit in (Limit.DEVICES, Limit.MEMORY) and (few := _few_slots(state, cause)):
                error, facts = FEW_SLOTS, facts | few
                place = state.fleet.declared_at("bases", few["other"], "max_loras") or place
            yield Diagnostic(
                error.code,
                error.summary,
                error.detail.format_map(facts),
                place=place,
                hint=f"{error.hint.format_map(facts)} What helps",
                command="fleetctl diagnose",
                also=(("no place left for", first),) if first and first != place else (),
                subjects=tuple(client_of(alias_of(name)) for name in cause.adapters),
            )


def beyond_all_places(fleet: FleetSpec) -> Iterator[Diagnostic]:
    """Yield FC2003 for every alias with more replicas than its base could ever have places.

    Places are the servers that a host's declared devices make, or hosts where replicas share none,
    and the attached servers of the base. What else lies on them counts only in a plan, which
    refuses more.
    """
    (error,) = (error for error in ERRORS if Limit.REPLICAS in error.limits)
    for alias, adapter in fleet.adapters.items():
        if adapter.replicas == 1:  # a fleet may have no host yet
            continue
        base = fleet.bases[adapter.name.base]
        servers = [
            len(host.devices) // (base.tensor_parallel or 1)
            + sum(server.base == base.name for server in host.attached)
            for host in fleet.hosts.values()
        ]
        kind = "hosts" if adapter.spread == "host" else "devices"
        have = sum(number > 0 for number in servers) if kind == "hosts" else sum(servers)
        if adapter.replicas > have:
            text = (
                f"it wants {adapter.replicas} replicas on distinct {kind}, and {have} are declared"
            )
            if base.tensor_parallel and kind == "devices":
                text = (
                    f"it wants {adapter.replicas} replicas on {base.tensor_parallel} devices each, "
                    f"and those declared are enough for {have}"
                )
            client, task = alias_parts(alias)
            yield Diagnostic(
                error.code,
                error.summary,
                error.detail.format(names=f"`{alias}`", text=text),
                place=fleet.declared_at("clients", client, "adapters", task),
                hint=error.hint.format(lack=adapter.replicas - have).capitalize(),
                subjects=(client,),
            )


def _few_slots(state: PlacementState, cause: PlacementCause) -> dict[str, str] | None:
    """Return facts of another base whose few slots make its versions take several servers."""
    for name, base in sorted(state.fleet.bases.items()):
        ours = [draft for draft in state.drafts.values() if draft.devices and draft.residents]
        ours = [draft for draft in ours if draft.base.name == name != cause.base]
        items = {item.adapter: item for draft in ours for item in draft.residents.values()}
        fewest = max((item.replicas for item in items.values()), default=0)
        if base.slots and len(items) > base.slots and len(ours) > fewest:
            counts = {"servers": len(ours), "versions": len(items), "slots": base.slots}
            return {"other": name, **{key: str(count) for key, count in counts.items()}}
    return None


def _facts(cause: PlacementCause, fleet: FleetSpec) -> dict[str, str]:
    names = ", ".join(f"`{adapter}`" for adapter in cause.adapters[:SHOWN])
    more = len(cause.adapters) - SHOWN
    slots = fleet.bases[cause.base].slots
    return {
        "names": f"{names} and {more} more" if more > 0 else names,
        "base": cause.base,
        "find": "finds" if len(cause.adapters) == 1 else "find",
        "text": cause.text,
        "sentence": f"{cause.text[:1].upper()}{cause.text[1:]}.",
        "need": f"{cause.need:.0f}",
        "lack": f"{int(cause.need - cause.have)}",
        "rule": cause.limit.value,
        "utilization": f"{fleet.policy.utilization:.0%}",
        "raise_slots": f"raise `max_loras` of base `{cause.base}` (now {slots}), " if slots else "",
    }


def _declared_at(fleet: FleetSpec, cause: PlacementCause) -> Position | None:
    client, task = alias_parts(alias_of(cause.adapters[0]))
    return fleet.declared_at("clients", client, "adapters", task)
