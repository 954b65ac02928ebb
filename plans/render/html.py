"""Render a plan as an HTML file: no script, no outside asset, for phones and dark screens."""

from fleet.plan import Plan
from plans import amounts, wording
from plans.render import consent, detail_levels, prospects, sections, text
from plans.render.verdict import judge
from plans.templating import rendered


def render(plan: Plan) -> str:
    """Return the page; texts from outside are escaped."""
    return rendered(
        "plan.html.j2",
        plan=plan,
        verdict=judge(plan),
        amounts=amounts,
        levels=detail_levels,
        prospects=prospects,
        sections=sections,
        consent=consent,
        text=text,
        wording=wording,
    )
