"""A plan as one HTML file: no script, no outside asset, readable on a phone and in the dark."""

from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from fleet.plan import Change, DeviceUse, Plan
from plans.render.detail_levels import (
    MANY,
    by_client,
    by_server,
    capacity_rows,
    impact_rows,
    untouched,
)
from plans.render.sections import busiest, heading, lines, memory, moves, unstated
from plans.render.text import evidence, limit, nothing_to_do
from plans.render.verdict import judge
from plans.wording import (
    SYMBOLS,
    about,
    capitalized,
    cost,
    counted,
    critical_path,
    differences,
    ordered,
    tally,
    verb,
)


@dataclass(frozen=True, slots=True)
class Bar:
    """How full a server's adapter slots are, in percent of its slots, for a drawn bar."""

    before: int
    during: int


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("plans", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["capitalize_first"] = capitalized
    return environment.get_template("plan.html.j2")


def render(plan: Plan) -> str:
    """Return the page; whatever comes from outside is escaped."""
    return _template().render(
        plan=plan,
        verdict=judge(plan),
        nothing=nothing_to_do(plan) if not plan.changes else "",
        tally=tally(plan.changes),
        impacts=impact_rows(plan),
        untouched=untouched(plan),
        translations=[(heading(e), lines(e)) for e in plan.translations],
        capacity=[(each, busiest(each), memory(each), _bar(each)) for each in capacity_rows(plan)],
        unstated=unstated(plan),
        moves=tuple(moves(plan)),
        evidence=evidence,
        limit=limit,
        differences=differences,
        cost=cost(plan),
        changes=[_row(each) for each in ordered(plan.changes)],
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
