"""Render a plan as an HTML file: no script, no outside asset, for phones and dark screens."""

from fleet.plan import Plan
from plans import tables, wording
from plans.render import detail_levels, prospects, sections, text, verdict
from plans.render.verdict import judge
from plans.templating import rendered


def render(plan: Plan) -> str:
    """Return the page; texts from outside are escaped."""
    return rendered(
        "plan.html.j2",
        plan=plan,
        verdict=judge(plan),
        amounts=tables,
        levels=detail_levels,
        prospects=prospects,
        sections=sections,
        consent=verdict,
        text=text,
        wording=wording,
    )
