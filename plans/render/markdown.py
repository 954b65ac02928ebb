"""Render a plan as a comment of a pull request: verdict first, details folded, safe in public.

The comment stays within `LIMIT` bytes. A larger plan loses levels of detail, the finest first,
and the comment says so; nothing is cut in the middle.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from fleet.errors import Diagnostic
from fleet.plan import Change, Plan
from plans import diagnostics
from plans.render import detail_levels, prospects, sections
from plans.render.text import as_declared, evidence, is_unknown, limit
from plans.render.verdict import decision_lines, judge, rule_lines
from plans.tables import about, capitalized, counted
from plans.templating import rendered
from plans.visible import command, fenced, prose
from plans.wording import (
    SYMBOLS,
    cost,
    critical_path,
    differences,
    first_lines,
    ordered,
    tally,
    verb,
)

LIMIT = 60_000
"""Upper bound of a comment, in bytes of UTF-8: GitHub's 65,536 characters less some lines of a
bot."""

EACH, GROUPED, COUNTED, IMPACT, HEADLINE = range(5)
"""Levels of detail: changes, changes by client and server, the count of changes, no capacity, the
headline alone."""


def render(plan: Plan) -> str:
    """Return the comment, at the finest level of detail that fits into `LIMIT` bytes."""
    finest = EACH if len(plan.changes) <= detail_levels.MANY else GROUPED
    for level in range(finest, HEADLINE):
        text = _comment(plan, level)
        if len(text.encode()) <= LIMIT:
            return text
    return _comment(plan, HEADLINE)


def _comment(plan: Plan, level: int) -> str:
    head = [f"<!-- fleetctl:plan fleet={plan.fleet} v=1 -->"]
    for line in first_lines(plan):
        head += [f"> **{prose(line)}**", ""]
    if not plan.changes and not plan.settings:
        verdict = "Not known" if is_unknown(plan) else "No changes"
        blocks = [[*head, f"### {verdict} · `{plan.fleet}`", as_declared(plan)]]
    elif not plan.changes:
        blocks = [
            [*head, *_headline(plan), "", as_declared(plan)],
            [*_prospects(plan, level)],
            [*_clients(plan)],
            [*_costs(plan)],
        ]
    else:
        blocks = [
            [*head, *_headline(plan)],
            [*_prospects(plan, level)],
            [*_clients(plan)] if level < HEADLINE else [],
            [*_facts(plan)] if level < IMPACT else [],
            [*_costs(plan)] if level < HEADLINE else [],
            [*_rules(plan)],
            [*_changes(plan, level)],
        ]
    blocks += [
        [*map(prose, sections.saving(plan))],
        [*map(prose, sections.loss(plan))] if plan.changes else [],
    ]
    blocks += [[*_settings(plan, level)], [*_notes(plan, level)]]
    if plan.changes:
        steps = f"{counted(len(plan.steps), 'step')}, {about(critical_path(plan))}"
        size = " Details left out by size." if level > GROUPED else ""
        blocks += [[f"Apply: {steps}.{size}"]]
    return "\n\n".join("\n".join(block).strip("\n") for block in blocks if block) + "\n"


def _headline(plan: Plan) -> Iterator[str]:
    verdict = judge(plan)
    yield f"### {verdict.light} {verdict.level.value.capitalize()} · `{plan.fleet}` · `{plan.id}`"
    yield f"{capitalized('; '.join(prose(reason) for reason in verdict.reasons))}."
    for line in decision_lines(plan):
        said, typed, text = line.partition("fleetctl ")
        bullet = "- " if line[:1] == " " else "\n"
        yield f"{bullet}{prose(said.strip())}" + (f" {command(typed + text)}" if typed else "")
    if plan.changes:
        yield ""
        yield f"**{tally(plan.changes)}**" + (
            f" · {plan.unchanged} unchanged" if plan.unchanged else ""
        )


def _prospects(plan: Plan, level: int) -> Iterator[str]:
    lines = prospects.prospect_lines(plan)
    for title, found in (("⬆️ Upgrades", plan.upgrades), (prospects.TITLE, lines)):
        if found and level >= COUNTED:
            yield f"{title}: {len(found)}.  "
        elif found:
            yield f"**{title}**"
            yield from (f"- {prose(str(line))}" for line in found)
            yield ""


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _clients(plan: Plan) -> Iterator[str]:
    rows = detail_levels.impact_rows(plan)
    if rows:
        yield from _table(
            ("Client (tier)", "What changes", "Requests moved", "Way back"),
            (
                (
                    f"**{prose(row.who)}**" + (f" ({prose(row.tier)})" if row.tier else ""),
                    prose(row.what),
                    prose(row.share),
                    prose(row.back) + (f"<br>{command(row.command)}" if row.command else ""),
                )
                for row in rows
            ),
        )
        yield ""
    if line := detail_levels.untouched(plan):
        yield f"> {capitalized(line)}."


def _facts(plan: Plan) -> Iterator[str]:
    capacity, price = detail_levels.capacity_rows(plan), cost(plan)
    there = {"Capacity": capacity, "gates": plan.gates, "cost": price}
    names = [name for name, found in there.items() if found]
    if not names:
        return
    yield f"<details><summary>{capitalized(' · '.join(names))}</summary>"
    if capacity:
        yield ""
        yield from _table(
            ("Server", *sections.CAPACITY_TITLES),
            ((f"`{use.server}`", *map(prose, sections.capacity_cells(use))) for use in capacity),
        )
        if line := sections.undeclared_demand(plan):
            yield f"{prose(line)}."
    for line in sections.moves(plan):
        yield ""
        yield prose(line)
    if plan.gates:
        yield ""
        yield from _table(
            ("Gate", "Alias", "Limit", "Evidence"),
            (
                [prose(cell) for cell in (gate.gate, gate.alias, limit(gate), evidence(gate))]
                for gate in plan.gates
            ),
        )
        powers = [f"{gate.alias} {gate.gate}: {gate.power}" for gate in plan.gates if gate.power]
        for line in (*powers, *prospects.outlook(plan)):
            yield f"- {prose(line)}."
    if price:
        yield ""
        yield f"Cost: {prose(price)}."
    yield ""
    yield "</details>"


def _rules(plan: Plan) -> Iterator[str]:
    for place, line in enumerate(rule_lines(plan)):
        yield f"- {prose(line.strip())}" if place else f"{prose(line)}\n"


def _costs(plan: Plan) -> Iterator[str]:
    for place, line in enumerate(sections.client_costs(plan)):
        yield f"- {prose(line.strip())}" if place else f"{prose(line)}\n"


def _changes(plan: Plan, level: int) -> Iterator[str]:
    if level >= COUNTED:
        yield "Too large for a comment: `fleetctl show` and the plan file hold every change."
        return
    title = "Every change" if level == EACH else "Changes by client and server"
    yield f"<details><summary>{title} ({len(plan.changes)})</summary>"
    yield ""
    if level == EACH:
        lines = [line for change in ordered(plan.changes) for line in _change(change, plan)]
        yield from fenced(lines, "diff")
    else:
        for heading, rows in (
            ("Client", detail_levels.by_client(plan.changes)),
            ("Server", detail_levels.by_server(plan.changes)),
        ):
            if rows:
                yield from _table((heading, "Changes"), ((prose(a), prose(b)) for a, b in rows))
                yield ""
    yield ""
    yield "</details>"


def _settings(plan: Plan, level: int) -> Iterator[str]:
    heading = sections.settings_heading(plan)
    if heading and level >= COUNTED:
        yield f"{heading}. Too large for a comment: `fleetctl show` lists them."
    elif heading:
        lines = [*sections.settings_lines(plan, every=level == EACH)]
        acting = any(setting.acts for setting in plan.settings)
        yield f"<details{' open' * acting}><summary>{prose(heading)}</summary>"
        yield ""
        yield from fenced(lines, "diff", as_declared=True)
        yield ""
        yield "</details>"


def _change(change: Change, plan: Plan) -> Iterator[str]:
    # GitHub colours a line of a diff by the first character, and knows `!`, not `~`.
    symbol = SYMBOLS[change.action].replace("~", "!")
    yield f"{symbol.ljust(3)} {verb(change)} {change.address}"
    yield f"      {change.why}" + (f" [{change.origin}]" if change.origin else "")
    yield from (f"      {line}" for line in differences(change, plan))


def _notes(plan: Plan, level: int) -> Iterator[str]:
    for title, notes in (
        ("⚠️ Warnings", plan.warnings),
        ("Held back", plan.held),
        ("Not known here", plan.unknown),
    ):
        if notes and level >= COUNTED:
            yield f"{title}: {len(notes)}.  "
        elif notes:
            yield f"**{title}**"
            yield from (f"- {prose(str(note))}" for note in notes)
            yield ""
    for limits in plan.translations if level < COUNTED else ():
        title = f"{prose(sections.limits_heading(limits))}: {counted(len(limits.lost), 'thing')}"
        yield f"<details><summary>{title}</summary>"
        yield ""
        yield from (f"- {prose(line)}" for line in sections.limits_lines(limits))
        yield ""
        yield "</details>"
        yield ""


_NEXT = "Nothing is planned before this is mended."


def _json(fleet: str, problems: Sequence[Diagnostic]) -> str:
    found = json.loads(diagnostics.render_json(problems))
    head = {"format": "fleetctl-no-plan", "format_version": "1.0", "fleet": fleet or None}
    return json.dumps({**head, "diagnostics": found}, indent=2) + "\n"


def _markdown(fleet: str, problems: Sequence[Diagnostic]) -> str:
    shown = len(problems)
    while True:
        lines = diagnostics.render_text(problems[:shown]).splitlines()
        if shown < len(problems):
            lines += ["", f"… and {len(problems) - shown} more: fleetctl validate"]
        name = f" · `{fleet}`" * bool(fleet)
        head = f"<!-- fleetctl:plan fleet={fleet} v=1 -->\n### ⛔ No plan{name}\n{_NEXT}\n\n"
        text = head + "\n".join(fenced(lines, "text")) + "\n"
        if len(text.encode()) <= LIMIT or shown <= 1:
            return text
        shown //= 2


def _html(fleet: str, problems: Sequence[Diagnostic]) -> str:
    text = diagnostics.render_text(problems)
    return rendered("no_plan.html.j2", fleet=fleet, next=_NEXT, text=text)


RENDERERS: Mapping[str, Callable[[str, Sequence[Diagnostic]], str]] = MappingProxyType(
    {"html": _html, "json": _json, "md": _markdown}
)
"""Function from a fleet's name (empty: not known) and problems to a document, by the format's
name."""
