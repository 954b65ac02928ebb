"""Render why there is no plan, in the plan's place: a comment of a pull request is never empty."""

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from fleet.errors import Diagnostic
from plans import diagnostics
from plans.render.markdown import LIMIT
from plans.templating import rendered
from plans.visible import fenced

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
