"""A plan of a supposed fleet, marked so that nobody takes it for one to carry out.

Capacity in words: what fills a server, its busiest hour, and who moves.

What is lost in translation, as lines: where another gateway serves the routes.
"""

import html
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fleet.plan import DeviceUse, GatewayLimit, GatewayLimits, GatewayTarget, Plan
from plans.documents.document import write
from plans.redact import prose
from plans.wording import counted, listed, size

SOME = 3
"""Aliases that are named before the rest is counted."""


def unstated(plan: Plan) -> str:
    """Say whose load nobody knows; empty when all is declared."""
    silent = plan.without_demand
    if not silent:
        return ""
    more = f" and {len(silent) - SOME} more" if len(silent) > SOME else ""
    some = ", ".join(silent[:SOME]) + more
    verb = "declares" if len(silent) == 1 else "declare"
    return f"{some} {verb} no demand and {'is' if len(silent) == 1 else 'are'} placed as if idle"


def busiest(use: DeviceUse) -> str:
    """Return how much of a server's throughput is asked in its busiest hour."""
    if not use.load:
        return "unknown"
    top = max(use.load)
    return f"{100 * top:.0f} % at {use.load.index(top):02}:00 UTC" if top else "idle"


def moves(plan: Plan, shown: int = 10) -> Iterator[str]:
    """Yield the versions that leave a server for another, and why."""
    for forced, title in ((True, "Must move"), (False, "Moves to save")):
        found = [each for each in plan.moves if each.forced is forced]
        if found:
            yield f"{title}: {counted(len(found), 'adapter')}."
            yield from (f"  {each.adapter}: {each.why}" for each in found[:shown])
            if len(found) > shown:
                yield f"  and {len(found) - shown} more"


def memory(use: DeviceUse) -> str:
    """Return what fills a server's memory: weights, slots, KV cache, reserve, of how much."""
    parts = {
        "weights": use.weights_bytes,
        "slots": use.slot_bytes,
        "KV": use.kv_bytes,
        "reserve": use.reserve_bytes,
    }
    known = [f"{name} {size(amount)}" for name, amount in parts.items() if amount is not None]
    basis = use.memory_basis or use.basis
    if not known:
        return f"unknown ({basis})" if basis else "unknown"
    total = f" of {size(use.total_bytes)}" if use.total_bytes is not None else ""
    return " + ".join(known) + total + (f" ({basis})" if basis else "")


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


NAMES: Final[dict[GatewayTarget, str]] = {
    GatewayTarget.ENVOY: "Envoy",
    GatewayTarget.LITELLM: "LiteLLM",
}
_ALIASES: Final = 6
"""Aliases that one line names; the plan file has them all."""


def heading(made: GatewayLimits) -> str:
    """Return whose shortcomings these are."""
    whose = f"gateway {listed(made.gateways)}" if made.gateways else "which is compiled for"
    return f"Lost in translation to {NAMES[made.target]}, {whose}"


def lines(made: GatewayLimits) -> list[str]:
    """Return a short line for each thing that is lost."""
    return [_line(each) for each in made.lost]


def sentences(lost: Iterable[GatewayLimit]) -> Iterator[str]:
    """Yield what is lost with its details, for whoever compiles."""
    for each in lost:
        text = _line(each)
        yield f"{text[0].upper()}{text[1:]}.{f' {each.detail}' if each.detail else ''}"


def _line(loss: GatewayLimit) -> str:
    return f"{loss.what}: {listed(loss.aliases, _ALIASES)}" if loss.aliases else loss.what
