"""Judge a plan by the declared rules: traffic of a day, hours, approvals, signatures, cost."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fleet.capacity import hourly_rpm
from fleet.config import signature_fault
from fleet.consent import covering
from fleet.history import DAY, History
from fleet.names import alias_of, client_of
from fleet.plan import Change, Plan
from fleet.policies import PlanRuleFinding, PlanRuleSpec
from fleet.resources import FULL, Key, LoadedAdapter, Route
from fleet.rollouts import closed_windows_until
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


TWO = 2
"""Number of people whose approvals `two_approvals` asks for."""
_SHOWN = 3
"""Upper bound of the aliases that a finding names."""


def judge_rules(
    plan: Plan, fleet: FleetSpec, history: History, now: datetime
) -> tuple[PlanRuleFinding, ...]:
    """Return a finding for every declared rule, by name; a plan without changes breaks none.

    Args:
        plan: Any part of a plan; what it does is judged, not what is declared beside it.
        fleet: The declarations, with their rules.
        history: For approvals, and the traffic that moved in the last 24 hours.
        now: The time of the apply, with its zone.
    """
    return tuple(_Rule(rule, plan, fleet, history, now).judged() for rule in fleet.plan_rules)


class _Rule:
    """A rule at a time, and the effect of a plan beside the exceptions of the rule."""

    def __init__(
        self, rule: PlanRuleSpec, plan: Plan, fleet: FleetSpec, history: History, now: datetime
    ) -> None:
        today = now.astimezone(UTC).date()
        self.rule, self.plan, self.fleet = rule, plan, fleet
        self.history, self.now = history, now
        self.holding = [its for its in rule.exceptions if today <= its.until]
        self.ended = [its for its in rule.exceptions if today > its.until]

    def judged(self) -> PlanRuleFinding:
        """Return the finding, with the exceptions that have ended."""
        rule = self.rule
        if not self.plan.changes:
            broken, text = False, "no change"
        elif rule.max_traffic_per_day is not None:
            broken, text = self._traffic(rule.max_traffic_per_day)
        elif rule.closed:
            broken, text = self._closed()
        elif rule.two_approvals:
            broken, text = self._approvals()
        elif rule.signed:
            broken, text = self._signed()
        else:
            broken, text = self._cost(rule.max_cost_rise or 0)
        used = [f"exception `{its.name}` until {its.until}" for its in self.holding]
        used += [f"exception `{its.name}` ended on {its.until}" for its in self.ended]
        origin = self.fleet.origin("plan_rules", rule.name)
        asked = TWO if rule.two_approvals and broken else 0
        return PlanRuleFinding(
            rule.name, rule.level, broken, "; ".join((text, *used)), origin, asked
        )

    def _is_excepted(self, client: str, alias: str) -> bool:
        return any(its.covers(client, alias) for its in self.holding)

    def _traffic(self, most: int) -> tuple[bool, str]:
        aliases = {*self.fleet.adapters, *(impact.alias for impact in self.plan.impacts)}
        out = {alias for alias in aliases if self._is_excepted(client_of(alias), alias)}
        moved = moved_traffic(self.plan, self.fleet, self.history, self.now, out)
        both = moved.by_plan + moved.before
        text = (
            f"moves {moved.by_plan:.0f} % of all traffic, after {moved.before:.0f} % in the last "
            f"24 hours; at most {most} % a day"
        )
        if silent := moved.without_demand:
            more = " and more" if len(silent) > _SHOWN else ""
            text += f" ({', '.join(silent[:_SHOWN])}{more}: no demand, counted as the mean)"
        return moved.by_plan > 0 and both > most, text

    def _closed(self) -> tuple[bool, str]:
        until = closed_windows_until(self.rule.closed, self.rule.offsets, self.now)
        named = ", ".join(window.text for window in self.rule.closed)
        text = f"closed {named} ({self.rule.timezone})"
        if until is None:
            return False, f"{text}, open now"
        return self._touches_others(), f"{text}, now until {until:%a %Y-%m-%d %H:%M} UTC"

    def _approvals(self) -> tuple[bool, str]:
        tier = self.rule.two_approvals
        touched = sorted(
            impact.alias
            for impact in self.plan.impacts
            if impact.tier == tier and not self._is_excepted(impact.client, impact.alias)
        )
        if not touched:
            return False, f"nothing of tier `{tier}` changes"
        given = covering(self.plan, self.history.approvals.get(self.plan.id, ()))
        people = sorted({approval.by for approval in given})
        said = f"approved by {' and '.join(people)}" if people else "approved by nobody"
        more = " and more" if len(touched) > _SHOWN else ""
        named = ", ".join(touched[:_SHOWN]) + more
        text = f"tier `{tier}` changes ({named}): two people approve it; {said}"
        return len(people) < TWO, text

    def _signed(self) -> tuple[bool, str]:
        tier, day = self.rule.signed, self.now.astimezone(UTC).date()
        names = {name for change in self.plan.changes for name in versions_at_work(change)}
        judged = sorted(name for name in names if self._tier(name) == tier)
        if not judged:
            return False, f"no version of tier `{tier}` gets work"
        faults = [signature_fault(name, self.fleet.signing, day) for name in judged]
        wrong = [fault for fault in faults if fault]
        if not wrong:
            return False, f"tier `{tier}`: {', '.join(judged[:_SHOWN])} signed"
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        return True, f"tier `{tier}`: {'; '.join(wrong[:_SHOWN])}{more}"

    def _tier(self, version: str) -> str:
        """Return the tier of a version's alias; empty: of no declared alias, or excepted."""
        alias = alias_of(version)
        adapter = self.fleet.adapters.get(alias)
        return adapter.tier if adapter and not self._is_excepted(client_of(alias), alias) else ""

    def _cost(self, most: int) -> tuple[bool, str]:
        before, after = self.plan.cost_before, self.plan.cost_after
        if before is None or after is None:
            return self._touches_others(), "the price of the fleet is not known"
        if not before:
            return False, "no device was paid for before"
        rise = 100 * (after - before) / before
        broken = rise > most and self._touches_others()
        return broken, f"the price an hour changes by {rise:+.1f} %; at most +{most} %"

    def _touches_others(self) -> bool:
        """Say whether the plan touches more than clients with an exception."""
        owners = [owner for change in self.plan.changes for owner in _owners(change)]
        owners += [(impact.client, impact.alias) for impact in self.plan.impacts]
        return not owners or not all(self._is_excepted(*owner) for owner in owners)


def _owners(change: Change) -> Iterator[tuple[str, str]]:
    """Yield client and alias of a change; none for a server or an adapter of others."""
    for resource in change.resources:
        match resource:
            case Route(alias=alias):
                yield client_of(alias), alias
            case LoadedAdapter(parts=name, adapter=adapter) if name:
                yield name.client, alias_of(adapter)
            case Key(client=client):
                yield client, ""
            case _:
                pass
