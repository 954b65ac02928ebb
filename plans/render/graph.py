"""The steps of a plan as a graph: for people (Graphviz, Mermaid) and for programs (JSON)."""

from collections.abc import Callable, Mapping
from json import dumps
from types import MappingProxyType

from fleet.plan import Plan
from fleet.steps import Step


def dot(plan: Plan) -> str:
    """Return the graph for Graphviz; each lane, in which steps run one by one, is a box."""
    names = _names(plan)
    lines = [f'digraph "{_quoted(plan.id)}" {{', "  rankdir=LR;", "  node [shape=box];"]
    for index, (lane, steps) in enumerate(_lanes(plan).items()):
        lines.append(f'  subgraph "cluster_{index}" {{')
        lines.append(f'    label="{_quoted(lane)}";')
        lines += [f'    {names[each.id]} [label="{_quoted(each.id)}"];' for each in steps]
        lines.append("  }")
    lines += [f"  {before} -> {after};" for before, after in _edges(plan, names)]
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(plan: Plan) -> str:
    """Return the graph for Mermaid, which GitHub draws in a comment."""
    names = _names(plan)
    lines = ["flowchart LR"]
    for index, (lane, steps) in enumerate(_lanes(plan).items()):
        lines.append(f'  subgraph lane{index} ["{_entities(lane)}"]')
        lines += [f'    {names[each.id]}["{_entities(each.id)}"]' for each in steps]
        lines.append("  end")
    lines += [f"  {before} --> {after}" for before, after in _edges(plan, names)]
    return "\n".join(lines) + "\n"


def as_json(plan: Plan) -> str:
    """Return nodes with lane and seconds, and edges from needed to needing step."""
    nodes = [
        {
            "id": each.id,
            "address": each.address,
            "lane": each.lane,
            "estimate_s": each.estimate_s,
            "needs": list(each.needs),
        }
        for each in plan.steps
    ]
    return dumps({"plan_id": plan.id, "steps": nodes}, indent=2, sort_keys=True) + "\n"


FORMATS: Mapping[str, Callable[[Plan], str]] = MappingProxyType(
    {"dot": dot, "json": as_json, "mermaid": mermaid}
)
"""By format name, as `fleetctl graph --format` takes it."""


def _names(plan: Plan) -> dict[str, str]:
    return {each.id: f"s{index}" for index, each in enumerate(plan.steps, 1)}


def _lanes(plan: Plan) -> dict[str, list[Step]]:
    lanes: dict[str, list[Step]] = {}
    for each in plan.steps:
        lanes.setdefault(each.lane, []).append(each)
    return dict(sorted(lanes.items()))


def _edges(plan: Plan, names: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(names[need], names[each.id]) for each in plan.steps for need in each.needs]


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _entities(text: str) -> str:
    escaped = text.replace("&", "#amp;").replace('"', "#quot;")
    return escaped.replace("<", "#lt;").replace(">", "#gt;")
