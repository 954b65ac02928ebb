"""Render a plan for the terminal: clients first, then capacity and gates, then changes."""

from collections.abc import Iterator

from fleet.plan import Action, GateDue, Plan
from plans.render import detail_levels, prospects, sections
from plans.render.verdict import Review, ReviewLevel, decision_lines, judge, rule_lines
from plans.tables import WIDE_GAP, Paint, about, aligned, capitalized, counted, painter
from plans.wording import (
    SYMBOLS,
    UPGRADED,
    cost,
    critical_path,
    differences,
    first_lines,
    ordered,
    tally,
    verb,
)

_COLOURS = dict(zip(Action, ("32", "31", "33", "35", "36"), strict=True))
_LEVEL_COLOURS = {
    ReviewLevel.SAFE: "32",
    ReviewLevel.CARE: "33",
    ReviewLevel.DANGER: "31",
    ReviewLevel.DENIED: "31",
}


def render(plan: Plan, *, colour: bool = False, every: bool = False) -> str:
    """Return the plan as text; `every` lists all changes, beyond `MANY` too."""
    paint = painter(colour=colour)
    first_line = [*first_lines(plan)]
    if not plan.changes:
        first = [nothing_to_do(plan)]
        if plan.settings:
            first = [_headline(plan, judge(plan), paint), as_declared(plan)]
        costs = [*sections.client_costs(plan)]
        blocks = [
            first_line,
            first,
            [*_upgrades(plan)],
            [*_prospects(plan)],
            [*_clients(plan)] if plan.settings else [],
            costs,
            [*sections.saving(plan)],
            [*_settings(plan, every=every)],
            *_notes(plan),
        ]
        return "\n\n".join(map("\n".join, filter(None, blocks))) + "\n"
    blocks = [
        first_line,
        [_headline(plan, judge(plan), paint), *decision_lines(plan)],
        [*_upgrades(plan)],
        [*_prospects(plan)],
        [*_clients(plan)],
        [*_capacity(plan)],
        [*sections.moves(plan)],
        [*_gates(plan)],
        [f"Cost: {line}." for line in [cost(plan)] if line],
        [*sections.saving(plan), *sections.loss(plan)],
        [*sections.client_costs(plan)],
        [*rule_lines(plan)],
        [*_changes(plan, paint, every=every or len(plan.changes) <= detail_levels.MANY)],
        [*_settings(plan, every=every)],
        *_notes(plan),
        [f"Apply: {counted(len(plan.steps), 'step')}, {about(critical_path(plan))}."],
    ]
    return "\n\n".join(map("\n".join, filter(None, blocks))) + "\n"


def nothing_to_do(plan: Plan) -> str:
    """Return the line for a plan without changes."""
    return as_declared(plan) if is_unknown(plan) else f"No changes. {as_declared(plan)}"


def is_unknown(plan: Plan) -> bool:
    """Say whether no resource was observed: then nothing is known to be due, or not to be."""
    return bool(plan.unknown) and not plan.unchanged and not plan.changes


def as_declared(plan: Plan) -> str:
    """Return the number of resources that are as declared, as a sentence."""
    if is_unknown(plan):
        return "Nothing was observed, so changes cannot be told from what is there."
    same = counted(plan.unchanged, "resource")
    if plan.unknown or plan.held or plan.set_aside:
        return f"{same} {'is' if plan.unchanged == 1 else 'are'} as declared."
    return f"The live fleet matches its declaration ({same})."


def _headline(plan: Plan, verdict: Review, paint: Paint) -> str:
    level = paint(_LEVEL_COLOURS[verdict.level], verdict.level.value)
    return f"Plan {plan.id} for fleet {plan.fleet}: {level}\n" + "\n".join(
        f"  {reason}" for reason in verdict.reasons
    )


def _upgrades(plan: Plan) -> Iterator[str]:
    if plan.upgrades:
        yield "Upgrades:"
        yield from (f"  {UPGRADED} {note}" for note in plan.upgrades)


def _prospects(plan: Plan) -> Iterator[str]:
    if lines := prospects.prospect_lines(plan):
        yield f"{prospects.TITLE}:"
        yield from (f"  {line}" for line in lines)


def _clients(plan: Plan) -> Iterator[str]:
    rows = detail_levels.impact_rows(plan)
    if rows:
        table = [("Client", "", "What changes", "Requests moved", "Way back")]
        table += [(row.who, row.tier, row.what, row.share, row.back) for row in rows]
        yield from aligned(table, gap=WIDE_GAP)
        yield from (f"Way back: {back}" for back in detail_levels.commands(plan))
    if line := detail_levels.untouched(plan):
        yield f"{capitalized(line)}."


def _capacity(plan: Plan) -> Iterator[str]:
    uses = detail_levels.capacity_rows(plan)
    if not uses:
        return
    rows = ((use.server, *sections.capacity_cells(use)) for use in uses)
    yield from aligned([("Capacity", *sections.CAPACITY_TITLES), *rows], gap=WIDE_GAP)
    if line := detail_levels.idle_servers(plan):
        yield f"{line}."
    if line := sections.undeclared_demand(plan):
        yield f"{line}."


def limit(gate: GateDue) -> str:
    """Return metric and threshold of a gate."""
    return f"{gate.metric} {gate.threshold}"


def evidence(gate: GateDue) -> str:
    """Return the status of a gate, with the reason where the gate has a reason."""
    return f"{gate.status}: {gate.detail}" if gate.detail else gate.status


def _gates(plan: Plan) -> Iterator[str]:
    if plan.gates:
        yield from aligned(
            [
                ("Gates", "Alias", "Limit", "Evidence"),
                *((gate.gate, gate.alias, limit(gate), evidence(gate)) for gate in plan.gates),
            ],
            gap=WIDE_GAP,
        )
        yield from (f"{gate.alias} {gate.gate}: {gate.power}." for gate in plan.gates if gate.power)
        yield from (f"{line}." for line in prospects.outlook(plan))


def _changes(plan: Plan, paint: Paint, *, every: bool) -> Iterator[str]:
    yield f"Changes: {tally(plan.changes)}." + (
        f" {plan.unchanged} unchanged." if plan.unchanged else ""
    )
    if every:
        for change in ordered(plan.changes):
            symbol = paint(_COLOURS[change.action], SYMBOLS[change.action].rjust(3))
            yield f"  {symbol} {verb(change).ljust(7)} {change.address}"
            asked = f" [{change.origin}]" if change.origin else ""
            yield f"              {change.why}{asked}"
            yield from (f"              {line}" for line in differences(change, plan))
        return
    if rows := detail_levels.by_client(plan.changes):
        yield from aligned([("By client", ""), *rows], indent="  ", gap=WIDE_GAP)
    if rows := detail_levels.by_server(plan.changes):
        yield from aligned([("By server", ""), *rows], indent="  ", gap=WIDE_GAP)
    yield "  `fleetctl show PLAN --all` lists each change."


def _settings(plan: Plan, *, every: bool) -> Iterator[str]:
    if heading := sections.settings_heading(plan):
        yield f"{heading}."
        yield from (f"  {line}" for line in sections.settings_lines(plan, every=every))


def _notes(plan: Plan) -> Iterator[list[str]]:
    for title, notes in (
        ("Warnings", plan.warnings),
        ("Held back", plan.held),
        ("Not known here", plan.unknown),
    ):
        if notes:
            yield [f"{title}:", *(f"  {note}" for note in notes)]
    for limits in plan.translations:
        yield [
            f"{sections.limits_heading(limits)}:",
            *(f"  {line}" for line in sections.limits_lines(limits)),
        ]
