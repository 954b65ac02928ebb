"""What an alias's route says about its traffic: declarations of adapter, client, tier and base."""

from collections.abc import Mapping
from dataclasses import replace

from fleet.declared import Adapter, Base, Fleet, LatencyClass
from fleet.traffic import UNLIMITED, USUAL_TIMEOUTS, USUAL_TURNS, Policy, Shadow

TURNS: Mapping[LatencyClass, int] = {
    "classification": 4,
    "short_generation": 2,
    "long_generation": 1,
}
"""Turns in a row by latency class: who waits for one word should not wait behind an essay."""
_BY_PRIORITY = ("scheduling-policy", "priority")


def policy_of(fleet: Fleet, alias: str, bindings: Mapping[str, tuple[str, ...]]) -> Policy | None:
    """Return the policy of a declared alias; None where all of it is as by default.

    Args:
        fleet: The declarations.
        alias: One of its aliases.
        bindings: By full adapter name: servers that hold it.
    """
    adapter = fleet.adapters[alias]
    client, tier = fleet.clients.get(adapter.name.client), fleet.tiers.get(adapter.tier)
    base = fleet.bases.get(adapter.name.base)
    limits = client.limits if client else UNLIMITED
    limited = (limits, adapter.limits) != (UNLIMITED, UNLIMITED)
    prioritized = base is not None and _prioritizes(base)
    turns = TURNS[adapter.latency] * (tier.weight if tier else 1)
    made = Policy(
        sticky=adapter.sticky,
        format=adapter.format,
        limits=adapter.limits,
        client_limits=limits,
        gateways=max(1, len(fleet.gateways)) if limited else 1,
        choices=adapter.choices,
        timeouts=tier.timeouts if tier else USUAL_TIMEOUTS,
        server_in_flight=base.max_in_flight if base else None,
        turns=turns if prioritized or turns != USUAL_TURNS else None,
        prioritized=prioritized,
        shadow=_shadow(adapter, bindings),
    )
    return None if made == Policy() else made


def _prioritizes(base: Base) -> bool:
    return _BY_PRIORITY in base.extra


def _shadow(adapter: Adapter, bindings: Mapping[str, tuple[str, ...]]) -> Shadow | None:
    wanted = adapter.shadow
    servers = bindings.get(wanted.adapter, ()) if wanted else ()
    if wanted is None or not servers:
        return None
    return replace(wanted, servers=servers)
