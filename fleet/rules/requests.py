"""Judge plans by recorded requests: those of the last week that a plan would have refused."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fleet.names import Address, route_address
from fleet.plan import Plan
from fleet.policies import USUAL_WEIGHTS, PlanRuleFinding, RuleLevel
from fleet.resources import FULL, Resource, Route, Server, ServerFlags
from fleet.spec import FleetSpec
from fleet.traffic import USUAL_TIMEOUTS, LimitPolicy, TrafficPolicy
from fleet.usage import UsageFigures

DAYS = 7
"""Days of which requests are counted."""
_MONTH = 30
NAME = "recorded requests"
"""Name of the rule in findings; no declaration can have this name."""


def refused_requests(
    plan: Plan,
    fleet: FleetSpec,
    week: Mapping[str, UsageFigures],
    established: Mapping[Address, Resource] = MappingProxyType({}),
    *,
    is_approved: bool,
) -> tuple[PlanRuleFinding, ...]:
    """Return a finding for every alias whose requests the plan would have refused or moved at once.

    `week` has the figures of the last week by alias, `established` the routes of the last apply.
    A person approves such a plan.
    """
    found = list[tuple[str, str]]()  # text and origin
    for change in plan.changes:
        before, after = change.before, change.after
        if not isinstance(before, Route) or not (figures := week.get(before.alias)):
            continue
        if isinstance(after, Route):
            texts = (*_late(before, after, figures), *_budgets(before, after, week))
        else:
            texts = _ended(before.alias, fleet, figures)
        found += ((f"{before.alias} {text}", change.origin) for text in texts)
    found += _too_long(plan, fleet, week)
    for skipped in skipped_stages(plan, established):
        figures = week.get(skipped.alias, UsageFigures())
        if moved := round(figures.requests * (skipped.after - skipped.percent) / FULL):
            text = (
                f"{skipped.alias} goes from {skipped.percent} % to {skipped.after} % at once, as "
                f"the stage of {skipped.before} % is declared no more: {moved:,} requests of the "
                f"last {DAYS} days would have met the new version untried"
            )
            rollout = fleet.adapters[skipped.alias].rollout
            found.append((text, fleet.origin("rollouts", rollout, "weights")))
    return tuple(
        PlanRuleFinding(NAME, RuleLevel.DENY, not is_approved, text, origin, 1)
        for text, origin in found
    )


def _too_long(
    plan: Plan, fleet: FleetSpec, week: Mapping[str, UsageFigures]
) -> Iterator[tuple[str, str]]:
    """Yield a text for every alias of a base with a lower `max_model_len` than requests had."""
    lower: dict[str, int] = {}
    for change in plan.changes:
        match change.before, change.after:
            case Server(flags=ServerFlags(max_model_len=was)), Server(
                flags=ServerFlags(max_model_len=int(now)), base=base
            ) if was is None or now < was:
                lower[base] = now
    for alias, adapter in fleet.adapters.items():
        limit = lower.get(adapter.name.base)
        number = week[alias].tokens.above(limit) if limit and alias in week else 0
        if number:
            text = f"{alias} has `max_model_len: {limit}`: {_refused(number)} or cut"
            origin = fleet.origin("bases", adapter.name.base, "max_model_len")
            yield text, origin


def _refused(number: int) -> str:
    return f"{number:,} requests of the last {DAYS} days would have been refused"


def _ended(alias: str, fleet: FleetSpec, figures: UsageFigures) -> tuple[str, ...]:
    """Tell of an alias that ends, unless another alias answers to its name."""
    if not figures.requests or any(its.alias_for == alias for its in fleet.adapters.values()):
        return ()
    renamed = next((new for new, former in fleet.renames.items() if former == alias), "")
    how = f"is called {renamed}" if renamed else "ends"
    return (f"{how}: {_refused(figures.requests)}",)


def _late(before: Route, after: Route, figures: UsageFigures) -> Iterator[str]:
    """Tell of times below those that recorded answers took, or may have taken."""
    was, now = _policy(before), _policy(after)
    old, new = was.deadlines(stream=True), now.deadlines(stream=True)
    streams = figures.first_token.count
    if new.total_s < old.total_s:
        late = figures.latency.above(new.total_s)
        yield from _cut("`total`", new.total_s, late, late)
    if new.first_byte_s < old.first_byte_s:
        late = figures.first_token.above(new.first_byte_s)
        yield from _cut("`first_byte`", new.first_byte_s, late, late)
    whole_s = now.deadlines(stream=False).first_byte_s
    if whole_s < was.deadlines(stream=False).first_byte_s:
        # Of a late answer, the records do not tell whether it was a stream.
        late, others = figures.latency.above(whole_s), figures.latency.count - streams
        name = "`first_byte` without stream"
        yield from _cut(name, whole_s, max(0, late - streams), min(late, others))
    if new.idle_s < old.idle_s:
        # The longest pause of a stream is no shorter than the mean one, and no longer than all.
        least = figures.per_token.above(new.idle_s)
        yield from _cut(
            "`idle`", new.idle_s, least, min(figures.latency.above(new.idle_s), streams)
        )


def _cut(name: str, seconds: float, least: int, most: int) -> Iterator[str]:
    if most > 0:
        number = f"{most:,}" if least >= most else f"{least:,} to {most:,}"
        unknown = "" if least >= most else "; records do not tell the number exactly"
        cut = f"{number} requests of the last {DAYS} days would have been cut{unknown}"
        yield f"has a timeout {name} of {seconds:g} s: {cut}"


def _budgets(before: Route, after: Route, week: Mapping[str, UsageFigures]) -> Iterator[str]:
    """Tell of budgets of a month that end inside the month at the pace of the week."""
    was, now = _policy(before), _policy(after)
    own = [week[after.alias]]
    of_client = [its for alias, its in week.items() if alias.startswith(f"{after.client}-")]
    for holder, old, new, figures in (
        ("alias", was.limits, now.limits, own),
        ("client", was.client_limits, now.client_limits, of_client),
    ):
        part = _beyond(new, UsageFigures.sum_of(figures))
        if old != new and (refused := round(part * own[0].answered)):
            yield f"has a budget of its {holder} that ends inside the month: {_refused(refused)}"


def _beyond(limits: LimitPolicy, figures: UsageFigures) -> float:
    """Return the part of the requests of a week beyond the budget of a month."""
    if not limits.is_hard:
        return 0.0
    tokens = figures.input_tokens + figures.output_tokens
    pairs = (limits.requests_per_month, figures.answered), (limits.tokens_per_month, tokens)
    shares = [
        1 - bound * DAYS / _MONTH / used for bound, used in pairs if bound is not None and used
    ]
    return max(0.0, *shares) if shares else 0.0


@dataclass(frozen=True, slots=True)
class SkippedStage:
    """A rollout under way whose next stage is larger than by the stages of the last apply."""

    alias: str
    percent: int
    """Share of the new version now."""
    before: int
    """The next stage by the last apply."""
    after: int
    """The next stage as declared now."""


def skipped_stages(plan: Plan, established: Mapping[Address, Resource]) -> Iterator[SkippedStage]:
    """Yield the rollouts under way that skip stages, as these are declared no more."""
    for prospect in plan.prospects:
        route = established.get(route_address(prospect.alias))
        stages = next((term for term in prospect.settings if term.path == "weights"), None)
        if stages and isinstance(route, Route):
            percent = route.shares[0].percent
            before, after = _next(stages.before, percent), _next(stages.after, percent)
            if percent and before < after:
                yield SkippedStage(prospect.alias, percent, before, after)


def _next(weights: str | None, percent: int) -> int:
    """Return the next of the declared stages; None: the usual ones."""
    stages = USUAL_WEIGHTS if weights is None else json.loads(weights)
    return min((stage for stage in stages if stage > percent), default=FULL)


def _policy(route: Route) -> TrafficPolicy:
    return route.policy or TrafficPolicy(timeouts=USUAL_TIMEOUTS)
