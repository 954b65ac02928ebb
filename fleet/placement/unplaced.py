"""Unplaced: from the obstacles at all places to the causes, with numbers."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from fleet.capacity import HOURS
from fleet.placement.causes import Attempt, Limit, Obstacle, PlacementCause, TotalNeed
from fleet.placement.items import RATE_UNIT, Item
from fleet.placement.rules import alone_on, places_of
from fleet.placement.server_types import every_server_type
from fleet.placement.state import PlacementState

_ORDER = {limit: index for index, limit in enumerate(Limit)}


def obstacles_of(state: PlacementState, item: Item) -> tuple[Obstacle, ...]:
    """Return what keeps a version out, the obstacle to look at first in front.

    A place with one kind of obstacle shows a limit that is alone to blame there: without it the
    version would have a place. Where no place has less than two, those of the place with the
    fewest are named together.
    """
    places = [found for _, found in places_of(state, item) if found]
    if not places:
        text = f"nothing declared can hold base `{item.base}`"
        return (Obstacle(Limit.REPLICAS, "", text, item.replicas, 0),)
    single = [found for found in places if len({obstacle.limit for obstacle in found}) == 1]
    if not single and places:
        fewest = min(len({obstacle.limit for obstacle in found}) for found in places)
        single = [
            found for found in places if len({obstacle.limit for obstacle in found}) == fewest
        ]
    first: dict[Limit, Obstacle] = {}
    for found in single:
        for obstacle in found:
            known = first.get(obstacle.limit)
            if known is None or obstacle.need - obstacle.have < known.need - known.have:
                first[obstacle.limit] = obstacle
    return tuple(first[limit] for limit in sorted(first, key=_ORDER.__getitem__))


def causes_of(state: PlacementState, failed: Sequence[Item]) -> tuple[PlacementCause, ...]:
    """Return the causes by base, the cause to look at first in front; a limit once a base."""
    found: dict[tuple[str, Limit], list[tuple[Item, Obstacle]]] = defaultdict(list)
    primary: set[tuple[str, Limit]] = set()
    for item in sorted(failed, key=lambda item: item.adapter):
        obstacles = obstacles_of(state, item)
        for obstacle in obstacles:
            found[item.base, obstacle.limit].append((item, obstacle))
        if obstacles:
            primary.add((item.base, obstacles[0].limit))
    causes = [
        _cause(state, base, limit, told, primary=(base, limit) in primary)
        for (base, limit), told in found.items()
    ]
    return tuple(
        sorted(causes, key=lambda cause: (not cause.primary, cause.base, _ORDER[cause.limit]))
    )


def _cause(
    state: PlacementState,
    base: str,
    limit: Limit,
    told: list[tuple[Item, Obstacle]],
    *,
    primary: bool,
) -> PlacementCause:
    """Return what a limit does to versions of a base as a cause."""
    item, worst = max(told, key=lambda pair: pair[1].need - pair[1].have)
    need, have, text = worst.need, worst.have, worst.text
    if limit in (Limit.REPLICAS, Limit.HOSTS):
        have = _spots(state, item)
        what = "hosts" if limit is Limit.HOSTS else "devices"
        wanted = "replica" if item.replicas == 1 else "replicas"
        text = f"it wants {item.replicas} {wanted} on distinct {what}, and {have:.0f} may hold one"
        need = item.replicas
    names = tuple(sorted({pair.adapter for pair, _ in told}))
    return PlacementCause(limit, base, names, primary, text, need, have, worst.hour)


def _spots(state: PlacementState, item: Item) -> int:
    """Return the devices, or hosts where replicas share none, that may hold a version."""
    places = {
        (host.name, device.name)
        for host in state.fleet.hosts.values()
        if item.may_be_on(host) and item.pin in (None, host.name)
        for device in host.devices
        if device.state == "active" and alone_on(state, item, host, device) is None
    }
    places |= {
        (draft.host, draft.name)
        for draft in state.drafts.values()
        if not draft.devices and draft.base.name == item.base
    }
    return len({host for host, _ in places} if item.spread == "host" else places)


def trials_of(state: PlacementState, items: Sequence[Item]) -> tuple[Attempt, ...]:
    """Try versions alone on an empty server of every kind of device, on the best host."""
    return tuple(found for item in items for found in _trials(state, item))


def _trials(state: PlacementState, item: Item) -> Iterator[Attempt]:
    best: dict[str, Obstacle | None] = {}
    for _, host in sorted(state.fleet.hosts.items()):
        for device in host.devices:
            if best.get(device.kind, "untried") is None:
                continue
            found = alone_on(state, item, host, device)
            known = best.get(device.kind)
            if known is None or found is None or _lack(found) < _lack(known):
                best[device.kind] = found
    for kind, obstacle in sorted(best.items()):
        yield Attempt(item.adapter, kind, obstacle)


def _lack(obstacle: Obstacle) -> tuple[int, float]:
    return (-_ORDER[obstacle.limit], obstacle.need - obstacle.have)


def totals_of(state: PlacementState, bases: Sequence[str]) -> tuple[TotalNeed, ...]:
    """Return the load of all versions of a base together, and what its servers carry."""
    return tuple(_total(state, base) for base in sorted(set(bases)))


def _total(state: PlacementState, base: str) -> TotalNeed:
    items = [item for item in state.items.values() if item.base == base]
    ours = [draft for draft in state.drafts.values() if draft.base.name == base and draft.residents]
    aliases = {item.alias: item for item in items}.values()
    asked = [
        sum(int(alias.load.tokens[hour]) * alias.replicas for alias in aliases) / RATE_UNIT
        for hour in range(HOURS)
    ]
    hour = max(range(HOURS), key=lambda hour: (asked[hour], -hour))
    carried = sum(state.hardware.throughput(draft, draft.slots, draft.rank).limit for draft in ours)
    labels = {kind.device.kind for kind in every_server_type(state.fleet, state.fleet.bases[base])}
    return TotalNeed(
        base=base,
        replicas=sum(item.replicas for item in items),
        placed=sum(len(state.bound[item.adapter]) for item in items),
        slots=sum(draft.slots for draft in ours),
        tokens=asked[hour],
        carried=carried if ours else 0.0,
        hour=hour,
        devices=len({place for draft in ours if draft.devices for place in draft.device_ids}),
        usable=sum(
            device.kind in labels and device.state == "active"
            for host in state.fleet.hosts.values()
            for device in host.devices
        ),
    )
