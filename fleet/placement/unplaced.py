"""Diagnose: from what keeps each version out of each place to the causes, with numbers."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from fleet.capacity import HOURS
from fleet.placement.causes import Attempt, Limit, Obstacle, PlacementCause, TotalNeed
from fleet.placement.items import RATE_UNIT, Item
from fleet.placement.rules import alone_on, places_of
from fleet.placement.server_types import every_kind
from fleet.placement.state import PlacementState

_ORDER = {limit: index for index, limit in enumerate(Limit)}


def obstacles_of(board: PlacementState, item: Item) -> tuple[Obstacle, ...]:
    """Return what keeps a version out, the one to look at first in front.

    A place with one kind of obstacle shows a limit that is alone to blame there: without it the
    version would have a place. Where no place has less than two, those of the place with the
    fewest are named together.
    """
    places = [found for _, found in places_of(board, item) if found]
    if not places:
        text = f"nothing declared can hold base `{item.base}`"
        return (Obstacle(Limit.REPLICAS, "", text, item.replicas, 0),)
    single = [found for found in places if len({each.limit for each in found}) == 1]
    if not single and places:
        fewest = min(len({each.limit for each in found}) for found in places)
        single = [found for found in places if len({each.limit for each in found}) == fewest]
    first: dict[Limit, Obstacle] = {}
    for found in single:
        for each in found:
            known = first.get(each.limit)
            if known is None or each.need - each.have < known.need - known.have:
                first[each.limit] = each
    return tuple(first[limit] for limit in sorted(first, key=_ORDER.__getitem__))


def causes_of(board: PlacementState, failed: Sequence[Item]) -> tuple[PlacementCause, ...]:
    """Return the causes, by base, the one to look at first in front; each limit once a base."""
    found: dict[tuple[str, Limit], list[tuple[Item, Obstacle]]] = defaultdict(list)
    primary: set[tuple[str, Limit]] = set()
    for item in sorted(failed, key=lambda each: each.adapter):
        obstacles = obstacles_of(board, item)
        for each in obstacles:
            found[item.base, each.limit].append((item, each))
        if obstacles:
            primary.add((item.base, obstacles[0].limit))
    causes = [
        _cause(board, base, limit, told, primary=(base, limit) in primary)
        for (base, limit), told in found.items()
    ]
    return tuple(sorted(causes, key=lambda each: (not each.primary, each.base, _ORDER[each.limit])))


def _cause(
    board: PlacementState,
    base: str,
    limit: Limit,
    told: list[tuple[Item, Obstacle]],
    *,
    primary: bool,
) -> PlacementCause:
    """Put together what one limit does to versions of one base."""
    item, worst = max(told, key=lambda each: each[1].need - each[1].have)
    need, have, text = worst.need, worst.have, worst.text
    if limit in (Limit.REPLICAS, Limit.HOSTS):
        have = _spots(board, item)
        what = "hosts" if limit is Limit.HOSTS else "devices"
        wanted = "replica" if item.replicas == 1 else "replicas"
        text = f"it wants {item.replicas} {wanted} on distinct {what}, and {have:.0f} may hold one"
        need = item.replicas
    names = tuple(sorted({each.adapter for each, _ in told}))
    return PlacementCause(limit, base, names, primary, text, need, have, worst.hour)


def _spots(board: PlacementState, item: Item) -> int:
    """Return the devices, or hosts where replicas share none, that may hold a version."""
    places = {
        (host.name, device.name)
        for host in board.fleet.hosts.values()
        if item.admitted_by(host) and item.pin in (None, host.name)
        for device in host.devices
        if device.state == "active" and alone_on(board, item, host, device) is None
    }
    places |= {
        (bin_.host, bin_.name)
        for bin_ in board.bins.values()
        if not bin_.devices and bin_.base.name == item.base
    }
    return len({host for host, _ in places} if item.spread == "host" else places)


def trials_of(board: PlacementState, items: Sequence[Item]) -> tuple[Attempt, ...]:
    """Try each version alone on an empty server of each kind of device, the best host of each."""
    return tuple(found for item in items for found in _trials(board, item))


def _trials(board: PlacementState, item: Item) -> Iterator[Attempt]:
    best: dict[str, Obstacle | None] = {}
    for _, host in sorted(board.fleet.hosts.items()):
        for device in host.devices:
            if best.get(device.kind, "untried") is None:
                continue
            found = alone_on(board, item, host, device)
            known = best.get(device.kind)
            if known is None or found is None or _lack(found) < _lack(known):
                best[device.kind] = found
    for kind, obstacle in sorted(best.items()):
        yield Attempt(item.adapter, kind, obstacle)


def _lack(obstacle: Obstacle) -> tuple[int, float]:
    return (-_ORDER[obstacle.limit], obstacle.need - obstacle.have)


def totals_of(board: PlacementState, bases: Sequence[str]) -> tuple[TotalNeed, ...]:
    """Return what the versions of each base ask for together, and what its servers offer."""
    return tuple(_total(board, base) for base in sorted(set(bases)))


def _total(board: PlacementState, base: str) -> TotalNeed:
    items = [each for each in board.items.values() if each.base == base]
    ours = [each for each in board.bins.values() if each.base.name == base and each.residents]
    aliases = {each.alias: each for each in items}.values()
    asked = [
        sum(int(each.asks.tokens[hour]) * each.replicas for each in aliases) / RATE_UNIT
        for hour in range(HOURS)
    ]
    hour = max(range(HOURS), key=lambda each: (asked[each], -each))
    carried = sum(board.hardware.throughput(each, each.slots, each.rank).limit for each in ours)
    labels = {each.device.kind for each in every_kind(board.fleet, board.fleet.bases[base])}
    return TotalNeed(
        base=base,
        replicas=sum(each.replicas for each in items),
        placed=sum(len(board.bound[each.adapter]) for each in items),
        slots=sum(each.slots for each in ours),
        tokens=asked[hour],
        carried=carried if ours else 0.0,
        hour=hour,
        devices=len({spot for each in ours if each.devices for spot in each.spots}),
        usable=sum(
            device.kind in labels and device.state == "active"
            for host in board.fleet.hosts.values()
            for device in host.devices
        ),
    )
