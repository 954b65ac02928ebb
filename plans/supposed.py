"""A plan of a supposed fleet, marked so that nobody takes it for one to carry out."""

import html
import json
from collections.abc import Sequence

from fleet.plan import Plan
from plans.document import write
from plans.public import prose
from plans.wording import counted

FORMAT = "fleetctl-what-if"
"""What the JSON form calls itself; `fleetctl apply` refuses it."""


def compared(made: Plan, without: Plan | None) -> str:
    """Say what the fleet would cost, beside what it costs without the change.

    Args:
        made: The plan of the changed fleet.
        without: The plan of the fleet as declared; None: it does not fit.
    """
    if without is None:
        return f"It would cost {_cost(made)}; without that the fleet does not fit."
    return f"It would cost {_cost(made)}; without that it costs {_cost(without)}."


def _cost(plan: Plan) -> str:
    servers = counted(len(plan.capacity), "server")
    if plan.cost_after is None:
        return f"an unknown price on {servers}"
    return f"{plan.cost_after:.2f} per hour on {servers}"


def marked(text: str, form: str, changes: Sequence[str], beside: str) -> str:
    """Return a rendered plan with a banner on top.

    Args:
        text: The plan as its renderer returned it.
        form: The renderer's name: `text`, `md`, `html` or `json`.
        changes: What was supposed, as the person wrote it.
        beside: What `compared` says.
    """
    supposed = "; ".join(" ".join(each.split()) for each in changes)
    banner = f"What if: {supposed}. Nothing here can be applied. {beside}"
    match form:
        case "json":
            more = {"format": FORMAT, "what_if": list(changes), "beside": beside}
            return write(json.loads(text) | more)
        case "md":
            body = text.replace("<!-- fleetctl:plan ", "<!-- fleetctl:what-if ", 1)
            first, _, rest = body.partition("\n")
            return (
                f"{first}\n> **What if:** {prose(supposed)}. Nothing here can be applied. "
                f"{prose(beside)}\n\n{rest}"
            )
        case "html":
            note = f'<p class="verdict care"><strong>{html.escape(banner)}</strong></p>'
            return text.replace("<main>", f"<main>\n{note}", 1)
        case _:
            before, found, steps = text.rpartition("\n\nApply: ")
            body = f"{before}\n\nIt would take {steps}" if found else text
            return f"{banner}\n\n{body}"
