"""Capacity in words: what fills a server, its busiest hour, and who moves."""

from collections.abc import Iterator

from fleet.plan import DeviceUse, Plan
from plans.wording import counted, size

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
