"""Hold the input of a plan, and the results of its first stages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fleet.history import History
from fleet.placement import PlacementResult
from fleet.resources import State
from fleet.rollouts import RolloutTargets
from fleet.spec import FleetSpec


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


@dataclass(frozen=True, slots=True)
class PlanInput:
    """The arguments of `make_plan`, and the results of its first stages."""

    fleet: FleetSpec
    """The declarations, with the engines that servers run."""
    live: State
    history: History
    now: datetime
    targets: RolloutTargets
    """The versions and shares that every alias should have now."""
    placement: PlacementResult
    """The servers that hold them."""
    desired: State
    """All that should exist."""

    @property
    def step_rules(self) -> StepRules:
        """Rules for the order of steps."""
        fleet, servers = self.fleet, self.placement.servers
        smoke = {
            version: fleet.adapters[target.alias].smoke
            for target in self.targets.wanted.values()
            for version, _ in target.shares
        }
        limited = {
            name: server.host
            for name, server in servers.items()
            if server.host in fleet.hosts and fleet.hosts[server.host].memory_bytes
        }
        return StepRules(smoke, self.placement.tight, limited, fleet.renames)
