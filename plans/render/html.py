"""Render a plan as an HTML file: no script, no outside asset, for phones and dark screens."""

from dataclasses import dataclass

from fleet.plan import Change, DeviceUse, Plan
from plans.amounts import about, counted
from plans.render.detail_levels import (
    MANY,
    by_client,
    by_server,
    capacity_rows,
    impact_rows,
    untouched,
)
from plans.render.sections import (
    busiest_hour,
    limits_heading,
    limits_lines,
    memory,
    moves,
    undeclared_demand,
)
from plans.render.text import evidence, limit, nothing_to_do
from plans.render.verdict import judge
from plans.templating import rendered
from plans.wording import SYMBOLS, cost, critical_path, differences, ordered, tally, verb


@dataclass(frozen=True, slots=True)
class Bar:
    """Taken adapter slots of a server, for a bar. Unit: percent."""

    before: int
    during: int


def render(plan: Plan) -> str:
    """Return the page; texts from outside are escaped."""
    return rendered(
        "plan.html.j2",
        plan=plan,
        verdict=judge(plan),
        nothing="" if plan.changes else nothing_to_do(plan),
        tally=tally(plan.changes),
        impacts=impact_rows(plan),
        untouched=untouched(plan),
        translations=[
            (limits_heading(limits), limits_lines(limits)) for limits in plan.translations
        ],
        capacity=[(use, busiest_hour(use), memory(use), _bar(use)) for use in capacity_rows(plan)],
        undeclared_demand=undeclared_demand(plan),
        moves=tuple(moves(plan)),
        evidence=evidence,
        limit=limit,
        differences=differences,
        cost=cost(plan),
        changes=[_row(change) for change in ordered(plan.changes)],
        many=len(plan.changes) > MANY,
        clients=by_client(plan.changes),
        servers=by_server(plan.changes),
        steps=counted(len(plan.steps), "step"),
        length=about(critical_path(plan)),
    )


def _row(change: Change) -> tuple[str, str, Change]:
    return SYMBOLS[change.action], verb(change), change


def _bar(use: DeviceUse) -> Bar:
    full = max(use.slots, 1)
    return Bar(100 * use.slots_before // full, 100 * use.slots_during // full)
