"""The rules for the order of a plan's steps that the two states do not show."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.planning.desired import PlanInput


@dataclass(frozen=True, slots=True)
class StepRules:
    """Rules for the order of steps, beside the two states."""

    smoke: Mapping[str, tuple[str, ...]]
    """By full adapter name: inputs to ask after a load; missing or empty: none."""
    tight: frozenset[str] = frozenset()
    """Servers where a load must wait until versions without traffic are unloaded."""
    limited: Mapping[str, str] = field(default_factory=dict)
    """Server to host, where a load must wait until unused servers have stopped."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Alias to the former alias."""


def rules_of(plan_input: PlanInput) -> StepRules:
    """Return the rules for the order of a plan's steps."""
    fleet, placement = plan_input.fleet, plan_input.placement
    smoke = {
        version: fleet.adapters[target.alias].smoke
        for target in plan_input.targets.wanted.values()
        for version, _ in target.shares
    }
    limited = {
        name: server.host
        for name, server in placement.servers.items()
        if server.host in fleet.hosts and fleet.hosts[server.host].memory_bytes
    }
    return StepRules(smoke, placement.tight, limited, fleet.renames)
