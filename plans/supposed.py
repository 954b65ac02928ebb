"""A plan of a supposed fleet, marked so that nobody takes it for one to carry out."""

import html
import json
from collections.abc import Sequence

from plans.document import write
from plans.public import prose

FORMAT = "fleetctl-what-if"
"""What the JSON form calls itself; `fleetctl apply` refuses it."""


def marked(text: str, form: str, changes: Sequence[str]) -> str:
    """Return a rendered plan with a banner on top.

    Args:
        text: The plan as its renderer returned it.
        form: The renderer's name: `text`, `md`, `html` or `json`.
        changes: What was supposed, as the person wrote it.
    """
    supposed = "; ".join(" ".join(each.split()) for each in changes)
    banner = f"What if: {supposed}. Nothing here can be applied."
    match form:
        case "json":
            document = json.loads(text) | {"format": FORMAT, "what_if": list(changes)}
            return write(document)
        case "md":
            body = text.replace("<!-- fleetctl:plan ", "<!-- fleetctl:what-if ", 1)
            first, _, rest = body.partition("\n")
            return (
                f"{first}\n> **What if:** {prose(supposed)}. Nothing here can be applied.\n\n{rest}"
            )
        case "html":
            note = f'<p class="verdict care"><strong>{html.escape(banner)}</strong></p>'
            return text.replace("<main>", f"<main>\n{note}", 1)
        case _:
            before, found, steps = text.rpartition("\n\nApply: ")
            body = f"{before}\n\nIt would take {steps}" if found else text
            return f"{banner}\n\n{body}"
