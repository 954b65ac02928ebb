"""What must hold of a plan, and of a fleet after it."""

from collections.abc import Mapping

from fleet.codec import plain
from fleet.history.values import History
from fleet.names import Address, adapter_address, alias_of, route_address
from fleet.plan import Plan
from fleet.resources import LoadedAdapter, Resource, Route
from fleet.spec import FleetSpec
from fleet.steps import Step
from fleet.vllm.lora_slots import USABLE
from tests.fleet.planning.builders import digest_of
from tests.fleet.planning.simulator import World


def check_rollouts(plan: Plan, declared: FleetSpec) -> None:
    """No rollout skips a stage, and none gives traffic to a version that is held."""
    for change in plan.changes:
        before, after = change.before, change.after
        if not isinstance(before, Route) or not isinstance(after, Route):
            continue
        target = str(declared.adapters[after.alias].name)
        weights = declared.rollouts[declared.adapters[after.alias].rollout].weights
        old = {each.adapter: each.percent for each in before.shares}
        new = {each.adapter: each.percent for each in after.shares}
        for name, percent in new.items():
            if percent > old.get(name, 0) and name == target:
                later = [each for each in weights if each > old.get(name, 0)]
                assert percent == later[0], change


def check_budget(plan: Plan) -> None:
    total: dict[tuple[str, tuple[str, ...]], int] = {}
    for use in plan.capacity:
        assert use.slots_during <= use.slots
        parts = (use.weights_bytes, use.slot_bytes, use.kv_bytes, use.reserve_bytes)
        assert all(each is not None for each in parts)
        key = (use.host, use.devices)
        total[key] = total.get(key, 0) + sum(each or 0 for each in parts)
        assert use.total_bytes is not None
        assert total[key] <= use.total_bytes * USABLE


def check_bytes(world: World, plan: Plan) -> None:
    """What is served is what the lock pins, or the plan says that it is not."""
    for there in world.resources.values():
        if isinstance(there, LoadedAdapter) and there.server not in world.silent:
            altered = f"{there.adapter} on {there.server} has other bytes than the lock pins"
            right = there.digest == digest_of(there.adapter)
            assert right or any(altered in note.text for note in plan.held)


def check_ways_back(before: Mapping[Address, Resource], past: History, world: World) -> None:
    """I3: what answered, or did within its retention, is loaded and one flip away after a plan."""
    declared = world.fleet
    assert declared is not None
    for alias, adapter in declared.adapters.items():
        was, now = (each.get(route_address(alias)) for each in (before, world.resources))
        if not isinstance(was, Route) or not isinstance(now, Route):
            continue
        retain = declared.rollouts[adapter.rollout].retain
        kept = {each.adapter for each in now.shares if each.servers}
        for share in was.shares:
            since = past.cutovers.get(share.adapter)
            if share.percent or (since is not None and world.now - since < retain):
                assert share.adapter in kept, (alias, share)


def others(plan: Plan, alias: str) -> dict[str, object]:
    """Return all that a plan does and says about whatever is not of an alias."""

    def theirs(address: str) -> bool:
        kind, _, name = address.partition("/")
        own = name if kind == "route" else alias_of(name) if kind == "adapter" else ""
        return own != alias

    return {
        "changes": [each for each in plan.changes if theirs(each.address)],
        "steps": [(each.id, plain(each.operation)) for each in plan.steps if theirs(each.address)],
        "impacts": [each for each in plan.impacts if each.alias != alias],
        "gates": [each for each in plan.gates if each.alias != alias],
        "held": [note for note in plan.held if note.subject != alias],
    }


class AnswersCheck:
    """The requests that servers answer, before a plan and after each of its steps."""

    def __init__(self, world: World, plan: Plan, declared: FleetSpec) -> None:
        self.world = world
        self.interrupted = {impact.alias for impact in plan.impacts if impact.interrupted}
        percents = {alias: self.answered(alias) for alias in declared.adapters}
        self.before = {alias: percent for alias, percent in percents.items() if percent}

    def answered(self, alias: str) -> int:
        """Return the percent of an alias's requests that a server which answers gets."""
        live = self.world.live()
        route = live.routes().get(alias)
        return sum(
            share.percent
            for share in (route.shares if route else ())
            if any(
                adapter_address(share.adapter, server) in live.resources for server in share.servers
            )
        )

    def after(self, step: Step) -> None:
        for alias in self.before.keys() - self.interrupted:
            assert self.answered(alias) >= self.before[alias], (step.id, alias)

    def at_the_end(self) -> None:
        for alias, percent in self.before.items():
            assert self.answered(alias) >= percent, alias
