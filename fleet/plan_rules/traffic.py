"""Count the traffic that a plan moves; tell the versions that a plan puts to work."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fleet.capacity import hourly_rpm
from fleet.history import DAY, History
from fleet.plan import Change, Plan
from fleet.resources import FULL, LoadedAdapter, Route
from fleet.spec import FleetSpec

_UNKNOWN: Final = 1.0
"""Weight of an alias where no alias of the fleet has a demand."""


@dataclass(frozen=True, slots=True)
class MovedTraffic:
    """Percent of all requests of the fleet that are answered by another version than before."""

    by_plan: float
    before: float
    """In the 24 hours before the plan."""
    without_demand: tuple[str, ...]
    """Aliases that count as the mean of the others, sorted."""


def moved_traffic(
    plan: Plan, fleet: FleetSpec, history: History, now: datetime, without: Collection[str]
) -> MovedTraffic:
    """Return the traffic that moves, leaving out the aliases `without`.

    An alias weighs the requests of its day by recorded demand, else by declared demand. A first
    version moves nothing: no version answered before.
    """
    weights, silent = _weights(fleet)
    total = sum(weights.values())
    shifted = {impact.alias: impact.share_moved for impact in plan.impacts}
    new = {c.address for c in plan.changes if isinstance(c.after, Route) and c.before is None}
    routes = {c.address: c.after for c in plan.changes if isinstance(c.after, Route)}
    fresh = {routes[address].alias for address in new}

    def part(percents: Mapping[str, float]) -> float:
        counted = {alias: its for alias, its in percents.items() if alias not in without}
        moved = sum(min(its, FULL) * weights.get(alias, 0.0) for alias, its in counted.items())
        return moved / total if total else 0.0

    recent = {
        alias: float(sum(shift.percent for shift in shifts if now - shift.at < DAY))
        for alias, shifts in history.shifts.items()
    }
    planned = {alias: float(its) for alias, its in shifted.items() if alias not in fresh}
    return MovedTraffic(part(planned), part(recent), silent)


def _weights(fleet: FleetSpec) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the requests of a day by alias, and the aliases without demand."""
    known = {
        alias: sum(hourly_rpm(adapter.demand))
        for alias, adapter in fleet.adapters.items()
        if adapter.demand is not None
    }
    mean = sum(known.values()) / len(known) if known else _UNKNOWN
    silent = tuple(sorted(fleet.adapters.keys() - known.keys()))
    return known | dict.fromkeys(silent, mean), silent


def versions_at_work(change: Change) -> Iterator[str]:
    """Yield the versions that a change loads, or gives more requests or copies of requests."""
    match change.before, change.after:
        case _, LoadedAdapter(parts=name, adapter=adapter) if name:
            yield adapter
        case (Route() | None) as before, Route() as after:
            had = {share.adapter: share.percent for share in (before.shares if before else ())}
            yield from (
                its.adapter for its in after.shares if its.percent > had.get(its.adapter, 0)
            )
            if after.shadow and not (before and before.shadow == after.shadow):
                yield after.shadow
        case _:
            pass
