"""Render the steps of a plan as a graph: Graphviz, Mermaid, JSON."""

from collections.abc import Callable, Mapping
from json import dumps
from types import MappingProxyType

from fleet.plan import Plan
from fleet.steps import Step
from plans.visible import one_line


def dot(plan: Plan) -> str:
    """Return the graph for Graphviz; a box is a lane, whose steps run in sequence."""
    names = _names(plan)
    lines = [f'digraph "{_quoted(plan.id)}" {{', "  rankdir=LR;", "  node [shape=box];"]
    for index, (lane, steps) in enumerate(_lanes(plan).items()):
        lines.append(f'  subgraph "cluster_{index}" {{')
        lines.append(f'    label="{_quoted(lane)}";')
        lines += [f'    {names[step.id]} [label="{_quoted(step.id)}"];' for step in steps]
        lines.append("  }")
    lines += [f"  {before} -> {after};" for before, after in _edges(plan, names)]
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(plan: Plan) -> str:
    """Return the graph for Mermaid, which GitHub draws in a comment."""
    names = _names(plan)
    lines = ["flowchart LR"]
    for index, (lane, steps) in enumerate(_lanes(plan).items()):
        lines.append(f'  subgraph lane{index} ["{_entities(lane)}"]')
        lines += [f'    {names[step.id]}["{_entities(step.id)}"]' for step in steps]
        lines.append("  end")
    lines += [f"  {before} --> {after}" for before, after in _edges(plan, names)]
    return "\n".join(lines) + "\n"


def as_json(plan: Plan) -> str:
    """Return nodes with lane and seconds, and edges from needed to needing step."""
    names = ("id", "address", "lane", "estimate_s", "needs")
    nodes = [{name: getattr(step, name) for name in names} for step in plan.steps]
    return dumps({"plan_id": plan.id, "steps": nodes}, indent=2, sort_keys=True) + "\n"


FORMATS: Mapping[str, Callable[[Plan], str]] = MappingProxyType(
    {"dot": dot, "json": as_json, "mermaid": mermaid}
)
"""Renderer by format name; the names are those of `fleetctl graph --format`."""


def _names(plan: Plan) -> dict[str, str]:
    return {step.id: f"s{index}" for index, step in enumerate(plan.steps, 1)}


def _lanes(plan: Plan) -> dict[str, list[Step]]:
    lanes: dict[str, list[Step]] = {}
    for step in plan.steps:
        lanes.setdefault(step.lane, []).append(step)
    return dict(sorted(lanes.items()))


def _edges(plan: Plan, names: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(names[need], names[step.id]) for step in plan.steps for need in step.needs]


def _quoted(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace('"', '\\"')


def _entities(text: str) -> str:
    escaped = one_line(text).replace("#", "#35;").replace("`", "'")
    escaped = escaped.replace("&", "#amp;").replace('"', "#quot;")
    return escaped.replace("<", "#lt;").replace(">", "#gt;")
