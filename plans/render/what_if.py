"""Mark the plan of a changed fleet, with a table of the declared and the changed fleet.

The mark keeps readers from taking a supposed plan for a plan to carry out.
"""

import html
import json
from collections.abc import Iterator, Sequence
from typing import Final

from fleet.plan import Plan
from plans.documents.document import write
from plans.tables import WIDE_GAP, aligned
from plans.visible import prose

WHAT_IF_FORMAT: Final = "fleetctl-what-if"
"""Field `format` of a supposed plan as JSON; `fleetctl apply` refuses such a file."""
_UNFIT: Final = "Nothing here can be applied."
_TITLES: Final = ("", "As declared", "What if")
_NO_PLAN: Final = "does not fit"
_SURVIVES: Final = {True: "yes", False: "no", None: "not known"}


def marked_what_if(
    text: str, form: str, changes: Sequence[str], supposed: Plan, declared: Plan | None
) -> str:
    """Return a rendered plan under the banner of a supposed change, with a table of both fleets.

    Args:
        text: The plan as its renderer returned it.
        form: The renderer's name: `text`, `md`, `html` or `json`.
        changes: The supposed changes, as the person wrote them.
        supposed: The whole plan of the changed fleet.
        declared: The plan of the declared fleet; None: that does not fit.
    """
    change = "; ".join(" ".join(change.split()) for change in changes)
    banner = f"What if: {change}. {_UNFIT}"
    rows = list(_rows(supposed, declared))
    match form:
        case "json":
            facts = {"what_if": _facts(supposed), "declared": declared and _facts(declared)}
            more = {"format": WHAT_IF_FORMAT, "what_if": list(changes), "compared": facts}
            return write(json.loads(text) | more)
        case "md":
            body = text.replace("<!-- fleetctl:plan ", "<!-- fleetctl:what-if ", 1)
            first, _, rest = body.partition("\n")
            lines = [f"| {' | '.join(map(prose, row))} |" for row in (_TITLES, *rows)]
            table = "\n".join([lines[0], f"|{'---|' * len(_TITLES)}", *lines[1:]])
            return f"{first}\n> **What if:** {prose(change)}. {_UNFIT}\n\n{table}\n\n{rest}"
        case "html":
            note = f'<p class="verdict care"><strong>{html.escape(banner)}</strong></p>'
            cells = (f"<tr>{''.join(_cells(row))}</tr>" for row in (_TITLES, *rows))
            return text.replace("<main>", f"<main>\n{note}\n<table>{''.join(cells)}</table>", 1)
        case _:
            before, found, steps = text.rpartition("\n\nApply: ")
            body = f"{before}\n\nIt would take {steps}" if found else text
            table = "\n".join(aligned([_TITLES, *rows], indent="  ", gap=WIDE_GAP))
            return f"{banner}\n{table}\n\n{body}"


def _cells(row: Sequence[str]) -> Iterator[str]:
    yield from (f"<td>{html.escape(cell)}</td>" for cell in row)


def _rows(supposed: Plan, declared: Plan | None) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table: title, declared fleet, changed fleet."""
    for title, cell in (
        ("Cost per hour", _cost),
        ("Servers", lambda plan: str(len(plan.capacity))),
        ("Versions that move", lambda plan: str(len(plan.moves))),
        ("Adapters later than promised", lambda plan: str(_late(plan)[0])),
        ("Adapters later than their class aims at", lambda plan: str(_late(plan)[1])),
        ("Survives the loss of any one device", _survives),
    ):
        yield title, _NO_PLAN if declared is None else cell(declared), cell(supposed)


def _cost(plan: Plan) -> str:
    return "not known" if plan.cost_after is None else f"{plan.cost_after:.2f}"


def _survives(plan: Plan) -> str:
    return _SURVIVES[plan.loss.kept] if plan.loss else "no other device"


def _late(plan: Plan) -> tuple[int, int]:
    """Return the number of aliases later than promised, and than their class aims at."""
    return (len(plan.late.promised), len(plan.late.aimed)) if plan.late else (0, 0)


def _facts(plan: Plan) -> dict[str, float | bool | None]:
    """Return the figures of a plan that the table has, for JSON."""
    promised, aimed = _late(plan)
    return {
        "cost_per_hour": plan.cost_after,
        "servers": len(plan.capacity),
        "moves": len(plan.moves),
        "later_than_promised": promised,
        "later_than_aimed": aimed,
        "survives_loss_of_a_device": plan.loss.kept if plan.loss else None,
    }
